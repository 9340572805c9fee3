"""The loop that empties the outbox, with real receivers and a clock moved by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from callreel.calls.model import CallbackMethod, DeliveryState
from callreel.delivery.exchange import Exchange
from callreel.delivery.model import Delivery, Outcome, Result
from callreel.delivery.request import PreparedRequest
from callreel.delivery.schedule import is_held
from callreel.delivery.sender import Sender
from callreel.delivery.worker import Attempts, DeliveryLoop, Limits
from callreel.testing.webhooks import Answer, WebhookReceiver

T0 = datetime(2026, 1, 1, tzinfo=UTC)


class MovedClock:
    """Real time from a fixed date on, plus what the test adds."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.added = timedelta()

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return T0 + self.added + timedelta(seconds=time.monotonic() - self._begun)


@dataclass
class Row:
    delivery: Delivery
    next_due: datetime | None
    state: DeliveryState = DeliveryState.PENDING
    outcomes: list[Outcome] = field(default_factory=list)


class MemoryOutbox:
    """An outbox in memory, by the rules that the Protocol states."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.recorded = asyncio.Event()
        self.failures = 0
        self.reads = 0

    def add(self, delivery: Delivery, due: datetime = T0) -> None:
        self.rows[delivery.id] = Row(delivery, due)

    def _ready(self) -> list[Row]:
        def held(row: Row) -> bool:
            before = self.rows.get(row.delivery.after or "")
            return before is not None and is_held(before.state, before.delivery.attempts)

        pending = [row for row in self.rows.values() if row.state is DeliveryState.PENDING]
        return sorted(
            (row for row in pending if row.next_due is not None and not held(row)),
            key=lambda row: row.next_due or T0,
        )

    def _trouble(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("disk on fire")

    async def due(self, now: datetime, limit: int) -> Sequence[Delivery]:
        self.reads += 1
        self._trouble()
        found = [row.delivery for row in self._ready() if row.next_due and row.next_due <= now]
        await asyncio.sleep(0)
        return found[:limit]

    async def record_attempt(
        self,
        delivery_id: str,
        outcome: Outcome,
        *,
        next_due: datetime | None,
        state: DeliveryState,
    ) -> None:
        await asyncio.sleep(0)
        self._trouble()
        row = self.rows[delivery_id]
        row.delivery = replace(row.delivery, attempts=row.delivery.attempts + 1)
        row.next_due, row.state = next_due, state
        row.outcomes.append(outcome)
        self.recorded.set()

    async def next_due_at(self) -> datetime | None:
        return min((row.next_due for row in self._ready() if row.next_due), default=None)

    async def settled(self, *ids: str, state: DeliveryState = DeliveryState.DELIVERED) -> None:
        async with asyncio.timeout(10):
            while any(self.rows[id_].state is not state for id_ in ids):
                self.recorded.clear()
                await self.recorded.wait()

    async def tried(self, id_: str, times: int) -> None:
        async with asyncio.timeout(10):
            while len(self.rows[id_].outcomes) < times:
                self.recorded.clear()
                await self.recorded.wait()


def delivery(id_: str, url: str, event: str = "completed", after: str | None = None) -> Delivery:
    return Delivery(
        id=id_,
        account_id="cd" * 16,
        event=event,
        url=url,
        method=CallbackMethod.POST,
        fields={"RecordingStatus": event, "Id": id_},
        signing_key="key",
        created_at=T0,
        after=after,
    )


@asynccontextmanager
async def running(
    outbox: MemoryOutbox,
    clock: MovedClock,
    *,
    limits: Limits | None = None,
    sender: Attempts | None = None,
) -> AsyncIterator[DeliveryLoop]:
    async with Exchange() as exchange:
        real = Sender(clock, exchange)
        loop = DeliveryLoop(outbox, sender or real, clock, jitter=lambda: 0.5, limits=limits)
        task = asyncio.create_task(loop.run())
        yield loop
        loop.stop()
        async with asyncio.timeout(5):
            await task
        assert loop.in_flight == 0


def advance(clock: MovedClock, loop: DeliveryLoop, seconds: float) -> None:
    clock.added += timedelta(seconds=seconds)
    loop.notify()


async def test_what_is_owed_at_the_start_is_sent_and_recorded_once() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver:
        for number in range(40):
            outbox.add(delivery(f"d{number}", receiver.url))
        async with running(outbox, clock):
            await outbox.settled(*outbox.rows)
        assert sorted(webhook.fields["Id"] for webhook in receiver.received) == sorted(outbox.rows)
    assert all(len(row.outcomes) == 1 for row in outbox.rows.values())


async def test_notify_sends_at_once() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver, running(outbox, clock) as loop:
        await asyncio.sleep(0.05)
        outbox.add(delivery("d", receiver.url))
        loop.notify()
        await receiver.wait_for("completed", 2)


async def test_500_twice_then_taken_with_the_same_token() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver:
        receiver.answers += [Answer(500), Answer(500)]
        outbox.add(delivery("d", receiver.url))
        async with running(outbox, clock) as loop:
            await outbox.tried("d", 1)
            advance(clock, loop, 6)
            await outbox.tried("d", 2)
            advance(clock, loop, 21)
            await outbox.settled("d")
        tokens = {webhook.header("I-Twilio-Idempotency-Token") for webhook in receiver.received}
        assert tokens == {"d"}
        assert len(receiver.received) == 3
    assert [outcome.status for outcome in outbox.rows["d"].outcomes] == [500, 500, 204]


async def test_trouble_is_logged_once_and_the_giving_up(caplog: pytest.LogCaptureFixture) -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver:
        receiver.answers += [Answer(500), Answer(500), Answer(410)]
        outbox.add(delivery("d", f"{receiver.url}?secret=s3"))
        async with running(outbox, clock) as loop:
            await outbox.tried("d", 1)
            advance(clock, loop, 6)
            await outbox.tried("d", 2)
            advance(clock, loop, 21)
            await outbox.settled("d", state=DeliveryState.FAILED)
    first, last = (record.getMessage() for record in caplog.records)
    assert "answered 500; next try at 00:00:0" in first
    assert last.endswith("answered 410; given up")
    assert "s3" not in caplog.text


async def test_a_retry_comes_by_itself_when_it_is_due() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver:
        outbox.add(delivery("d", receiver.url), T0 + timedelta(seconds=0.3))
        async with running(outbox, clock):
            await outbox.settled("d")
    assert outbox.reads < 10


async def test_410_ends_it_and_nonsense_too() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver:
        receiver.default = Answer(410)
        outbox.add(delivery("gone", receiver.url))
        outbox.add(delivery("nonsense", "gopher://example.com/"))
        async with running(outbox, clock):
            await outbox.settled("gone", "nonsense", state=DeliveryState.FAILED)
    assert outbox.rows["nonsense"].outcomes[0].result is Result.INVALID


async def test_completed_comes_after_in_progress() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver:
        receiver.answers += [Answer(500), Answer(delay_s=0.1)]
        outbox.add(delivery("second", receiver.url, after="first"))
        outbox.add(delivery("first", receiver.url, "in-progress"))
        async with running(outbox, clock) as loop:
            await outbox.tried("first", 1)
            advance(clock, loop, 6)
            await outbox.settled("first", "second")
        assert [webhook.event for webhook in receiver.received] == [
            "in-progress",
            "in-progress",
            "completed",
        ]


async def test_completed_waits_for_three_tries_and_no_longer() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver:
        receiver.answers += [Answer(503, (("Retry-After", "86400"),))] * 3
        outbox.add(delivery("first", receiver.url, "in-progress"))
        outbox.add(delivery("second", receiver.url, after="first"))
        async with running(outbox, clock) as loop:
            for number in (1, 2, 3):
                await outbox.tried("first", number)
                assert not outbox.rows["second"].outcomes
                advance(clock, loop, 61)
            await outbox.settled("second")
    assert outbox.rows["first"].state is DeliveryState.PENDING


async def test_a_slow_receiver_delays_no_other() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as slow, WebhookReceiver() as quick:
        slow.default = Answer(delay_s=60)
        for number in range(300):  # more than one look at the outbox shows
            outbox.add(delivery(f"slow{number}", f"{slow.url}#rt=15000"))
        outbox.add(delivery("quick", quick.url), T0 + timedelta(microseconds=1))
        async with Exchange() as exchange:
            sender = Sender(clock, exchange)
            loop = DeliveryLoop(
                outbox, sender, clock, jitter=lambda: 0.5, limits=Limits(total=8, per_receiver=2)
            )
            task = asyncio.create_task(loop.run())
            await quick.wait_for("completed", 5)
            assert loop.in_flight <= 3
            assert len(slow.received) == 2
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert loop.in_flight == 0
    assert not any(row.outcomes for id_, row in outbox.rows.items() if id_ != "quick")


async def test_never_more_at_once_than_the_limits_allow() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    now: dict[str, int] = {}
    most: dict[str, int] = {}

    class Counting:
        async def attempt(self, request: PreparedRequest) -> Outcome:
            for key in (request.host, "all"):
                now[key] = now.get(key, 0) + 1
                most[key] = max(most.get(key, 0), now[key])
            await asyncio.sleep(0.005)
            for key in (request.host, "all"):
                now[key] -= 1
            return Outcome(clock.now(), Result.DELIVERED, 5, 200)

    for number in range(60):
        outbox.add(delivery(f"d{number}", f"http://h{number % 4}/"))
    limits = Limits(total=5, per_receiver=2)
    async with running(outbox, clock, limits=limits, sender=Counting()):
        await outbox.settled(*outbox.rows)
    assert most["all"] == 5
    assert max(most[f"h{number}"] for number in range(4)) == 2
    assert all(len(row.outcomes) == 1 for row in outbox.rows.values())


async def test_an_outbox_that_fails_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("callreel.delivery.worker._TROUBLE_S", 0.01)
    outbox, clock = MemoryOutbox(), MovedClock()
    outbox.failures = 2
    async with WebhookReceiver() as receiver:
        outbox.add(delivery("d", receiver.url))
        async with running(outbox, clock):
            await outbox.settled("d")
        assert len(receiver.received) == 1
    assert "cannot be read" in caplog.text


async def test_what_cannot_be_recorded_is_not_sent_again_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("callreel.delivery.worker._TROUBLE_S", 0.01)
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver(on_webhook=lambda _: setattr(outbox, "failures", 3)) as receiver:
        outbox.add(delivery("d", receiver.url))
        async with running(outbox, clock):
            await outbox.settled("d")
        assert len(receiver.received) == 1
    assert "cannot be recorded" in caplog.text


async def test_what_ends_while_the_outbox_is_read_is_not_sent_again() -> None:
    class Slow(MemoryOutbox):
        async def due(self, now: datetime, limit: int) -> Sequence[Delivery]:
            found = await super().due(now, limit)
            if self.reads == 2:  # read while "d" is under way, told when it has ended
                await self.recorded.wait()
                await asyncio.sleep(0.05)
            return found

    outbox, clock = Slow(), MovedClock()
    async with WebhookReceiver() as receiver:
        receiver.default = Answer(delay_s=0.1)
        outbox.add(delivery("d", receiver.url))
        async with running(outbox, clock) as loop:
            await receiver.wait_for("completed")
            loop.notify()
            await outbox.settled("d")
            await asyncio.sleep(0.2)
        assert outbox.reads >= 3
        assert len(receiver.received) == 1


async def test_a_fault_of_ours_costs_nobody_an_event(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __init__(self) -> None:
            self.tries = 0

        async def attempt(self, request: PreparedRequest) -> Outcome:
            self.tries += 1
            if self.tries == 1:
                raise ZeroDivisionError
            return Outcome(clock.now(), Result.DELIVERED, 1, 200)

    outbox, clock = MemoryOutbox(), MovedClock()
    outbox.add(delivery("d", "http://h/"))
    async with running(outbox, clock, sender=Broken()) as loop:
        await outbox.tried("d", 1)
        assert outbox.rows["d"].outcomes[0].error == "internal: ZeroDivisionError"
        advance(clock, loop, 6)
        await outbox.settled("d")
    assert "could not be tried" in caplog.text


async def test_stopping_waits_for_what_is_under_way() -> None:
    outbox, clock = MemoryOutbox(), MovedClock()
    async with WebhookReceiver() as receiver:
        receiver.default = Answer(delay_s=0.2)
        outbox.add(delivery("d", receiver.url))
        async with running(outbox, clock):
            await receiver.wait_for("completed")
    assert outbox.rows["d"].state is DeliveryState.DELIVERED
