"""The console in a real browser, on real calls."""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import Page, expect

from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import Answer, WebhookReceiver
from callreel.phone.recording_client import RecordingClient
from callreel.phone.voices import NAMES, voice_of
from tests.console.browser import chromium, needs_browser, page_of, sign_in, until
from tests.console.conftest import CALLEE, CALLER, FIRST, TOKEN, House
from tests.journeys.api import Api

pytestmark = needs_browser

expect.set_options(timeout=20_000)  # a machine may be slow; nothing here is about how fast it is

DECODED = """async (url) => {
    const answer = await fetch(url);
    const audio = await new OfflineAudioContext(1, 1, 8000).decodeAudioData(await answer.arrayBuffer());
    return Array.from({ length: audio.numberOfChannels }, (_, channel) =>
        audio.getChannelData(channel).reduce((most, one) => Math.max(most, Math.abs(one)), 0));
}"""  # noqa: E501


async def time_of(page: Page) -> float:
    return float(await page.evaluate("document.getElementById('audio').currentTime"))


async def until_time(page: Page, condition: str) -> None:
    await until(page, f"document.getElementById('audio').currentTime {condition}")


async def test_a_recording_is_started_stopped_and_heard_with_a_few_clicks(
    server: OwnServer, phone: RecordingClient
) -> None:
    api = Api(server)
    async with chromium() as browser, page_of(browser) as watched, WebhookReceiver() as receiver:
        page = watched.page
        await page.goto(f"{server.http_url}/console/live")
        await expect(page).to_have_url(re.compile("/console/sign-in"))
        await sign_in(page, server, FIRST, "wrong")
        await expect(page.get_by_role("alert")).to_contain_text("No account has this SID")
        await sign_in(page, server, FIRST, TOKEN)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Bring your calls here")

        # A call appears by itself; one click records it; nothing is loaded again.
        await page.get_by_role("link", name="Live", exact=True).click()
        await expect(page.get_by_text("No call is in progress")).to_be_visible()
        await page.evaluate("window.notLoadedAgain = true")
        voices = [voice_of(name) for name in NAMES]
        call = await phone.call(server.sip_uri, voices, caller=CALLER, callee=CALLEE)
        await expect(page.get_by_role("button", name="Record dual")).to_be_visible()
        await page.get_by_role("button", name="Record dual").click()
        await expect(page.get_by_role("button", name="Stop recording")).to_be_visible()
        await until(
            page, "[...document.querySelectorAll('.bar')].some((one) => one.ariaValueNow > 20)"
        )
        await expect(page.get_by_text("no loss").first).to_be_visible()
        await page.get_by_role("button", name="Pause", exact=True).click()
        await expect(page.get_by_role("button", name="Resume")).to_be_visible()
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await asyncio.sleep(6)  # so long they talk
        await page.get_by_role("button", name="Stop recording").click()
        newest = page.locator("#newest a").first
        await expect(newest).to_contain_text("ready")
        assert await page.evaluate("window.notLoadedAgain") is True

        # It is heard: time goes on, and what is decoded is no silence.
        await newest.click()
        await page.wait_for_selector("#player[data-drawn]")
        await page.get_by_role("button", name="Play", exact=True).click()
        await until_time(page, "> 0.5")
        source = await page.get_attribute("#audio", "src")
        loudest = await page.evaluate(DECODED, source)
        assert len(loudest) == 2
        assert min(loudest) > 0.05
        await page.get_by_role("button", name="Pause", exact=True).click()

        # By mouse, by key, by button.
        box = await page.locator("#wave").bounding_box()
        assert box is not None
        await page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        length = float(await page.evaluate("document.getElementById('audio').duration"))
        middle = await time_of(page)
        assert abs(middle - length / 2) < 0.5
        await page.locator("#wave").press("Home")
        assert await time_of(page) == 0
        await page.locator("#wave").press("ArrowRight")
        assert abs(await time_of(page) - 5) < 0.1
        await page.get_by_title("Back 10 seconds").click()
        assert await time_of(page) == 0

        # A passage is looped, at another speed, with one of them muted.
        await page.get_by_role("button", name="Loop").click()
        await page.get_by_label("Speed").select_option("3")
        await page.get_by_role("button", name=re.compile("^Mute Ann")).click()
        await page.get_by_role("button", name="Play", exact=True).click()
        await until_time(page, "> 3")
        await until_time(page, "< 2")
        assert await page.evaluate("document.getElementById('audio').playbackRate") == 3
        await page.get_by_role("button", name="Pause", exact=True).click()

        # It is found again.
        await page.get_by_role("link", name="Recordings", exact=True).click()
        await page.get_by_label("Search").press_sequentially("5550177")
        await expect(page.get_by_text("Nothing matches")).to_be_visible()
        await page.get_by_label("Search").fill("5550100")
        await expect(page.locator("#list tbody tr")).to_have_count(1)
        await expect(page).to_have_url(re.compile(r"q=5550100"))

        # A webhook that was given up is sent again.
        receiver.default = Answer(410)
        (live,) = await asyncio.to_thread(api.live_calls)
        started = await asyncio.to_thread(
            lambda: api.start(live["sid"], RecordingStatusCallback=receiver.url)
        )
        await asyncio.sleep(0.5)
        await asyncio.to_thread(api.stop, started)
        await receiver.wait_for("completed")
        receiver.default = Answer(204)
        await page.get_by_role("link", name="Webhooks", exact=True).click()
        await expect(page.locator("tbody .state")).to_have_text("given up")
        await page.get_by_role("button", name=re.compile("^Replay completed")).click()
        await expect(page.get_by_role("status")).to_contain_text("being sent again")
        async with asyncio.timeout(10):
            while len(receiver.received) < 2:
                await asyncio.sleep(0.05)
        await page.reload()
        await expect(page.locator("tbody .state")).to_have_text("delivered")

        # The call is ended, and so is the visit.
        await page.get_by_role("link", name="Live", exact=True).click()
        page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        await page.get_by_role("button", name="Hang up").click()
        await asyncio.wait_for(call.ended.wait(), 10)
        await expect(page.get_by_text("No call is in progress")).to_be_visible()
        await page.locator("summary", has_text="Account").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(re.compile("/console/sign-in"))
        await page.goto(f"{server.http_url}/console/recordings")
        await expect(page).to_have_url(re.compile("/console/sign-in"))
    api.http.close()


