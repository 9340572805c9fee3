"""HTTP Basic credentials: who is asking (contract §3)."""

from __future__ import annotations

from fastapi import Request

from callreel.api.codes import Code
from callreel.api.errors import ApiError
from callreel.base.ids import parse_id
from callreel.calls.model import Account
from callreel.service.accounts import AccountService, basic_credentials

CHALLENGE = {"WWW-Authenticate": 'Basic realm="callreel", charset="UTF-8"'}


def unauthorized(hint: str = "") -> ApiError:
    """The one refusal: the same for no, wrong and foreign credentials."""
    return ApiError(
        Code.UNAUTHORIZED,
        f"Authentication Error - No or wrong credentials{hint}",
        headers=CHALLENGE,
    )


async def authenticated(request: Request, account_sid: str) -> Account:
    """The account that the credentials and the path both name."""
    return await _authenticate(request, account_sid, "")


async def media_account(request: Request, account_sid: str) -> Account:
    """For media: credentials, unless the server's ``media_auth`` is ``public``."""
    if request.app.state.media_auth == "public" and "authorization" not in request.headers:
        service: AccountService = request.app.state.accounts
        found = await service.get(parse_id(account_sid) or "")
        if found is not None:
            request.state.account = found
            return found
    hint = (
        '; recordings are private here: send the AccountSid and token, or set media_auth = "public"'
    )
    return await _authenticate(request, account_sid, hint)


async def _authenticate(request: Request, account_sid: str, hint: str) -> Account:
    credentials = basic_credentials(request.headers.get("authorization"))
    if credentials is None:
        raise unauthorized(hint)
    service: AccountService = request.app.state.accounts
    source = request.client.host if request.client else ""
    account = await service.authenticate(*credentials, account_sid, source=source)
    if account is None:
        raise unauthorized(hint)
    request.state.account = account
    return account
