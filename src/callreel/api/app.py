"""The ASGI application: routes, errors, and the paths brought into one spelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import callreel
from callreel.api import (
    calls,
    conferences,
    errors,
    health,
    media,
    metrics,
    openapi,
    recordings,
    reference,
)
from callreel.api.paths import normalise
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService
from callreel.service.deletion import DeletionService
from callreel.service.media import MediaService
from callreel.service.recordings import RecordingService
from callreel.service.voice import VoiceService


@dataclass(frozen=True, slots=True)
class ApiServices:
    """The use cases that the routes call."""

    accounts: AccountService
    """Who may come in."""
    calls: CallService
    """Calls."""
    voice: VoiceService
    """Calls that documents steer."""
    recordings: RecordingService
    """Live and listed recordings."""
    media: MediaService
    """Finished audio."""
    deletion: DeletionService
    """Recordings that are to go."""
    health: health.HealthCheck
    """The state of every part."""
    metrics: metrics.Metrics | None = None
    """The figures of the whole server, if it shows any."""


class _OneSpelling:
    """ASGI middleware around :func:`normalise`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = scope["path"]
            known = normalise(asked)
            scope = {
                **scope,
                "path": known.path,
                "raw_path": known.path.encode(),
                "callreel.asked_path": asked,
                "callreel.prefix": known.prefix,
                "callreel.json": asked.endswith(".json"),
            }
        await self._app(scope, receive, send)


def create_app(
    services: ApiServices, *, public_url: str, media_auth: Literal["required", "public"]
) -> FastAPI:
    """The REST API over these services."""
    app = FastAPI(
        title="callreel",
        version=callreel.__version__,
        docs_url=None,  # FastAPI's page loads its scripts from another host
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.accounts = services.accounts
    app.state.calls = services.calls
    app.state.voice = services.voice
    app.state.recordings = services.recordings
    app.state.media = services.media
    app.state.deletion = services.deletion
    app.state.health = services.health
    app.state.metrics = services.metrics
    app.state.public_url = public_url
    app.state.media_auth = media_auth
    errors.install(app)
    routers = [
        room.router
        for room in (health, metrics, openapi, reference, calls, conferences, recordings, media)
    ]
    for router in routers:
        app.include_router(router)
    app.state.routes = [
        route for router in routers for route in router.routes if isinstance(route, Route)
    ]
    app.add_middleware(_OneSpelling)
    return app
