"""All that a worker plays: one clock, a packet every 20 ms to each call that is attended.

A turn sends a bounded number of packets, so that a thousand calls hold up neither the relay nor the
sweep. What is to be recorded is put aside with each attendant, as the relay does it. Nothing here
waits, and nothing knows of journals.
"""

from __future__ import annotations

import time

from callreel.base.errors import CapacityError
from callreel.capture.anchor import Anchor
from callreel.capture.hearing import LOOK_TICKS
from callreel.capture.outgoing import Sender
from callreel.capture.pace import FRAME_NS, Pace
from callreel.capture.relay import Relay
from callreel.capture.streams import LiveStream
from callreel.capture.timer import Timer

PACKETS_AT_A_TIME = 256
"""Sent before commands, the relay and the sweep are looked at again."""
HOLD_BACK_TICKS = 3
"""So long a call that is attended from now on hears nothing yet. One that is bridged as soon as it
has answered would get a single packet of ours before the other party's, and some phones (baresip
1.0) stay with the source that they heard first."""


class Players:
    """``fileno`` is readable, level-triggered, while something is due; ``turn`` then does a bounded
    part of it."""

    def __init__(self, relay: Relay, anchor: Anchor) -> None:
        self._relay = relay
        self._anchor = anchor
        try:
            self._timer = Timer()
        except OSError as error:
            raise CapacityError(f"cannot have a timer: {error.strerror}") from error
        self._pace = Pace(time.monotonic_ns())
        self._out = Sender()
        self._lives: list[LiveStream] = []
        self._left: list[LiveStream] = []
        self.played: list[tuple[LiveStream, str, str]] = []
        """Plays that are out to their end, id and token, of which nobody was told as yet."""
        self.silent: list[tuple[LiveStream, bool]] = []
        """Streams whose party has fallen silent, and whether it had spoken, likewise."""
        self.moved: set[LiveStream] = set()
        """Streams whose sending got somewhere that a successor must know, not told as yet."""

    def fileno(self) -> int:
        """To wait on."""
        return self._timer.fileno()

    @property
    def sent(self) -> int:
        """Packets sent, ever."""
        return self._out.sent

    @property
    def unsent(self) -> int:
        """Packets that the kernel would not send, ever."""
        return self._out.unsent

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell or to leave for a successor."""
        return bool(self.played or self.silent or self.moved)

    @property
    def tick(self) -> int:
        """The next tick of whoever is attended from now on."""
        return time.monotonic_ns() // FRAME_NS + 1

    def next_tick(self, live: LiveStream) -> int:
        """The next that one of those attended is sent something at: earlier if that is late."""
        assert live.attendant is not None
        was_sent = bool(self._left) and live not in self._left
        return max(live.attendant.joined_tick, self._pace.tick + was_sent)

    def add(self, live: LiveStream, *, at_once: bool = False) -> None:
        """Play to a stream, from a few ticks on or at once. It has its attendant."""
        if not self._lives:
            self._pace.begin(time.monotonic_ns())
        assert live.attendant is not None
        live.attendant.joined_tick = self.tick + (0 if at_once else HOLD_BACK_TICKS)
        self._lives.append(live)
        self._set()

    def remove(self, live: LiveStream) -> None:
        """Play to it no more. What was put aside must have been taken."""
        if live in self._lives:
            self._lives.remove(live)
            self._set()

    def turn(self) -> None:
        """Send some of what is due."""
        budget = PACKETS_AT_A_TIME
        now_ns = time.monotonic_ns()
        while budget > 0:
            if not self._left:
                if not self._lives or not self._pace.is_due(now_ns):
                    break
                self._left = self._lives[::-1]
            turn = self._left[-budget:]
            del self._left[-budget:]
            self._send(turn[::-1], self._pace.tick, now_ns)
            budget -= len(turn)
            if not self._left:
                now_ns = time.monotonic_ns()
                self._look(self._lives[self._pace.tick % LOOK_TICKS :: LOOK_TICKS], now_ns)
                self._pace.done(now_ns)
        self._set()

    def close(self) -> None:
        """Give the timer back."""
        self._timer.close()

    def _set(self) -> None:
        if not self._lives:
            self._timer.set(None)
        else:
            self._timer.set(1 if self._left else self._pace.deadline_ns)

    def _send(self, lives: list[LiveStream], tick: int, now_ns: int) -> None:
        stamp_ns = now_ns + self._anchor.offset_ns
        send = self._out.send
        for live in lives:
            attendant = live.attendant
            if attendant is None or tick < attendant.joined_tick:
                continue
            player, tap, stream = attendant.player, live.rtp, live.stream
            address = tap.address
            if stream.receiving and address is not None:
                packet: bytes | None = player.packet(tick)
                if stream.srtp is not None:
                    packet = self._protected(live, packet)
                if packet is not None:
                    send(tap.sock, address, packet)
                    if attendant.keepers:
                        attendant.lengths.append(len(packet))
                        attendant.stamps_ns.append(stamp_ns)
                        attendant.pieces.append(packet)
            if tick + 1 >= player.ends:
                self.played.append((live, player.play_id, attendant.token))
                attendant.done_id, attendant.sounds = player.play_id, ()
                player.stop()

    def _protected(self, live: LiveStream, packet: bytes | None) -> bytes | None:
        sender = live.protection.sender
        protected = None if sender is None or packet is None else sender.rtp(packet)
        if protected is None:
            self._out.unsent += 1
        elif sender is not None and sender.moved:
            self.moved.add(live)
        return protected

    def _look(self, lives: list[LiveStream], now_ns: int) -> None:
        """Look which of some have fallen silent."""
        for live in lives:
            attendant = live.attendant
            if attendant is None or attendant.ear.silence_ms is None:
                continue
            ear, had_spoken = attendant.ear, attendant.ear.spoke
            silent = ear.has_fallen_silent(now_ns)
            if silent:
                # We may have been away ourselves: what it said meanwhile waits in its socket.
                self._relay.drain(live.rtp)
                silent = ear.has_fallen_silent(now_ns)
            if silent:
                self.silent.append((live, ear.spoke))
                ear.listen(None, now_ns)
            elif ear.spoke and not had_spoken:
                self.moved.add(live)
