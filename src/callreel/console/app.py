"""The console as an ASGI application, mounted at ``/console/``."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from callreel.console.entrance import Entrance
from callreel.console.health import HealthPages
from callreel.console.live import LivePages
from callreel.console.recording import RecordingPages
from callreel.console.recordings import RecordingsPages
from callreel.console.rendering import STATIC, Pages
from callreel.console.services import ConsoleServices
from callreel.console.start import StartPages
from callreel.console.visit import Guard
from callreel.console.webhooks import WebhookPages


class _Static(StaticFiles):
    """Files that are named with a stamp of what they hold, and so may be kept for long."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer


class Console:
    """The pages over the use cases; ``app`` serves them."""

    def __init__(self, services: ConsoleServices) -> None:
        pages = Pages(services.now)
        guard = Guard(services.sign_in, pages)
        entrance = Entrance(services.sign_in, pages)
        start = StartPages(services)
        self._live = live = LivePages(services)
        listed = RecordingsPages(services)
        one = RecordingPages(services)
        webhooks = WebhookPages(services)
        health = HealthPages(services)

        def get(path: str, endpoint: object) -> Route:
            return Route(path, endpoint, methods=["GET"])  # type: ignore[arg-type]

        def post(path: str, endpoint: object) -> Route:
            return Route(path, endpoint, methods=["POST"])  # type: ignore[arg-type]

        async def unknown(request: Request, error: Exception) -> Response:
            answer = PlainTextResponse("There is no such page.", 404)
            return pages.dressed(answer, "")

        of_call, of_recording = "/live/{call}", "/recordings/{recording}"
        self.app = Starlette(
            routes=[
                get("/", guard(start.root)),
                get("/sign-in", entrance.show),
                post("/sign-in", entrance.enter),
                post("/sign-out", guard(entrance.leave)),
                get("/display", guard(entrance.display)),
                post("/display", guard(entrance.set_display)),
                get("/start", guard(start.show)),
                get("/start/test-call", guard(start.progress, idle=True)),
                post("/start/test-call", guard(start.test_call)),
                get("/live", guard(live.show)),
                get("/live/events", guard(live.events, idle=True)),
                post(of_call + "/record", guard(live.record)),
                post(of_call + "/pause", guard(live.pause)),
                post(of_call + "/resume", guard(live.resume)),
                post(of_call + "/stop", guard(live.stop)),
                post(of_call + "/hang-up", guard(live.hang_up)),
                get("/recordings", guard(listed.show)),
                post("/recordings", guard(listed.bulk)),
                get(of_recording, guard(one.show)),
                get(of_recording + "/peaks", guard(one.peaks)),
                get(of_recording + "/report", guard(one.report)),
                get(of_recording + "/audio.{format}", guard(one.audio)),
                get("/webhooks", guard(webhooks.show)),
                post("/webhooks", guard(webhooks.replay_failed)),
                get("/webhooks/{delivery}", guard(webhooks.one)),
                post("/webhooks/{delivery}", guard(webhooks.replay)),
                get("/health", guard(health.show)),
                Mount("/static", _Static(directory=STATIC)),
            ],
            exception_handlers={404: unknown},
        )

    def close(self) -> None:
        """End what is being pushed to pages: the server stops."""
        self._live.close()
