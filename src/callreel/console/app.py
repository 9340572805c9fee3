"""The console as an ASGI application, mounted at ``/console/``."""

from __future__ import annotations

import math

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from callreel.calls.model import Account
from callreel.console.pages import overview
from callreel.service.accounts import AccountService, basic_credentials
from callreel.service.calls import CallService
from callreel.service.errors import TooManyFailures
from callreel.service.recordings import RecordingService
from callreel.store.calls import CallFilter
from callreel.store.recordings import RecordingFilter

SHOWN = 50
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; media-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_console(
    accounts: AccountService, calls: CallService, recordings: RecordingService
) -> Starlette:
    """The console over these use cases; signed in with an account's SID and token, or a key."""

    async def page(request: Request) -> Response:
        try:
            account = await _signed_in(request, accounts)
        except TooManyFailures as error:
            wait = {"Retry-After": str(math.ceil(error.retry_after_s))}
            return PlainTextResponse("Too many failed sign-ins. Wait.", 429, _HEADERS | wait)
        if account is None:
            challenge = {"WWW-Authenticate": 'Basic realm="callreel", charset="UTF-8"'}
            return HTMLResponse("Sign in with AccountSid and token.", 401, _HEADERS | challenge)
        newest_calls = await calls.page(account, CallFilter(), size=SHOWN, position=None)
        newest = await recordings.page(account, RecordingFilter(), size=SHOWN, position=None)
        return HTMLResponse(overview(account, newest_calls.items, newest.items), 200, _HEADERS)

    return Starlette(routes=[Route("/", page)])


async def _signed_in(request: Request, accounts: AccountService) -> Account | None:
    credentials = basic_credentials(request.headers.get("authorization"))
    if credentials is None:
        return None
    source = request.client.host if request.client else ""
    return await accounts.authenticate(*credentials, None, source=source)
