"""The four transactions of SIP (RFC 3261 §17, corrected by RFC 6026). No I/O.

Each is fed messages and the time (monotonic seconds), and is drained of what it wants sent and
what it has to tell its user. A transaction that is ``TERMINATED`` is to be thrown away.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import deque

from callreel.wire.sip.message import Request, Response

T1 = 0.5
"""Seconds: the estimated round trip (RFC 3261 §17.1.1.1)."""
T2 = 4.0
"""Seconds: the longest interval between retransmissions of anything but an INVITE."""
T4 = 5.0
"""Seconds: how long a message stays in the network."""
TIMEOUT = 64 * T1
"""Seconds: timers B, F, H, L and M: when a transaction gives up."""
TIMER_D = 32.0
"""Seconds: how long a client goes on acknowledging a refused INVITE over UDP."""
TRYING_DELAY = 0.2
"""Seconds: a server says 100 by itself if its user has said nothing (§17.2.1)."""
PROCEEDING_TIMEOUT = 180.0
"""Seconds: a client INVITE with provisional answers only is given up after this long without a
further one (timer C of §16.6, which the RFC asks of proxies alone; without it a lost final
response of a peer would keep the transaction for ever)."""


class State(enum.Enum):
    """The states of all four machines (RFC 3261 figures 5 to 8, RFC 6026 figures 1 to 3)."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


@dataclasses.dataclass(frozen=True, slots=True)
class ResponsePassed:
    """A client transaction hands a response to its user."""

    response: Response
    """The response, each once, but every 2xx to an INVITE as often as it comes."""


@dataclasses.dataclass(frozen=True, slots=True)
class TimedOut:
    """Nothing that ends the transaction came in time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """The transport could not deliver."""


TransactionEvent = ResponsePassed | TimedOut | Failed


class Transaction:
    """What the four have in common: output, events and timers."""

    def __init__(self, state: State) -> None:
        self.state = state
        """Where the machine stands."""
        self._output: deque[Request | Response] = deque()
        self._events: deque[TransactionEvent] = deque()
        self._timers: dict[str, float] = {}

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timeout` wants to be called, monotonic seconds; None: never."""
        return min(self._timers.values(), default=None)

    def handle_timeout(self, *, now: float) -> None:
        """Let every timer that is due by ``now`` fire, in order."""
        while self._timers:
            name = min(self._timers, key=self._timers.__getitem__)
            due = self._timers[name]
            if due > now:
                return
            del self._timers[name]
            self._fire(name, due, now)

    def messages_to_send(self) -> list[Request | Response]:
        """What to send now, in order; taken out."""
        messages = list(self._output)
        self._output.clear()
        return messages

    def next_event(self) -> TransactionEvent | None:
        """The oldest event not yet taken, or None."""
        return self._events.popleft() if self._events else None

    def transport_failed(self) -> None:
        """The transport could not deliver: the transaction ends (RFC 3261 §17.1.4)."""
        if self.state is not State.TERMINATED:
            self._terminate()
            self._events.append(Failed())

    def _fire(self, name: str, due: float, now: float) -> None:
        raise NotImplementedError

    def _terminate(self) -> None:
        self.state = State.TERMINATED
        self._timers.clear()


class InviteClientTransaction(Transaction):
    """INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §8.4)."""

    def __init__(self, request: Request, *, reliable: bool, now: float) -> None:
        super().__init__(State.CALLING)
        self.request: Request | None = request
        """The INVITE, as sent; None once there is a final response, to free its memory."""
        self._reliable = reliable
        self._interval = T1
        self._ack: Request | None = None
        self._output.append(request)
        if not reliable:
            self._timers["A"] = now + T1
        self._timers["B"] = now + TIMEOUT

    def receive(self, response: Response, *, now: float) -> None:
        """Take a response that matches."""
        code = response.code
        if self.state in (State.CALLING, State.PROCEEDING):
            if code < 200:
                self.state = State.PROCEEDING
                self._timers = {"C": now + PROCEEDING_TIMEOUT}
            elif code < 300:
                self.state = State.ACCEPTED
                self._timers = {"M": now + TIMEOUT}
                self.request = None
            else:
                assert self.request is not None
                self.state = State.COMPLETED
                self._timers = {"D": now + (0.0 if self._reliable else TIMER_D)}
                self._ack = build_ack(self.request, response)
                self._output.append(self._ack)
                self.request = None
            self._events.append(ResponsePassed(response))
        elif self.state is State.ACCEPTED and 200 <= code < 300:
            self._events.append(ResponsePassed(response))
        elif self.state is State.COMPLETED and code >= 300 and self._ack is not None:
            self._output.append(self._ack)

    def cancelled(self, *, now: float) -> None:
        """A CANCEL was sent: wait no longer than 64·T1 for the final response (§9.1)."""
        if self.state is State.PROCEEDING:
            self._timers["C"] = now + TIMEOUT

    def _fire(self, name: str, due: float, now: float) -> None:
        if name == "A":
            assert self.request is not None
            self._output.append(self.request)
            self._interval *= 2
            self._timers["A"] = now + self._interval
            return
        if name in ("B", "C"):
            self._events.append(TimedOut())
        self._terminate()


