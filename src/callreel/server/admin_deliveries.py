"""The outbox, for the command line: routes of the administration application."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from callreel.base.errors import UsageError
from callreel.base.ids import parse_id
from callreel.calls.model import Account, DeliveryState
from callreel.calls.spelling import Kind, account_sid, spell
from callreel.service.accounts import AccountService
from callreel.service.deliveries import DeliveryService, shown_url
from callreel.service.errors import NotFound
from callreel.store.deliveries import Attempt, DeliveryFilter, OwedDelivery

MOST = 1000
"""Deliveries in one list."""


def delivery_routes(deliveries: DeliveryService, accounts: AccountService) -> list[Route]:
    """``GET /deliveries``, ``GET /deliveries/{sid}``, ``POST /deliveries/{sid}/replay`` and
    ``POST /deliveries/replay``."""

    async def named() -> Mapping[str, Account]:
        return {one.id: one for one in await accounts.every()}

    async def asked(request: Request) -> OwedDelivery:
        delivery_id = parse_id(request.path_params["sid"])
        if delivery_id is None:
            raise NotFound("no such delivery")
        return await deliveries.get(delivery_id)

    async def list_deliveries(request: Request) -> Response:
        chosen = await _chosen(request, accounts)
        page = await deliveries.page(chosen, size=_limit(request))
        owners = await named()
        return JSONResponse([_shown(one, owners) for one in page.items])

    async def show_delivery(request: Request) -> Response:
        delivery = await asked(request)
        attempts = await deliveries.attempts(delivery)
        more = {"fields": dict(delivery.fields), "tries": [_try(one) for one in attempts]}
        return JSONResponse(_shown(delivery, await named()) | more)

    async def replay_delivery(request: Request) -> Response:
        delivery = await deliveries.replay(await asked(request))
        return JSONResponse(_shown(delivery, await named()))

    async def replay_failed(request: Request) -> Response:
        chosen = await _chosen(request, accounts)
        return JSONResponse({"replayed": await deliveries.replay_failed(chosen)})

    return [
        Route("/deliveries", list_deliveries, methods=["GET"]),
        Route("/deliveries/replay", replay_failed, methods=["POST"]),
        Route("/deliveries/{sid}", show_delivery, methods=["GET"]),
        Route("/deliveries/{sid}/replay", replay_delivery, methods=["POST"]),
    ]


async def _chosen(request: Request, accounts: AccountService) -> DeliveryFilter:
    """What the query narrows a list to. Raises ``UsageError``, ``NotFound``."""
    query = request.query_params
    state = query.get("state")
    try:
        chosen_state = None if state is None else DeliveryState(state)
    except ValueError:
        states = ", ".join(one.value for one in DeliveryState)
        raise UsageError(f"{state!r} is no state of a delivery: {states}") from None
    owner = query.get("account")
    return DeliveryFilter(
        account_id=None if owner is None else (await accounts.named(owner)).id,
        state=chosen_state,
        event=query.get("event"),
        recording_id=_id(query.get("recording"), "recording"),
        call_id=_id(query.get("call"), "call"),
    )


def _id(text: str | None, what: str) -> str | None:
    if text is None:
        return None
    found = parse_id(text)
    if found is None:
        raise UsageError(f"{text!r} is not the SID of a {what}")
    return found


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", "50")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST):
        raise UsageError(f"limit must be 1 to {MOST}")
    return int(text)


def _shown(delivery: OwedDelivery, owners: Mapping[str, Account]) -> dict[str, Any]:
    """As people see it: no password, no query of the URL."""
    owner = owners.get(delivery.account_id)
    dialect = None if owner is None else owner.dialect

    def sid(kind: Kind, id_: str | None) -> str | None:
        return id_ if id_ is None or dialect is None else spell(kind, id_, dialect)

    return {
        "sid": delivery.id,
        "account_sid": delivery.account_id if owner is None else account_sid(owner),
        "event": delivery.event,
        "state": delivery.state.value,
        "url": shown_url(delivery.url),
        "method": delivery.method.value,
        "recording_sid": sid(Kind.RECORDING, delivery.recording_id),
        "call_sid": sid(Kind.CALL, delivery.call_id),
        "created_at": _time(delivery.created_at),
        "attempts": delivery.attempts,
        "next_at": _time(delivery.next_at),
        "after": delivery.after,
    }


def _try(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": _time(attempt.at),
        "outcome": attempt.outcome,
        "status": attempt.status,
        "elapsed_ms": attempt.elapsed_ms,
        "answer": attempt.answer.decode("utf-8", "replace"),
        "error": attempt.error,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
