"""Administration as a tiny ASGI application, for the command line.

It is served on a Unix socket in a private folder: who may open that may do all of this. While no
server runs, the command calls the very same application in its own process.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from callreel.base.errors import CallreelError, UsageError
from callreel.calls.model import Account, ApiKey, Call, CallStatus, Dialect
from callreel.calls.spelling import Kind, account_sid, api_path, key_sid, spell
from callreel.calls.story import StoryLine
from callreel.service.account_removal import AccountRemoval
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService
from callreel.service.errors import AccountInUse, NotFound
from callreel.store.calls import CallFilter

log = logging.getLogger(__name__)

_BACKLOG = 16
_LARGEST_BODY_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class AdminServices:
    """The use cases that the routes call."""

    accounts: AccountService
    """Accounts and keys."""
    removal: AccountRemoval
    """Deleting accounts."""
    calls: CallService
    """Calls and their stories."""
    public_url: str | None
    """Where programs reach the API; None while no server runs."""


def admin_socket(runtime: Path) -> Path:
    """Where a control process listens for the command line."""
    return runtime / "admin.sock"


def listen_admin(path: Path) -> socket.socket:
    """A listening Unix socket that only its owner may open, in the place of an earlier one."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(os.fspath(path))
    path.chmod(0o600)  # before anybody can connect
    listening.listen(_BACKLOG)
    return listening


def create_admin(services: AdminServices) -> Starlette:
    """The application over these use cases. JSON in, JSON out; ``{"error": …}`` if refused."""
    accounts, removal, calls = services.accounts, services.removal, services.calls

    def shown(account: Account) -> dict[str, Any]:
        base = services.public_url
        rotated = account.token_rotated_at
        return {
            "sid": account_sid(account),
            "name": account.name,
            "dialect": account.dialect.value,
            "signs_with": "token" if account.signs_with_token else "signing key",
            "created_at": account.created_at.isoformat(timespec="seconds"),
            "token_rotated_at": rotated and rotated.isoformat(timespec="seconds"),
            "api_url": None if base is None else base + api_path(account),
        }

    async def asked(request: Request) -> Account:
        return await accounts.named(request.path_params["sid"])

    async def list_accounts(request: Request) -> Response:
        return JSONResponse([shown(one) for one in await accounts.every()])

    async def create_account(request: Request) -> Response:
        body = await _body(request)
        dialect = _text(body, "dialect")
        try:
            chosen = None if dialect is None else Dialect(dialect)
        except ValueError:
            raise UsageError(f"{dialect!r} is not a dialect: signalwire or twilio") from None
        account = await accounts.create(
            account_sid=_text(body, "sid"), dialect=chosen, name=_text(body, "name") or ""
        )
        return JSONResponse(shown(account) | {"auth_token": account.auth_token}, 201)

    async def fetch_account(request: Request) -> Response:
        account = await asked(request)
        held = await removal.holdings(account)
        counts = {"calls": held.calls, "recordings": held.recordings}
        return JSONResponse(shown(account) | counts)

    async def delete_account(request: Request) -> Response:
        account = await asked(request)
        too = request.query_params.get("with_recordings") == "true"
        held = await removal.remove(account, with_recordings=too)
        gone = {"calls": held.calls, "recordings": held.recordings}
        return JSONResponse({"sid": account_sid(account)} | gone)

    async def rotate_token(request: Request) -> Response:
        account = await accounts.rotate_token(await asked(request))
        return JSONResponse(shown(account) | {"auth_token": account.auth_token})

    async def set_signing_key(request: Request) -> Response:
        account = await asked(request)
        apart = (await _body(request)).get("apart")
        if not isinstance(apart, bool):
            raise UsageError("apart must be true or false")
        account = await accounts.set_signing_key(account, apart=apart)
        own = {"signing_key": account.signing_key} if apart else {}
        return JSONResponse(shown(account) | own)

    async def list_keys(request: Request) -> Response:
        return JSONResponse([_key(one) for one in await accounts.keys_of(await asked(request))])

    async def create_key(request: Request) -> Response:
        account = await asked(request)
        name = _text(await _body(request), "name") or ""
        key, secret = await accounts.create_key(account, name=name)
        return JSONResponse(_key(key) | {"secret": secret}, 201)

    async def delete_key(request: Request) -> Response:
        return JSONResponse(_key(await accounts.delete_key(request.path_params["sid"])))

    async def list_calls(request: Request) -> Response:
        asked_for = request.query_params
        of = await accounts.every()
        if "account" in asked_for:
            of = [await accounts.named(asked_for["account"])]
        status = asked_for.get("status")
        try:
            chosen = CallFilter(status=None if status is None else CallStatus(status))
        except ValueError:
            every = ", ".join(one.value for one in CallStatus)
            raise UsageError(f"{status!r} is not a status: {every}") from None
        limit = asked_for.get("limit", "20")
        if not re.fullmatch(r"[1-9][0-9]{0,3}", limit):
            raise UsageError("the limit must be from 1 to 9999")
        found = await calls.recent(of, chosen, limit=int(limit))
        return JSONResponse([_call(account, call) for account, call in found])

    async def fetch_call(request: Request) -> Response:
        account, call = await calls.named(request.path_params["sid"])
        story = await calls.story(account, call.id)
        return JSONResponse(_call(account, call) | {"story": [_line(one) for one in story]})

    app = Starlette(
        routes=[
            Route("/calls", list_calls, methods=["GET"]),
            Route("/calls/{sid}", fetch_call, methods=["GET"]),
            Route("/accounts", list_accounts, methods=["GET"]),
            Route("/accounts", create_account, methods=["POST"]),
            Route("/accounts/{sid}", fetch_account, methods=["GET"]),
            Route("/accounts/{sid}", delete_account, methods=["DELETE"]),
            Route("/accounts/{sid}/token", rotate_token, methods=["POST"]),
            Route("/accounts/{sid}/signing-key", set_signing_key, methods=["POST"]),
            Route("/accounts/{sid}/keys", list_keys, methods=["GET"]),
            Route("/accounts/{sid}/keys", create_key, methods=["POST"]),
            Route("/keys/{sid}", delete_key, methods=["DELETE"]),
        ],
        exception_handlers=dict.fromkeys((CallreelError, HTTPException, SQLAlchemyError), _refuse),
    )
    app.router.redirect_slashes = False
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        text = "no such account, key or call" if error.status_code == 404 else error.detail
        return JSONResponse({"error": text}, error.status_code)
    if isinstance(error, UsageError | NotFound):
        status = 400 if isinstance(error, UsageError) else 404
        return JSONResponse({"error": str(error)}, status)
    if isinstance(error, AccountInUse):
        return JSONResponse({"error": f"the account cannot be deleted: {error}"}, 409)
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    if isinstance(error, DBAPIError):
        return JSONResponse({"error": f"the database failed: {error.orig}"}, 500)
    return JSONResponse({"error": str(error)}, 500)


