"""The console over a running server."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callreel.api.errors import ApiError, not_found
from callreel.api.media import audio_answer
from callreel.calls.model import Recording
from callreel.console.app import Console
from callreel.console.services import Addresses, Audio, ConsoleServices, Machine, TrialCalls
from callreel.server.core import Core
from callreel.service.bundle import BundleService
from callreel.service.deliveries import DeliveryService
from callreel.service.live import LiveService
from callreel.service.media import MediaFormat, MediaService
from callreel.service.sign_in import SignInService


async def mount_console(
    app: FastAPI,
    core: Core,
    *,
    machine: Machine,
    trial_calls: TrialCalls,
    addresses: Addresses,
    idle_s: float,
) -> Console:
    """Put it under ``/console``; to be closed before what serves it is. Who does nothing for
    ``idle_s`` is signed out."""
    services = ConsoleServices(
        sign_in=SignInService(core.context, core.accounts, idle_s=idle_s),
        calls=core.calls,
        recordings=core.recordings,
        live=LiveService(core.context, core.workers),
        media=core.media,
        audio=_audio_of(core.media),
        deletion=core.deletion,
        bundle=BundleService(core.recordings, core.calls, core.media),
        deliveries=DeliveryService(core.context),
        machine=machine,
        trial_calls=trial_calls,
        addresses=addresses,
        now=core.context.clock.now,
    )
    made = await asyncio.to_thread(Console, services)
    app.mount("/console", made.app)
    entrance = Route("/", _entrance, methods=["GET"], include_in_schema=False)
    app.router.routes.append(entrance)
    app.state.routes.append(entrance)  # what Allow names
    return made


async def _entrance(request: Request) -> Response:
    """Browsers that ask for the bare address are led to the console; programs get 404."""
    if "text/html" not in request.headers.get("accept", ""):
        raise not_found(request)
    return RedirectResponse("/console/", 303, headers={"Vary": "Accept"})


def _audio_of(media: MediaService) -> Audio:
    """Audio as the API answers with it."""

    async def answer(
        request: Request, recording: Recording, format_: MediaFormat, *, saved_as: str | None
    ) -> Response:
        try:
            return await audio_answer(request, media, recording, format_, saved_as=saved_as)
        except ApiError as error:
            return Response(status_code=error.status or 404, headers=error.headers)

    return answer
