"""From a request to the view that its answer is shown in."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from callreel.api.auth import authenticated
from callreel.api.errors import not_found
from callreel.api.resources import View
from callreel.base.ids import parse_id
from callreel.calls.model import Account

AccountSid = Annotated[str, Path(alias="AccountSid")]


async def account(request: Request, account_sid: AccountSid) -> Account:
    """The authenticated account of a route below ``/Accounts/{AccountSid}``."""
    return await authenticated(request, account_sid)


Authenticated = Annotated[Account, Depends(account)]


def view_of(request: Request, account: Account) -> View:
    """How this request's answers are spelled."""
    prefix = request.scope.get("callreel.prefix", "")
    return View(account, prefix, request.app.state.public_url)


def id_of(request: Request, sid: str) -> str:
    """The id behind a SID in the path; a malformed one names nothing, so 404."""
    id_ = parse_id(sid)
    if id_ is None:
        raise not_found(request)
    return id_
