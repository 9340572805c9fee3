"""Old recordings and verification, for the command line: routes of the administration."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from callreel.base.errors import CallreelError, UsageError
from callreel.service.accounts import AccountService
from callreel.service.retention import Purged, RetentionService
from callreel.service.verification import Finding, Progress, Verification

log = logging.getLogger(__name__)

_SPAN = re.compile(r"([0-9]{1,6})([hdw]?)")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "": timedelta(days=1),
          "w": timedelta(weeks=1)}  # fmt: skip


def upkeep_routes(
    accounts: AccountService, retention: RetentionService, verification: Verification
) -> list[Route]:
    """``POST /recordings/purge`` and ``POST /verify``."""

    async def purge(request: Request) -> Response:
        query = request.query_params
        dry_run = query.get("dry_run") == "true"
        owner = query.get("account")
        account = None if owner is None else await accounts.named(owner)
        text = query.get("older_than")
        if text is None:
            if account is not None:
                raise UsageError("an account goes with older_than")
            gone = await retention.sweep(dry_run=dry_run)
        else:
            gone = await retention.purge(parse_span(text), account=account, dry_run=dry_run)
        told = _purged(gone, dry_run=dry_run)
        return JSONResponse(told | {"any_retention": await retention.any_set()})

    async def verify(request: Request) -> Response:
        hashes = request.query_params.get("hashes") != "false"
        return StreamingResponse(_told(verification, hashes), media_type="application/x-ndjson")

    return [
        Route("/recordings/purge", purge, methods=["POST"]),
        Route("/verify", verify, methods=["POST"]),
    ]


def parse_span(text: str) -> timedelta:
    """``30d``, ``12h``, ``2w``; a bare number is days. Raises ``UsageError``, for 0 too.

    >>> parse_span("12h"), parse_span("30")
    (datetime.timedelta(seconds=43200), datetime.timedelta(days=30))
    """
    match = _SPAN.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is no span of time, such as 30d, 12h or 2w")
    span = int(match[1]) * _UNITS[match[2]]
    if not span:
        raise UsageError(f"{text!r} would be every recording there is; give an age above zero")
    return span


def _purged(gone: Purged, *, dry_run: bool) -> dict[str, Any]:
    return {
        "recordings": gone.recordings,
        "size_bytes": gone.size_bytes,
        "left": gone.left,
        "dry_run": dry_run,
    }


async def _told(verification: Verification, hashes: bool) -> AsyncIterator[str]:
    """A JSON object a line: findings, progress, and at the end ``done`` or ``error``."""
    progress = Progress()
    try:
        async for one in verification.run(hashes=hashes):
            if isinstance(one, Progress):
                progress = one
                yield _line({"progress": _counts(one)})
            else:
                yield _line({"finding": _finding(one)})
    except CallreelError as error:
        log.error("verification failed: %s", error)
        yield _line({"error": str(error)})
        return
    yield _line({"done": _counts(progress)})


def _counts(progress: Progress) -> dict[str, Any]:
    return {
        "recordings": progress.recordings,
        "of": progress.of,
        "bytes_read": progress.bytes_read,
        "findings": sum(progress.findings.values()),
    }


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "trouble": one.trouble.value,
        "about": one.about,
        "mended": one.mended,
        "detail": one.detail,
    }


def _line(value: object) -> str:
    return json.dumps(value) + "\n"
