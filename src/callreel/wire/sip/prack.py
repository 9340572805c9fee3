"""Reliable provisional responses (RFC 3262), both sides. No I/O. Times: monotonic seconds."""

from __future__ import annotations

import dataclasses
import enum
from collections import deque

from callreel.base.errors import PeerError
from callreel.wire.sip.message import Message, Request, Response
from callreel.wire.sip.transaction import T1, TIMEOUT
from callreel.wire.sip.values import is_token, parse_integer

OPTION_TAG = "100rel"
"""The option tag of the extension."""

MAX_QUEUED = 16
"""Provisional responses that wait for their predecessor's PRACK."""

MAX_EARLY_DIALOGS = 32
"""Forks of one INVITE that are followed."""

_MAX_RSEQ = 0xFFFF_FFFF


@dataclasses.dataclass(frozen=True, slots=True)
class RAck:
    """What a PRACK acknowledges (RFC 3262 §7.2)."""

    rseq: int
    """RSeq of the provisional response."""

    cseq: int
    """Number of its CSeq."""

    method: str
    """Method of its CSeq: INVITE."""

    @classmethod
    def parse(cls, text: str) -> RAck:
        """Parse a RAck value. Raises ValueError."""
        parts = text.split()
        if len(parts) != 3 or not is_token(parts[2]):
            raise ValueError("RAck is not valid")
        return cls(
            parse_integer(parts[0], maximum=_MAX_RSEQ),
            parse_integer(parts[1], maximum=_MAX_RSEQ),
            parts[2],
        )

    @classmethod
    def of_prack(cls, prack: Request) -> RAck:
        """What ``prack`` acknowledges. Raises PeerError (400)."""
        value = prack.headers.get("RAck")
        if value is None:
            raise PeerError("RAck is missing")
        try:
            return cls.parse(value)
        except ValueError as error:
            raise PeerError(f"RAck: {error}") from error

    @classmethod
    def for_response(cls, response: Response) -> RAck | None:
        """What the PRACK of ``response`` has to say; None if it is not a reliable one.

        Raises PeerError if its RSeq is missing or not valid.
        """
        if not 100 < response.code < 200 or not _names(response.require):
            return None
        value = response.headers.get("RSeq")
        if value is None:
            raise PeerError("reliable provisional response without RSeq")
        try:
            rseq = parse_integer(value, maximum=_MAX_RSEQ)
        except ValueError as error:
            raise PeerError(f"RSeq: {error}") from error
        cseq = response.cseq
        return cls(rseq, cseq.sequence, cseq.method)

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq} {self.method}"


def is_required(request: Request) -> bool:
    """True if the peer takes no provisional responses but reliable ones."""
    return _names(request.require)


def is_supported(message: Message) -> bool:
    """True if the peer can take reliable provisional responses."""
    return _names(message.require) or _names(message.supported)


def _names(tags: list[str]) -> bool:
    return OPTION_TAG in (tag.lower() for tag in tags)


class ReliableProvisionals:
    """Our reliable provisional responses to one INVITE, one after the other (RFC 3262 §3).

    Each is sent again, T1 doubling, until its PRACK comes; the next waits for that.
    """

    def __init__(self, *, first_rseq: int) -> None:
        self.timed_out = False
        """True if a PRACK did not come within 64·T1: the INVITE is to be refused (504)."""
        self._next_rseq = first_rseq
        self._queue: deque[Response] = deque()
        self._sent: Response | None = None
        self._rseq: int | None = None
        self._interval = T1
        self._resend_at = 0.0
        self._give_up_at = 0.0
        self._over = False
        self._output: deque[Response] = deque()

    @property
    def unacknowledged(self) -> Response | None:
        """The response whose PRACK has not come."""
        return self._sent

    @property
    def description_pending(self) -> bool:
        """True while one with a body is not acknowledged: no 2xx may be sent before it is."""
        held = [*self._queue, *([] if self._sent is None else [self._sent])]
        return not self._over and any(response.body for response in held)

    def send(self, response: Response, *, now: float) -> None:
        """Send a provisional response (101 to 199), now or when it is its turn."""
        if self._over:
            return
        if len(self._queue) >= MAX_QUEUED:
            raise PeerError("too many provisional responses without PRACK", status=504)
        response.headers.add("Require", OPTION_TAG)
        self._queue.append(response)
        self._send_next(now)

    def acknowledge(self, rack: RAck, *, now: float) -> bool:
        """A PRACK came. False if it acknowledges nothing that waits for it (answer 481)."""
        sent = self._sent
        if sent is None or rack.rseq != self._rseq or rack.method != sent.cseq.method:
            return False
        self._sent = None
        self._send_next(now)
        return True

    def finish(self) -> None:
        """There is a final response: nothing is sent any more, a PRACK is still recognised."""
        self._over = True
        self._queue.clear()

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timeout` wants to be called, monotonic seconds; None: never."""
        if self._over or self._sent is None:
            return None
        return min(self._resend_at, self._give_up_at)

    def handle_timeout(self, *, now: float) -> None:
        """Resend or give up, as is due by ``now``."""
        if self._over or self._sent is None:
            return
        if now >= self._give_up_at:
            self.timed_out = True
            self.finish()
        elif now >= self._resend_at:
            self._output.append(self._sent)
            self._interval *= 2
            self._resend_at = now + self._interval

    def responses_to_send(self) -> list[Response]:
        """What to send now, in order; taken out."""
        responses = list(self._output)
        self._output.clear()
        return responses

    def _send_next(self, now: float) -> None:
        if self._sent is not None or self._over or not self._queue:
            return
        self._sent = self._queue.popleft()
        self._rseq = self._next_rseq
        self._next_rseq += 1
        self._sent.headers.set("RSeq", str(self._rseq))
        self._interval = T1
        self._resend_at = now + T1
        self._give_up_at = now + TIMEOUT
        self._output.append(self._sent)


class Reception(enum.Enum):
    """What to do with a provisional response that came."""

    PLAIN = "plain"
    """It is not a reliable one: take note of it."""
    NEW = "new"
    """Acknowledge it and take note of it."""
    DROPPED = "dropped"
    """It came before, or out of order: neither."""


class ProvisionalReceiver:
    """The reliable provisional responses to one INVITE of ours, by early dialog (RFC 3262 §4)."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def receive(self, response: Response) -> Reception:
        """Judge a response. Raises PeerError if it says nonsense."""
        rack = RAck.for_response(response)
        if rack is None:
            return Reception.PLAIN
        tag = response.to_address.tag or ""
        last = self._last.get(tag)
        if last is None and len(self._last) >= MAX_EARLY_DIALOGS:
            return Reception.DROPPED
        if last is not None and rack.rseq != last + 1:
            return Reception.DROPPED
        self._last[tag] = rack.rseq
        return Reception.NEW
