"""Takes what is due from the outbox and sends it, until it is told to stop.

The outbox is the truth: what is not recorded there was not sent. So a crash can only make a
receiver hear the same event twice, with the same idempotency token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.calls.model import CallbackEvent, CallEvent, DeliveryState
from callreel.delivery.model import Delivery, Outcome, Result
from callreel.delivery.request import PreparedRequest, Timeouts, prepare
from callreel.delivery.schedule import Decision, decide

_log = logging.getLogger(__name__)

_WINDOW = 128
_MAX_WINDOW = 16_384
_POLL_S = 30.0
_MASKED_S = 1.0
_WIDEN_S = 0.05
_TROUBLE_S = 1.0
_MAX_TROUBLE_S = 30.0

_AWAITED = frozenset(
    {CallbackEvent.IN_PROGRESS.value, *(one.value for one in CallEvent)}
    - {CallEvent.COMPLETED.value}
)
"""Events that others may be waiting for."""


class Outbox(Protocol):
    """Where owed webhooks are kept."""

    async def due(self, now: datetime, limit: int) -> Sequence[Delivery]:
        """Pending deliveries whose next try is due, the longest due first.

        Left out are those whose ``after`` is still to be waited for (``schedule.is_held``). Those
        that are being sent are still pending, and are among them.
        """
        ...

    async def record_attempt(
        self,
        delivery_id: str,
        outcome: Outcome,
        *,
        next_due: datetime | None,
        state: DeliveryState,
    ) -> None:
        """Keep a try and what follows from it. Does nothing for a delivery that is gone."""
        ...

    async def next_due_at(self) -> datetime | None:
        """When the next try of any pending delivery is due that waits for no other."""
        ...


class Attempts(Protocol):
    """Who makes the tries: :class:`callreel.delivery.sender.Sender`."""

    async def attempt(self, request: PreparedRequest) -> Outcome:
        """Try once."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be under way at once."""

    total: int = 64
    """Tries in all."""
    per_receiver: int = 4
    """Tries to one host and port, so that a slow one delays no other."""