async def _body(request: Request) -> dict[str, Any]:
    """The request's JSON object. Raises ``UsageError``."""
    read = b""
    async for chunk in request.stream():
        read += chunk
        if len(read) > _LARGEST_BODY_BYTES:
            raise UsageError("the request is too large")
    try:
        found = json.loads(read or b"{}")
    except ValueError:
        raise UsageError("the request is not JSON") from None
    if not isinstance(found, dict):
        raise UsageError("the request is not a JSON object")
    return found


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"{name} must be text")
    return value


def _call(account: Account, call: Call) -> dict[str, Any]:
    return {
        "sid": spell(Kind.CALL, call.id, account.dialect),
        "account_sid": account_sid(account),
        "status": call.status.value,
        "direction": call.direction.value,
        "from": call.from_,
        "to": call.to,
        "peer": call.peer,
        "created_at": call.created_at.isoformat(timespec="milliseconds"),
        "start_time": call.start_time and call.start_time.isoformat(timespec="milliseconds"),
        "end_time": call.end_time and call.end_time.isoformat(timespec="milliseconds"),
        "duration_s": call.duration_s,
        "end_reason": call.end_reason,
    }


def _line(line: StoryLine) -> dict[str, Any]:
    return {
        "at": line.at.isoformat(timespec="milliseconds"),
        "kind": line.kind.value,
        "text": line.text,
        "details": dict(line.details),
    }


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "sid": key_sid(key),
        "name": key.name,
        "created_at": key.created_at.isoformat(timespec="seconds"),
    }
