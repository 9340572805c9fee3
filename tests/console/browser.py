"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from callreel.demo.own_server import OwnServer

CHROMIUM = which("chromium") or which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
BUILT = Path(__file__).parents[2] / "src/callreel/console/static/vendor/htmx.js"

needs_browser = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(
        not BUILT.exists(), reason="htmx and wavesurfer.js are not there: run make console"
    ),
]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


class Watched:
    """A page that must not complain: no script may fail, nothing may be refused."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context = context
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heed)

    def _heed(self, message: Any) -> None:
        if message.type == "error" and "status of 403" not in message.text:
            self.complaints.append(message.text)


@asynccontextmanager
async def page_of(browser: Browser, **options: Any) -> AsyncIterator[Watched]:
    """A page in a context of its own."""
    context = await browser.new_context(timezone_id="Europe/Berlin", **options)
    context.set_default_timeout(20_000)
    watched = Watched(context, await context.new_page())
    try:
        yield watched
        assert watched.complaints == []
    finally:
        await context.close()


async def sign_in(page: Page, server: OwnServer, username: str, password: str) -> None:
    """As somebody at the keyboard does."""
    await page.goto(f"{server.http_url}/console/sign-in")
    await page.get_by_label("AccountSid or key").fill(username)
    await page.get_by_label("Token or secret").fill(password)
    await page.get_by_label("Token or secret").press("Enter")


async def until(page: Page, expression: str, *, seconds: float = 20) -> None:
    """Wait until it is true in the page. (Playwright's own way is one that our policy forbids.)"""
    async with asyncio.timeout(seconds):
        while not await page.evaluate(expression):
            await asyncio.sleep(0.05)