class NonInviteClientTransaction(Transaction):
    """Client transaction of every other request (RFC 3261 §17.1.2)."""

    def __init__(self, request: Request, *, reliable: bool, now: float) -> None:
        super().__init__(State.TRYING)
        self.request: Request | None = request
        """The request, as sent; None once there is a final response, to free its memory."""
        self._reliable = reliable
        self._interval = T1
        self._output.append(request)
        if not reliable:
            self._timers["E"] = now + T1
        self._timers["F"] = now + TIMEOUT

    def receive(self, response: Response, *, now: float) -> None:
        """Take a response that matches."""
        if self.state not in (State.TRYING, State.PROCEEDING):
            return
        if response.code < 200:
            self.state = State.PROCEEDING
        else:
            self.state = State.COMPLETED
            self._timers = {"K": now + (0.0 if self._reliable else T4)}
            self.request = None
        self._events.append(ResponsePassed(response))

    def _fire(self, name: str, due: float, now: float) -> None:
        if name == "E":
            assert self.request is not None
            self._output.append(self.request)
            slow = self.state is State.PROCEEDING
            self._interval = T2 if slow else min(2 * self._interval, T2)
            self._timers["E"] = now + self._interval
            return
        if name == "F":
            self._events.append(TimedOut())
        self._terminate()


class InviteServerTransaction(Transaction):
    """INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §8.5). A 2xx is retransmitted by its
    user until the ACK comes, not here.
    """

    def __init__(self, request: Request, *, reliable: bool, now: float) -> None:
        super().__init__(State.PROCEEDING)
        self._request: Request | None = request
        self._reliable = reliable
        self._interval = T1
        self._last: Response | None = None
        self._timers["100"] = now + TRYING_DELAY

    def receive(self, request: Request, *, now: float) -> None:
        """Take a retransmission of the INVITE, or the ACK of a refusal."""
        if request.method == "ACK":
            if self.state is State.COMPLETED:
                self.state = State.CONFIRMED
                self._timers = {"I": now + (0.0 if self._reliable else T4)}
        elif self.state in (State.PROCEEDING, State.COMPLETED) and self._last is not None:
            self._output.append(self._last)

    def respond(self, response: Response, *, now: float) -> None:
        """Send a response. One that comes after a final one is dropped, but for a further 2xx."""
        code = response.code
        if self.state is State.ACCEPTED and 200 <= code < 300:
            self._output.append(response)
            return
        if self.state is not State.PROCEEDING:
            return
        self._timers.pop("100", None)
        self._request = None
        self._last = response
        self._output.append(response)
        if 200 <= code < 300:
            self.state = State.ACCEPTED
            self._timers = {"L": now + TIMEOUT}
            self._last = None  # its user repeats it
        elif code >= 300:
            self.state = State.COMPLETED
            self._timers = {"H": now + TIMEOUT}
            if not self._reliable:
                self._timers["G"] = now + T1

    def _fire(self, name: str, due: float, now: float) -> None:
        if name == "100":
            assert self._request is not None
            trying = Response(100)
            for header in ("Via", "From", "To", "Call-ID", "CSeq", "Timestamp"):
                values = self._request.headers.getlist(header)
                if values:
                    trying.headers.setlist(header, list(values))
            self._last = trying
            self._output.append(trying)
            return
        if name == "G":
            if self._last is not None:
                self._output.append(self._last)
            self._interval = min(2 * self._interval, T2)
            self._timers["G"] = now + self._interval
            return
        if name == "H":
            self._events.append(TimedOut())
        self._terminate()


class NonInviteServerTransaction(Transaction):
    """Server transaction of every other request (RFC 3261 §17.2.2)."""

    def __init__(self, *, reliable: bool, now: float) -> None:
        super().__init__(State.TRYING)
        self._reliable = reliable
        self._last: Response | None = None
        # The RFC sets no limit to Trying; a user that never answers must not keep us for ever.
        self._timers["answer"] = now + TIMEOUT

    def receive(self, request: Request, *, now: float) -> None:
        """Take a retransmission of the request."""
        if self._last is not None and self.state is not State.TERMINATED:
            self._output.append(self._last)

    def respond(self, response: Response, *, now: float) -> None:
        """Send a response. One that comes after a final one is dropped."""
        if self.state not in (State.TRYING, State.PROCEEDING):
            return
        self._last = response
        self._output.append(response)
        if response.code < 200:
            self.state = State.PROCEEDING
        else:
            self.state = State.COMPLETED
            self._timers = {"J": now + (0.0 if self._reliable else TIMEOUT)}

    def _fire(self, name: str, due: float, now: float) -> None:
        if name == "answer":
            self._events.append(TimedOut())
        self._terminate()


def build_ack(invite: Request, response: Response) -> Request:
    """The ACK of a refused INVITE (RFC 3261 §17.1.1.3): same branch, To as answered."""
    ack = Request("ACK", invite.uri)
    ack.headers.set("Via", str(invite.top_via))
    for name in ("Route", "From", "Call-ID"):
        values = invite.headers.getlist(name)
        if values:
            ack.headers.setlist(name, list(values))
    ack.headers.set("To", response.headers.get("To") or "")
    ack.headers.set("CSeq", f"{invite.cseq.sequence} ACK")
    ack.headers.set("Max-Forwards", "70")
    return ack


def build_cancel(invite: Request) -> Request:
    """The CANCEL of an INVITE (RFC 3261 §9.1): same branch, same everything, no body."""
    cancel = Request("CANCEL", invite.uri)
    cancel.headers.set("Via", str(invite.top_via))
    for name in ("Route", "From", "To", "Call-ID"):
        values = invite.headers.getlist(name)
        if values:
            cancel.headers.setlist(name, list(values))
    cancel.headers.set("CSeq", f"{invite.cseq.sequence} CANCEL")
    cancel.headers.set("Max-Forwards", "70")
    return cancel
