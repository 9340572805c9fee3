"""Pictures of every page for the docs: ``python -m tests.console.screenshots [FOLDER]``.

A server of its own, real calls, real recordings; nothing in them is drawn by hand.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Browser, Page

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import Answer, Webhook, WebhookReceiver
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sources import AudioSource
from callreel.phone.voices import NAMES, voice_of
from callreel.server.system import RandomIds, SystemClock
from tests.console.browser import chromium, page_of, sign_in
from tests.journeys.api import Api, Json

HERE = Path(__file__).parents[2] / "docs/console"
ACCOUNT, TOKEN = "AC" + "0a1b2c3d" * 4, "a-token-for-pictures"
PEOPLE = (
    ("+493023125018", "Ada Lovelace"),
    ("+442079460018", "Grace Hopper"),
    ("+15550142", "Front desk"),
    ("+33199001234", "Emmy Noether"),
    ("+15550177", ""),
    ("+15550164", "Katherine Johnson"),
)
PAGES = ("live", "recordings", "webhooks", "health", "start")
WIDTH, HEIGHT = 1200, 820


def _party(index: int) -> Party:
    number, name = PEOPLE[index % len(PEOPLE)]
    return Party(f"sip:{number}@pbx.example.com", name)


async def _call(phone: RecordingClient, server: OwnServer, index: int) -> ClientCall:
    """Two voices, each at another place of what they say."""
    voices: list[AudioSource] = [
        await asyncio.to_thread(voice_of, name, from_s=5.0 * index) for name in NAMES
    ]
    return await phone.call(server.sip_uri, voices, caller=_party(index), callee=_party(index + 1))


async def _scene(phone: RecordingClient, server: OwnServer, receiver: WebhookReceiver) -> None:
    """Recordings of many kinds; one of them 40 s long, paused and held; two calls live."""
    api = Api(server)

    def start(**fields: str) -> Json:
        (live,) = [one for one in api.live_calls() if one["sid"] not in known]
        known.add(live["sid"])
        return api.start(live["sid"], RecordingStatusCallback=receiver.url, **fields)

    known: set[str] = set()
    calls, started = [], []
    for index in range(5):
        calls.append(await _call(phone, server, index))
        started.append(
            await asyncio.to_thread(start, RecordingChannels="mono" if index == 1 else "dual")
        )
        await asyncio.sleep(1.5)
    # The last one is the longest: it is paused, held, and loses packets.
    long, call = started[-1], calls[-1]
    path = f"/Calls/{long['call_sid']}/Recordings/{long['sid']}.json"
    for one in started[:-1]:
        await asyncio.to_thread(api.stop, one)
    await asyncio.sleep(9)
    await asyncio.to_thread(lambda: api.post(path, Status="paused", PauseBehavior="silence"))
    await asyncio.sleep(3)
    await asyncio.to_thread(lambda: api.post(path, Status="in-progress"))
    await asyncio.sleep(6)
    for stream in call.streams:
        stream.held = True  # the network is away
    await asyncio.sleep(0.6)
    for stream in call.streams:
        stream.held = False
    await asyncio.sleep(5)
    await phone.hold(call, on=True)
    await asyncio.sleep(2.5)
    await phone.hold(call, on=False)
    await asyncio.sleep(9)
    await asyncio.to_thread(api.stop, long)
    for one in started:
        await asyncio.to_thread(api.finished, one["sid"])
    for over in calls:
        await phone.hang_up(over)
    for index in (6, 8):
        await _call(phone, server, index)
    api.http.close()


async def _shoot(browser: Browser, server: OwnServer, folder: Path, scheme: str) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": WIDTH, "height": HEIGHT}}
    async with page_of(browser, **options) as watched:
        page = watched.page

        async def keep(name: str) -> None:
            await page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)

        await page.goto(f"{server.http_url}/console/sign-in")
        await keep("sign-in")
        await sign_in(page, server, ACCOUNT, TOKEN)
        await page.wait_for_url("**/console/live")
        if scheme == "light":
            await page.get_by_role("button", name="Record dual").first.click()
        await page.get_by_text("no loss").first.wait_for()
        await _until_loud(page)
        for name in PAGES:
            if name != "live":
                await page.goto(f"{server.http_url}/console/{name}")
                await page.wait_for_load_state("load")
            await keep(name)
        await page.goto(f"{server.http_url}/console/recordings?min=20")
        await page.locator("#list tbody a").first.click()
        await page.wait_for_selector("#player[data-drawn]")
        await page.get_by_role("button", name="Play", exact=True).click()
        await asyncio.sleep(3)
        await page.get_by_role("button", name="Pause", exact=True).click()
        await keep("recording")


async def _until_loud(page: Page) -> None:
    loud = "[...document.querySelectorAll('.bar')].some((one) => one.ariaValueNow > 50)"
    while not await page.evaluate(loud):
        await asyncio.sleep(0.1)


async def shoot(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    refused = iter(range(100))

    with tempfile.TemporaryDirectory(prefix="callreel-pictures-") as scratch:
        server = OwnServer(Path(scratch), ACCOUNT, TOKEN)
        await asyncio.to_thread(server.start)
        phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
        await phone.start()
        receiver = WebhookReceiver()

        def heed(_: Webhook) -> None:
            gone = next(refused) in (1, 3)
            receiver.default = Answer(410, body=b"no such hook") if gone else Answer(204)

        receiver = WebhookReceiver(on_webhook=heed)
        try:
            async with receiver, chromium() as browser:
                await _scene(phone, server, receiver)
                for scheme in ("light", "dark"):
                    await _shoot(browser, server, folder, scheme)
        finally:
            await phone.close()
            await asyncio.to_thread(server.stop)


def main(arguments: Sequence[str]) -> int:
    """Take them; where to is the one argument."""
    asyncio.run(shoot(Path(arguments[0]) if arguments else HERE))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
