"""The server as it is: workers, room that is left, and what needs attention."""

from __future__ import annotations

from starlette.responses import Response

from callreel.calls.model import DeliveryState
from callreel.console.attention import matters
from callreel.console.services import ConsoleServices
from callreel.console.visit import Visit
from callreel.store.deliveries import DeliveryFilter

_COUNTED = 100


class HealthPages:
    """One page."""

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services

    async def show(self, visit: Visit) -> Response:
        """The page."""
        state = await self._services.machine.state()
        given_up = await self._services.deliveries.page(
            DeliveryFilter(state=DeliveryState.FAILED), size=_COUNTED, account=visit.account
        )
        found = matters(
            state, given_up=len(given_up.items), more_given_up=given_up.next is not None
        )
        up_s = (self._services.now() - state.started_at).total_seconds()
        return visit.page("health.html", state=state, matters=found, up_ms=up_s * 1000)
