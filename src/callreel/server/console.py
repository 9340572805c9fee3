"""The console over a running server."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from callreel.api.errors import ApiError
from callreel.api.media import audio_answer
from callreel.calls.model import Recording
from callreel.console.app import Console
from callreel.console.services import Audio, ConsoleServices
from callreel.service.media import MediaFormat, MediaService


async def mount_console(app: FastAPI, services: ConsoleServices) -> Console:
    """Put it under ``/console``; to be closed before what serves it is."""
    made = await asyncio.to_thread(Console, services)
    app.mount("/console", made.app)
    return made


def audio_of(media: MediaService) -> Audio:
    """Audio as the API answers with it."""

    async def answer(
        request: Request, recording: Recording, format_: MediaFormat, *, saved_as: str | None
    ) -> Response:
        try:
            return await audio_answer(request, media, recording, format_, saved_as=saved_as)
        except ApiError as error:
            return Response(status_code=error.status or 404, headers=error.headers)

    return answer
