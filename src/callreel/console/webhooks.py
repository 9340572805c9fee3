"""Webhooks: what was owed, every try of it, and sending one again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.responses import Response

from callreel.calls.model import DeliveryState
from callreel.calls.spelling import Kind
from callreel.console.filters import position_of, written
from callreel.console.forms import query
from callreel.console.services import ConsoleServices
from callreel.console.visit import ROOT, Visit
from callreel.console.words import counted
from callreel.service.deliveries import shown_url
from callreel.service.tries import came_of
from callreel.store.deliveries import Attempt, DeliveryFilter, OwedDelivery

PAGE = 50
STATES = {
    "pending": ("under way", DeliveryState.PENDING),
    "delivered": ("delivered", DeliveryState.DELIVERED),
    "failed": ("given up", DeliveryState.FAILED),
}
_ANSWER_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt, for people."""

    attempt: Attempt
    """As it was kept."""
    answer: str
    """The first of what the receiver said, as text."""

    @property
    def came(self) -> str:
        """What came of it, in words."""
        return came_of(self.attempt.outcome, self.attempt.status)


@dataclass(frozen=True, slots=True)
class Shown:
    """A delivery, for people."""

    delivery: OwedDelivery
    """As it is kept."""
    url: str
    """Where to, without what may be secret."""
    state: str
    """In words."""
    recording_sid: str
    """What it is about, or empty."""
    tries: Sequence[Try]
    """Oldest first; empty in a list."""

    @property
    def last(self) -> str:
        """What came of the last try, for people."""
        if not self.tries:
            return "not tried yet"
        return self.tries[-1].came


def shown(delivery: OwedDelivery, attempts: Sequence[Attempt], visit: Visit) -> Shown:
    """A delivery as pages show it."""
    about = delivery.recording_id
    return Shown(
        delivery,
        shown_url(delivery.url),
        next(words for words, state in STATES.values() if state is delivery.state),
        visit.sid(Kind.RECORDING, about) if about else "",
        [Try(one, one.answer[:_ANSWER_SHOWN].decode("utf-8", "replace")) for one in attempts],
    )


class WebhookPages:
    """The list, one of it, and sending again."""

    def __init__(self, services: ConsoleServices) -> None:
        self._deliveries = services.deliveries

    async def show(self, visit: Visit) -> Response:
        """The list."""
        form = query(visit.request)
        state = form.get("state") if form.get("state") in STATES else ""
        page = await self._deliveries.page(
            DeliveryFilter(state=STATES[state][1] if state else None),
            size=PAGE,
            position=position_of(form.get("page")),
            account=visit.account,
        )
        failed = await self._deliveries.page(
            DeliveryFilter(state=DeliveryState.FAILED), size=1, account=visit.account
        )

        def link(position: object) -> str:
            fields = [("state", state)] if state else []
            return urlencode([*fields, ("page", written(position))])  # type: ignore[arg-type]

        return visit.page(
            "webhooks.html",
            page=page,
            listed=[shown(one, await self._deliveries.attempts(one), visit) for one in page.items],
            states=STATES,
            state=state,
            any_failed=bool(failed.items),
            link=link,
        )

    async def one(self, visit: Visit) -> Response:
        """One of them, with every try."""
        found = await self._deliveries.get(visit.id_of("delivery"), account=visit.account)
        attempts = await self._deliveries.attempts(found)
        return visit.page("webhook.html", one=shown(found, attempts, visit))

    async def replay(self, visit: Visit) -> Response:
        """Send one again."""
        found = await self._deliveries.get(visit.id_of("delivery"), account=visit.account)
        await self._deliveries.replay(found)
        back = visit.request.headers.get("referer", "").partition(ROOT)[2]
        where = back if back.startswith(("/webhooks", "/recordings/")) else "/webhooks"
        return visit.go(where, "It is being sent again.")

    async def replay_failed(self, visit: Visit) -> Response:
        """Send all again that were given up."""
        count = await self._deliveries.replay_failed(account=visit.account)
        if not count:
            return visit.go("/webhooks", "There is none that was given up.")
        are = "is" if count == 1 else "are"
        return visit.go("/webhooks", f"{counted(count, 'webhook')} {are} being sent again.")
