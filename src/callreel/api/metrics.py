"""``/metrics``: the figures of the whole server, for those who may see them."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures, and who may read them."""

    gather: Callable[[], Awaitable[tuple[bytes, str]]]
    """The figures as they are now, and their media type."""
    to_loopback: bool = True
    """Whether anybody on this machine may."""
    token: str | None = field(default=None, repr=False)
    """Whoever sends it as a bearer token may, from anywhere; None: nobody else may."""


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The Prometheus text format. 403 for whoever may not read it: these figures are of all
    accounts together."""
    found: Metrics | None = request.app.state.metrics
    if found is None or not _may_read(request, found):
        return PlainTextResponse(
            "metrics are for this machine, or for whoever has metrics_token\n", status_code=403
        )
    body, media_type = await found.gather()
    return Response(body, headers={"Content-Type": media_type})


def _may_read(request: Request, found: Metrics) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if found.token is not None and scheme.lower() == "bearer":
        return hmac.compare_digest(token.strip().encode(), found.token.encode())
    if not found.to_loopback or request.client is None:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
