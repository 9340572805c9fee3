"""axe-core finds nothing serious on any page, in light and dark, on a desk and on a phone."""

from __future__ import annotations

import pytest

from callreel.phone.recording_client import RecordingClient
from callreel.phone.sources import parse_source
from tests.console.browser import chromium, needs_browser, page_of, sign_in
from tests.console.conftest import CALLEE, CALLER, FIRST, TOKEN, House, here
from tests.journeys.api import Api

AXE = here("console-assets/node_modules/axe-core/axe.min.js")
pytestmark = [
    *needs_browser,
    pytest.mark.skipif(not AXE.exists(), reason="axe-core is not there: run make console"),
]

FOUND = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.map((node) => node.target).join(", ")}`)"""


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
async def test_nothing_serious(
    house: House, phone: RecordingClient, scheme: str, width: int
) -> None:
    tones = [parse_source("tone:440"), parse_source("tone:880")]
    call = await phone.call(house.server.sip_uri, tones, caller=CALLER, callee=CALLEE)
    api = Api(house.server)
    (live,) = api.wait_live()
    api.start(live["sid"], RecordingChannels="dual")
    wrong = {}
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    # Our policy lets no script in that is not ours; axe is not.
    async with chromium() as browser, page_of(browser, bypass_csp=True, **options) as watched:
        page = watched.page

        async def look(path: str, ready: str = "main") -> None:
            await page.goto(f"{house.server.http_url}/console{path}")
            await page.wait_for_selector(ready)
            await page.add_script_tag(path=AXE)
            if found := await page.evaluate(FOUND):
                wrong[path] = found

        await look("/sign-in")
        await sign_in(page, house.server, FIRST, TOKEN)
        await page.wait_for_url("**/console/live")
        await look("/live", "[data-level]:not(:empty)")
        for path in ("/recordings", "/recordings?q=nobody", "/webhooks", "/health", "/start"):
            await look(path)
        await look("/display")
        await look(f"/recordings/{house.recording['sid']}", "#player[data-drawn]")
    await phone.hang_up(call)
    api.http.close()
    assert wrong == {}
