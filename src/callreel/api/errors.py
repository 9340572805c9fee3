"""Every error as the vendors' four keys, always JSON, never a traceback (contract §11)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from callreel.api.codes import Code, http_status
from callreel.base.errors import CallreelError, MachineError
from callreel.calls.model import Account, Dialect
from callreel.service.errors import (
    Answered,
    Ended,
    NoRoom,
    NotCallable,
    NotFound,
    NotInProgress,
    NotSteered,
    TooManyFailures,
    Unavailable,
    Unfinished,
)
from callreel.store.database import DatabaseUnavailable

log = logging.getLogger(__name__)


class ApiError(CallreelError):
    """A request that is refused with a vendor's code."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        """The vendor's code."""
        self.status = status
        """HTTP status, where it is not the code's."""
        self.headers = headers or {}
        """Sent with the answer."""


def not_found(request: Request) -> ApiError:
    """The one answer for what does not exist, or is not this account's to see."""
    shown = request.scope.get("callreel.asked_path", request.url.path)
    return ApiError(Code.NOT_FOUND, f"The requested resource {shown} was not found")


def _speaks_twilio(request: Request) -> bool:
    account: Account | None = getattr(request.state, "account", None)
    return account is not None and account.dialect is Dialect.TWILIO


def _answer(request: Request, error: ApiError) -> JSONResponse:
    twilio = _speaks_twilio(request)
    status = error.status or http_status(error.code, refused=400 if twilio else 422)
    public_url: str = request.app.state.public_url
    body: dict[str, Any] = {
        "code": int(error.code),
        "message": str(error),
        "more_info": f"{public_url}/errors/{int(error.code)}",
        "status": status,
    }
    return JSONResponse(body, status_code=status, headers=error.headers)


def translate(request: Request, error: Exception) -> ApiError:
    """The API's word for what a use case or the framework raised."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, NotFound):
        return not_found(request)
    if isinstance(error, NotInProgress):
        return ApiError(
            Code.NOT_IN_PROGRESS, f"Requested resource is not eligible for recording: {error}"
        )
    if isinstance(error, NotSteered):
        return ApiError(Code.NOT_IN_PROGRESS, f"Call cannot be redirected: {error}")
    if isinstance(error, NotCallable):
        return ApiError(Code.BAD_CALLEE, f"To cannot be called: {error}")
    if isinstance(error, Ended):
        code = Code.NOT_IN_PROGRESS if _speaks_twilio(request) else Code.INVALID_ARGUMENT
        return ApiError(code, f"Call is not in-progress: {error}")
    if isinstance(error, Answered):
        return ApiError(Code.INVALID_ARGUMENT, f"Status cannot be canceled: {error}")
    if isinstance(error, Unfinished):
        return ApiError(Code.UNFINISHED, f"Cannot be deleted yet: {error}")
    if isinstance(error, TooManyFailures):
        return ApiError(
            Code.TOO_MANY_REQUESTS,
            "Too many requests with wrong credentials from this address",
            headers={"Retry-After": str(math.ceil(error.retry_after_s))},
        )
    if isinstance(error, Unavailable | MachineError):
        log.error("%s %s: %s", request.method, request.url.path, error)
        return ApiError(Code.OUR_FAULT, _cannot(error), headers={"Retry-After": "5"})
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            allowed = {"Allow": ", ".join(_methods(request))}
            return ApiError(
                Code.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here", headers=allowed
            )
        if error.status_code == 404:
            return not_found(request)
        return ApiError(Code.WRONG_FORMAT, "The request cannot be read")
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return ApiError(
        Code.OUR_FAULT, "Something went wrong here; the server's log says what", status=500
    )


def _cannot(error: Exception) -> str:
    """What it is that cannot be done now; where and why is for the log alone."""
    if isinstance(error, NoRoom):
        return (
            "The server's disk is nearly full: no new recording is begun, those that run go on. "
            "Nothing was changed"
        )
    if isinstance(error, DatabaseUnavailable):
        return "The server cannot reach its database now"
    return "The server cannot do this now"


def _methods(request: Request) -> list[str]:
    """What may be asked of this path, over all routes: the framework names the first one's only."""
    routes: Sequence[Route] = request.app.state.routes
    return sorted(
        {
            method
            for route in routes
            if route.matches(request.scope)[0] is not Match.NONE
            for method in route.methods or ()
        }
    )


def install(app: FastAPI) -> None:
    """Answer every exception of ``app`` in the envelope."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return _answer(request, translate(request, error))

    for kind in (CallreelError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)
