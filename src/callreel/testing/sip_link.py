"""Two SIP endpoints on a network that loses, doubles, delays and reorders, in simulated time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from callreel.wire.sip.endpoint import Endpoint, Event
from callreel.wire.sip.flow import Flow, Transport


class CountingIds:
    """Identifiers that count up, so that a run can be read and repeated."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._last = 0

    def new_id(self) -> str:
        """The next identifier: 32 hex digits, the last ones counting."""
        self._last += 1
        return (self._prefix.encode().hex() + f"{self._last:08x}").rjust(32, "0")[::-1]

    def new_token(self) -> str:
        """The same, as a secret."""
        return self.new_id()


class LossyLink:
    """A network between two endpoints, ``a`` at 192.0.2.1 and ``b`` at 192.0.2.2.

    Times are seconds. Each message is lost with probability ``loss``, doubled with ``doubled``,
    and takes between ``delay`` seconds, so that messages overtake each other. The same ``seed``
    gives the same run.
    """

    def __init__(
        self,
        *,
        transport: Transport = Transport.UDP,
        loss: float = 0.0,
        doubled: float = 0.0,
        delay: tuple[float, float] = (0.01, 0.01),
        seed: int = 0,
        methods: tuple[str, ...] = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS"),
        option_tags: tuple[str, ...] = ("timer",),
    ) -> None:
        self.now = 0.0
        """Simulated time."""
        self.a = Endpoint(ids=CountingIds("a"), methods=methods, option_tags=option_tags)
        """The caller, by custom."""
        self.b = Endpoint(ids=CountingIds("b"), methods=methods, option_tags=option_tags)
        """The callee, by custom."""
        self.flow_to_b = Flow(transport, "192.0.2.2", 5060)
        """How ``a`` speaks to ``b``."""
        self.flow_to_a = Flow(transport, "192.0.2.1", 5060)
        """How ``b`` speaks to ``a``."""
        self.sent: list[tuple[float, str, bytes]] = []
        """Every message put on the network: time, sender (``a`` or ``b``), bytes."""
        self.lose_next: Callable[[str, bytes], bool] | None = None
        """Decides about a message (sender, bytes) instead of chance: True loses it."""
        self._handlers: dict[str, Callable[[Event], None]] = {}
        self._random = random.Random(seed)
        self._loss = loss
        self._doubled = doubled
        self._delay = delay
        self._in_flight: list[tuple[float, int, str, bytes]] = []
        self._count = 0

    def on_event(self, side: str, handler: Callable[[Event], None]) -> None:
        """Give the events of ``a`` or ``b`` to ``handler``."""
        self._handlers[side] = handler

    def run(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        end = self.now + seconds
        self.drain()
        while True:
            times = [self.a.next_deadline(), self.b.next_deadline()]
            times += [self._in_flight[0][0]] if self._in_flight else []
            due = min((time for time in times if time is not None), default=None)
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            while self._in_flight and self._in_flight[0][0] <= self.now:
                _, _, receiver, data = heapq.heappop(self._in_flight)
                if receiver == "b":
                    self.b.receive(data, self.flow_to_a, now=self.now)
                else:
                    self.a.receive(data, self.flow_to_b, now=self.now)
            self.a.handle_timeout(now=self.now)
            self.b.handle_timeout(now=self.now)
            self.drain()
        self.now = end

    def drain(self) -> None:
        """Put on the network what the endpoints want sent, and hand out their events."""
        busy = True
        while busy:
            busy = False
            for side, endpoint in (("a", self.a), ("b", self.b)):
                for outgoing in endpoint.messages_to_send():
                    self._transmit(side, outgoing.data)
                while (event := endpoint.next_event()) is not None:
                    busy = True
                    if side in self._handlers:
                        self._handlers[side](event)

    def _transmit(self, side: str, data: bytes) -> None:
        self.sent.append((self.now, side, data))
        if self.lose_next is not None:
            copies = 0 if self.lose_next(side, data) else 1
        elif self._random.random() < self._loss:
            copies = 0
        else:
            copies = 2 if self._random.random() < self._doubled else 1
        for _ in range(copies):
            self._count += 1
            arrival = self.now + self._random.uniform(*self._delay)
            receiver = "b" if side == "a" else "a"
            heapq.heappush(self._in_flight, (arrival, self._count, receiver, data))