async def test_a_test_call_opens_its_recording(house: House) -> None:
    async with chromium() as browser, page_of(browser) as watched:
        page = watched.page
        await sign_in(page, house.server, FIRST, TOKEN)
        await page.get_by_role("link", name="Start", exact=True).click()
        await page.get_by_role("button", name="Make a test call").click()
        await expect(page.locator("#test-call")).to_contain_text("Recording")
        await page.wait_for_url(re.compile("/console/recordings/RE"), timeout=60_000)
        await page.wait_for_selector("#player[data-drawn]")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Ada (test call)")


async def test_a_second_account_sees_nothing_and_makes_no_test_call(house: House) -> None:
    async with chromium() as browser, page_of(browser) as watched:
        page = watched.page
        await sign_in(page, house.server, house.second, house.second_token)
        await expect(page.get_by_text("belong to its first account")).to_be_visible()
        await page.get_by_role("link", name="Recordings", exact=True).click()
        await expect(page.get_by_text("No recording yet")).to_be_visible()


async def test_without_scripts_lists_details_and_playback_work(house: House) -> None:
    async with (
        chromium() as browser,
        page_of(browser, java_script_enabled=False) as watched,
    ):
        page = watched.page
        await sign_in(page, house.server, FIRST, TOKEN)
        await expect(page.get_by_role("heading", name="Live calls")).to_be_visible()
        await page.get_by_role("link", name="Recordings", exact=True).click()
        await page.get_by_label("Search").fill("bea")
        await page.get_by_role("button", name="Apply").click()
        await page.locator("#list tbody a").last.click()
        await expect(page.get_by_role("heading", name="Is it complete?")).to_be_visible()
        player = page.locator("audio[controls]")
        await expect(player).to_be_visible()
        await player.evaluate("(audio) => audio.play()")
        await until_time(page, "> 0.2")
        await page.get_by_role("button", name="Delete…").click()
        await page.get_by_role("link", name="Keep").click()
        await page.get_by_role("button", name="Switch between light and dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", re.compile("dark|light"))


async def test_the_choice_of_colours_is_kept(house: House) -> None:
    async with chromium() as browser, page_of(browser, color_scheme="light") as watched:
        page = watched.page
        await sign_in(page, house.server, FIRST, TOKEN)
        async with page.expect_response("**/console/display"):
            await page.get_by_role("button", name="Switch between light and dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.goto(f"{house.server.http_url}/console/health")
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_every_page_can_be_reached_on_a_phone(house: House) -> None:
    narrow = {"width": 390, "height": 844}
    async with chromium() as browser, page_of(browser, viewport=narrow) as watched:
        page = watched.page
        await sign_in(page, house.server, FIRST, TOKEN)
        last = page.get_by_role("navigation", name="Pages").get_by_role("link").last
        await expect(last).to_be_in_viewport(ratio=1)
