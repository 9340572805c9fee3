"""``/healthz`` and the pages that ``more_info`` points to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

from callreel.api.codes import ADVICE, Code
from callreel.api.errors import not_found

router = APIRouter(include_in_schema=False)

HealthCheck = Callable[[], Awaitable[dict[str, str]]]
"""Says of each part ``ok`` or what is wrong with it."""


@router.get("/healthz")
async def healthz(request: Request) -> JSONResponse:
    """200 once SIP, API, database and media workers are up; else 503, and which is not.

    What works and should be seen to is a warning, and no 503.
    """
    check: HealthCheck = request.app.state.health
    parts = await check()
    good = all(state == "ok" or state.startswith("warning: ") for state in parts.values())
    well = all(state == "ok" for state in parts.values())
    body = {"status": "ok" if well else "degraded" if good else "unavailable", **parts}
    return JSONResponse(body, status_code=200 if good else 503)


@router.get("/errors/{code}")
async def explain(request: Request, code: str) -> HTMLResponse:
    """What an error code means here and what to do about it."""
    try:
        known = Code(int(code))
    except ValueError:
        raise not_found(request) from None
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>callreel: error {known.value}</title>"
        f"<h1>Error {known.value}</h1><p>{escape(ADVICE[known])}</p>"
    )