class DeliveryLoop:
    """Runs as one task; any number of tries run beside it, within limits."""

    def __init__(
        self,
        outbox: Outbox,
        sender: Attempts,
        clock: Clock,
        *,
        jitter: Callable[[], float],
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        """``jitter`` gives numbers in 0..1."""
        self._outbox = outbox
        self._sender = sender
        self._clock = clock
        self._jitter = jitter
        self._limits = limits or Limits()
        self._timeouts = timeouts or Timeouts()
        self._wake = asyncio.Event()
        self._stopping = False
        self._window = _WINDOW
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._receivers: Counter[str] = Counter()
        self._finished: set[str] = set()

    @property
    def in_flight(self) -> int:
        """Tries under way."""
        return len(self._tasks)

    def notify(self) -> None:
        """Look at the outbox now: something new is owed."""
        self._wake.set()

    def stop(self) -> None:
        """Begin nothing more. :meth:`run` returns when what is under way is done."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Deliver until stopped. Cancelled, it drops what is under way, to be sent again."""
        trouble_s = _TROUBLE_S
        try:
            while not self._stopping:
                self._wake.clear()
                try:
                    wait_s = await self._start_due()
                    trouble_s = _TROUBLE_S
                except Exception:
                    _log.exception("the outbox cannot be read; trying again in %g s", trouble_s)
                    wait_s = trouble_s
                    trouble_s = min(trouble_s * 2, _MAX_TROUBLE_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
            while self._tasks:
                await asyncio.wait(self._tasks.values())
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_due(self) -> float:
        """Begin what can be begun; how many seconds to wait, unless woken."""
        if len(self._tasks) >= self._limits.total:
            return _POLL_S
        now = self._clock.now()
        limit = len(self._tasks) + self._window
        # What ends while the outbox is being read is still in what was read: it must not begin
        # again.
        self._finished.clear()
        found = await self._outbox.due(now, limit)
        for delivery in found:
            if self._stopping or len(self._tasks) >= self._limits.total:
                return _POLL_S
            receiver = _receiver(delivery.url)
            if delivery.id in self._tasks or delivery.id in self._finished:
                continue
            if self._receivers[receiver] >= self._limits.per_receiver:
                continue
            self._begin(delivery, receiver)
        if len(found) >= limit and self._window < _MAX_WINDOW:
            # All that can be seen waits for slow receivers: look further for others.
            self._window *= 2
            return _WIDEN_S
        if len(found) < limit:
            self._window = _WINDOW
        next_at = await self._outbox.next_due_at()
        if next_at is None:
            return _POLL_S
        wait_s = (next_at - now).total_seconds()
        # What is under way, or waits for its receiver, is due as well and hides what comes next.
        return min(wait_s, _POLL_S) if wait_s > 0 else _MASKED_S

    def _begin(self, delivery: Delivery, receiver: str) -> None:
        self._receivers[receiver] += 1
        task = asyncio.create_task(self._deliver(delivery), name=f"delivery {delivery.id}")
        self._tasks[delivery.id] = task

        def done(_: asyncio.Task[None]) -> None:
            del self._tasks[delivery.id]
            self._finished.add(delivery.id)
            self._receivers[receiver] -= 1
            if not self._receivers[receiver]:
                del self._receivers[receiver]
            self._wake.set()

        task.add_done_callback(done)

    async def _deliver(self, delivery: Delivery) -> None:
        outcome = await self._attempt(delivery)
        decision = decide(
            delivery.attempts + 1,
            outcome,
            created_at=delivery.created_at,
            now=self._clock.now(),
            jitter=self._jitter(),
            awaited=delivery.event in _AWAITED,
        )
        await self._record(delivery, outcome, decision)
        _tell(delivery, outcome, decision)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        begun = self._clock.now()
        try:
            return await self._sender.attempt(prepare(delivery, self._timeouts))
        except (PeerError, UnicodeError) as error:
            return Outcome(begun, Result.INVALID, 0, error=str(error))
        except Exception as error:
            # A fault of ours must not cost the receiver its event, nor the others theirs.
            _log.exception("delivery %s could not be tried", delivery.id)
            return Outcome(begun, Result.CONNECTION, 0, error=f"internal: {type(error).__name__}")

    async def _record(self, delivery: Delivery, outcome: Outcome, decision: Decision) -> None:
        """Until it is recorded it stays under way, since unrecorded it would be sent again."""
        pause_s = _TROUBLE_S
        while True:
            try:
                await self._outbox.record_attempt(
                    delivery.id, outcome, next_due=decision.next_due, state=decision.state
                )
                return
            except Exception:
                _log.exception(
                    "a try of delivery %s cannot be recorded; again in %g s", delivery.id, pause_s
                )
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _MAX_TROUBLE_S)


def _tell(delivery: Delivery, outcome: Outcome, decision: Decision) -> None:
    """Log the first try that fails, and when it is given up; the tries between are in the outbox.

    Never the URL: its query and userinfo may hold secrets.
    """
    given_up = decision.state is DeliveryState.FAILED
    if outcome.result is Result.DELIVERED or (delivery.attempts and not given_up):
        return
    answered = "" if outcome.status is None else f" {outcome.status}"
    _log.warning(
        "webhook %s of %s %s to %r: %s%s%s; %s",
        delivery.event,
        "call" if delivery.recording_id is None else "recording",
        delivery.recording_id or delivery.call_id,
        _receiver(delivery.url),
        outcome.result.value,
        answered,
        f" {outcome.error[:200]!r}" if outcome.error else "",
        "given up" if given_up else f"next try at {decision.next_due:%H:%M:%S} UTC",
    )


def _receiver(url: str) -> str:
    """``host:port`` of a URL that may be nonsense: only for keeping receivers apart."""
    authority = url.partition("://")[2]
    for end in "/?#":
        authority = authority.partition(end)[0]
    return authority.rpartition("@")[2].lower()
