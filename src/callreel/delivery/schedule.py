"""When the next try of a webhook is due (contract §12.3). No I/O, no clock, no chance.

Three tries start within the first minute where the receiver may only be busy or restarting; after
that, and at once where it refuses, growing pauses up to three days.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from callreel.calls.model import DeliveryState
from callreel.delivery.model import Outcome, Result

QUICK_PAUSES_S = (5.0, 20.0)
"""After the first and second try. With two time-outs of 15 s the third starts at 55 s."""
PAUSES_S = (120.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 43200.0)
"""After those; the last is repeated."""
GIVE_UP_AFTER_S = 3 * 86400.0
"""From the delivery's making. The last try is made then."""
MIN_TRIES = 3
"""Made in any case, also where nothing could be sent for three days."""
HOLD_TRIES = 3
"""A terminal event waits for so many tries of the event before it, never longer."""
RETRY_AFTER_S = 43200.0
"""Bound on Retry-After."""
RETRY_AFTER_AWAITED_S = 60.0
"""Bound on Retry-After while another event may be waiting for this one."""
JITTER = 0.1
"""Pauses vary by this share, so that a thousand webhooks do not come back together."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a try."""

    state: DeliveryState
    """Where the delivery stands now."""
    next_due: datetime | None
    """When the next try is due; None where there is none."""


def decide(
    attempt: int,
    outcome: Outcome,
    *,
    created_at: datetime,
    now: datetime,
    jitter: float,
    awaited: bool = False,
) -> Decision:
    """What follows from the ``attempt``-th try (from 1).

    ``jitter`` is in 0..1. ``awaited``: another delivery may be waiting for this one, so that a
    long Retry-After is honoured only once that wait is over.
    """
    if outcome.result is Result.DELIVERED:
        return Decision(DeliveryState.DELIVERED, None)
    if outcome.result is Result.INVALID or outcome.status == 410:
        return Decision(DeliveryState.FAILED, None)
    give_up_at = created_at + timedelta(seconds=GIVE_UP_AFTER_S)
    if now >= give_up_at and attempt >= MIN_TRIES:
        return Decision(DeliveryState.FAILED, None)
    pause_s = _pause_s(attempt, outcome) * (1 + JITTER * (2 * jitter - 1))
    if outcome.retry_after_s is not None:
        # Never sooner than our own schedule: a receiver may ask for patience, not for haste.
        bound_s = RETRY_AFTER_AWAITED_S if awaited and attempt < HOLD_TRIES else RETRY_AFTER_S
        pause_s = max(pause_s, min(outcome.retry_after_s, bound_s))
    due = now + timedelta(seconds=pause_s)
    if now < give_up_at < due:
        due = give_up_at
    return Decision(DeliveryState.PENDING, due)


def is_held(before_state: DeliveryState, before_attempts: int) -> bool:
    """Whether a delivery still waits for the one before it, by how that one stands."""
    return before_state is DeliveryState.PENDING and before_attempts < HOLD_TRIES


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110 §10.2.3), or None if unreadable."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _pause_s(attempt: int, outcome: Outcome) -> float:
    if _is_passing(outcome) and attempt <= len(QUICK_PAUSES_S):
        return QUICK_PAUSES_S[attempt - 1]
    step = max(0, attempt - 1 - len(QUICK_PAUSES_S))
    if not _is_passing(outcome):
        step = attempt - 1
    return PAUSES_S[min(step, len(PAUSES_S) - 1)]


def _is_passing(outcome: Outcome) -> bool:
    """Whether the trouble may be over in a moment."""
    if outcome.status is None:
        return outcome.result in (Result.CONNECTION, Result.TIMEOUT)
    return outcome.status in (408, 429) or outcome.status >= 500
