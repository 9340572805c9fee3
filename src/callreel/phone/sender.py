"""RTP out, a packet every 20 ms for each stream, kept to one absolute schedule."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Protocol

from callreel.base.clock import Clock
from callreel.phone.sources import FRAME_SAMPLES
from callreel.wire.rtp import Packetizer
from callreel.wire.sdes import Key
from callreel.wire.srtp import Protector

FRAME_S = 0.02


class FrameSource(Protocol):
    """What a stream plays: :class:`callreel.phone.sources.EncodedSource`, or anything live."""

    def frame(self, number: int) -> bytes:
        """The payload of frame ``number``, 20 ms each, from 0."""
        ...


class OutgoingStream(Protocol):
    """What a session announces and aims: :class:`RtpSender`, or a stream sent from elsewhere."""

    port: int
    """Where packets come from, as announced."""
    remote: tuple[str, int] | None
    """Where they are to go; None while nothing is to be sent."""
    held: bool
    """On hold: time passes, nothing is sent."""
    packets_sent: int
    """Since the start."""

    def close(self) -> None:
        """The session is over."""
        ...


class PacedStream(Protocol):
    """What a :class:`Pacer` sends for."""

    def send_frame(self) -> None:
        """Send the next 20 ms, or let them pass."""
        ...

    def close(self) -> None:
        """Nothing more is to be sent."""
        ...


class Closable(Protocol):
    """What is given back at the end."""

    def close(self) -> None:
        """It is over."""
        ...


class RtpSender:
    """One stream: a socket of its own, a source, and where it goes. With a ``key`` it is SRTP."""

    def __init__(
        self,
        local_host: str,
        source: FrameSource,
        packetizer: Packetizer,
        key: Key | None = None,
    ) -> None:
        self._protector = None if key is None else Protector(key)
        family = socket.AF_INET6 if ":" in local_host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((local_host, 0))
        self._source = source
        self._packetizer = packetizer
        self._frame = 0
        self.port: int = self._socket.getsockname()[1]
        """Where packets come from, as announced."""
        self.remote: tuple[str, int] | None = None
        """Where they go; None while nothing is sent."""
        self.held = False
        """On hold: time passes, nothing is sent."""
        self.packets_sent = 0
        """Since the start."""

    def send_frame(self) -> None:
        """Send the next 20 ms, or let them pass."""
        if self.remote is None:
            return
        if self.held:
            self._packetizer.pass_silence(FRAME_SAMPLES)
            self._frame += 1
            return
        frame = self._source.frame(self._frame)
        packet: bytes | None = self._packetizer.packet(frame, ticks=FRAME_SAMPLES)
        self._frame += 1
        if self._protector is not None and packet is not None:
            packet = self._protector.rtp(packet)
        if packet is None:
            return
        # A full buffer or an ICMP refusal is a packet lost, as on any network.
        with contextlib.suppress(OSError):
            self._socket.sendto(packet, self.remote)
            self.packets_sent += 1

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


class Pacer:
    """Sends for all streams from one task, so that hundreds of calls keep time together."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._senders: list[PacedStream] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, senders: Sequence[PacedStream]) -> None:
        """Send for these from the next 20 ms on."""
        self._senders += senders
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="pacer")

    def remove(self, streams: Sequence[Closable]) -> None:
        """Send no more for these, and give their sockets back."""
        gone = {id(stream) for stream in streams}
        self._senders = [sender for sender in self._senders if id(sender) not in gone]
        for stream in streams:
            stream.close()

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self.remove(self._senders)

    async def _run(self) -> None:
        due = self._clock.monotonic()
        while True:
            for sender in self._senders:
                sender.send_frame()
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - self._clock.monotonic()))
