"""Session timers (RFC 4028): how long a dialog lives without a refresh. No I/O."""

from __future__ import annotations

import dataclasses

from callreel.base.errors import PeerError
from callreel.wire.sip.message import Message, Request, Response
from callreel.wire.sip.values import parse_integer, split_list

SMALLEST_SECONDS = 90
"""No session interval may be smaller (RFC 4028 §4)."""
USUAL_SECONDS = 1800
"""The session interval we ask for: a peer that vanished is noticed within it (RFC 4028 §4)."""


class IntervalTooSmall(PeerError):
    """The session interval asked for is smaller than we allow: answer 422 with Min-SE."""

    def __init__(self, minimum_seconds: int) -> None:
        super().__init__(f"session interval under {minimum_seconds} s", status=422)
        self.minimum_seconds = minimum_seconds
        """The value for Min-SE."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header fields for the 422."""
        return [("Min-SE", str(self.minimum_seconds))]


@dataclasses.dataclass(frozen=True, slots=True)
class SessionTimer:
    """The timer that was agreed upon."""

    interval_seconds: int
    """The session interval: the session ends unless it is refreshed within it."""

    refresher: str
    """Who refreshes: ``uac`` or ``uas`` of the last INVITE or UPDATE."""

    we_refresh: bool
    """True if that is us."""

    required: bool = False
    """True if the 2xx says ``Require: timer``: the peer knows timers and refreshes."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The header fields for the 2xx that agrees to it."""
        fields = [("Session-Expires", f"{self.interval_seconds};refresher={self.refresher}")]
        if self.required:
            fields.append(("Require", "timer"))
        return fields

    def refresh_at(self, since: float) -> float | None:
        """When we have to refresh, ``since`` being the last refresh; None if the peer does."""
        return since + self.interval_seconds / 2 if self.we_refresh else None

    def expires_at(self, since: float) -> float:
        """When to end the session with a BYE for want of a refresh (RFC 4028 §10)."""
        return since + self.interval_seconds - min(32.0, self.interval_seconds / 3)


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    interval_seconds: int | None
    refresher: str | None
    minimum_seconds: int
    knows_timers: bool


def answer_timer(
    request: Request, *, minimum_seconds: int = SMALLEST_SECONDS, wished_seconds: int | None = None
) -> SessionTimer | None:
    """What a UAS answers to an INVITE or UPDATE (RFC 4028 §9); None: no timer.

    ``wished_seconds`` is the interval that we want if the peer asks for none or for more; we then
    refresh ourselves if the peer knows no timers. Raises :class:`IntervalTooSmall`, and PeerError
    (400) for header fields that are not valid.
    """
    asked = _read(request)
    interval = asked.interval_seconds
    if interval is not None and interval < minimum_seconds and asked.knows_timers:
        raise IntervalTooSmall(minimum_seconds)
    if interval is None and wished_seconds is None:
        return None
    floor = max(minimum_seconds, asked.minimum_seconds)
    if interval is None:
        interval = max(wished_seconds or 0, floor)
    elif wished_seconds is not None and wished_seconds < interval:
        interval = max(wished_seconds, floor if floor < interval else interval)
    interval = max(interval, SMALLEST_SECONDS)
    refresher = (asked.refresher or "uac") if asked.knows_timers else "uas"
    return SessionTimer(
        interval_seconds=interval,
        refresher=refresher,
        we_refresh=refresher == "uas",
        required=asked.knows_timers and refresher == "uac",
    )


def offer_timer(
    interval_seconds: int, *, minimum_seconds: int = SMALLEST_SECONDS, refresher: str | None = None
) -> list[tuple[str, str]]:
    """The header fields with which a UAC asks for a timer (RFC 4028 §7.1)."""
    suffix = f";refresher={refresher}" if refresher else ""
    fields = [("Supported", "timer"), ("Session-Expires", f"{interval_seconds}{suffix}")]
    if minimum_seconds > SMALLEST_SECONDS:
        fields.append(("Min-SE", str(minimum_seconds)))
    return fields


def agreed_timer(response: Response) -> SessionTimer | None:
    """The timer that a 2xx to our INVITE or UPDATE agrees to (RFC 4028 §7.2); None: no timer."""
    asked = _read(response)
    if asked.interval_seconds is None:
        return None
    refresher = asked.refresher or "uac"
    return SessionTimer(
        interval_seconds=max(asked.interval_seconds, SMALLEST_SECONDS),
        refresher=refresher,
        we_refresh=refresher == "uac",
    )


def minimum_after_refusal(response: Response) -> int:
    """The interval to ask for after a 422 (RFC 4028 §7.3)."""
    return max(_read(response).minimum_seconds, SMALLEST_SECONDS)


def _read(message: Message) -> _Asked:
    # sipmessage spells out the compact name x when it reads.
    interval: int | None = None
    refresher: str | None = None
    value = message.headers.get("Session-Expires")
    if value is not None:
        number, *parameters = split_list(value, ";")
        interval = _number("Session-Expires", number)
        for parameter in parameters:
            name, _, text = parameter.partition("=")
            if name.strip().lower() == "refresher":
                refresher = text.strip().lower()
                if refresher not in ("uac", "uas"):
                    raise PeerError("refresher is neither uac nor uas")
    minimum = message.headers.get("Min-SE")
    return _Asked(
        interval_seconds=interval,
        refresher=refresher,
        minimum_seconds=_number("Min-SE", minimum.split(";")[0]) if minimum else 0,
        knows_timers="timer" in (tag.lower() for tag in [*message.supported, *message.require]),
    )


def _number(name: str, text: str) -> int:
    try:
        return parse_integer(text, maximum=0x7FFF_FFFF)
    except ValueError as error:
        raise PeerError(f"{name}: {error}") from error
