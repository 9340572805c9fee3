"""The 2xx to an INVITE, sent again until its ACK comes (RFC 3261 §13.3.1.4). No I/O."""

from __future__ import annotations

from callreel.wire.sip.message import Response
from callreel.wire.sip.transaction import T1, T2, TIMEOUT


class Answer:
    """One 2xx on its way: over every transport, as the ACK may be lost further on."""

    def __init__(self, response: Response, *, now: float) -> None:
        self.response = response
        """The 2xx."""
        self.acknowledged = False
        """True once its ACK has come."""
        self.timed_out = False
        """True if no ACK came within 64·T1: the dialog is to be ended with a BYE."""
        self._interval = T1
        self._resend_at = now + T1
        self._give_up_at = now + TIMEOUT
        self._due = False

    def acknowledge(self) -> bool:
        """The ACK came. True if it is the first and in time."""
        first = not self.acknowledged and not self.timed_out
        self.acknowledged = True
        return first

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timeout` wants to be called, monotonic seconds; None: never."""
        if self.acknowledged or self.timed_out:
            return None
        return min(self._resend_at, self._give_up_at)

    def handle_timeout(self, *, now: float) -> None:
        """Resend or give up, as is due by ``now``."""
        if self.acknowledged or self.timed_out:
            return
        if now >= self._give_up_at:
            self.timed_out = True
        elif now >= self._resend_at:
            self._due = True
            self._interval = min(2 * self._interval, T2)
            self._resend_at = now + self._interval

    def response_to_send(self) -> Response | None:
        """The 2xx if it is due, else None."""
        due, self._due = self._due, False
        return self.response if due else None
