"""From the sockets of a call into its recordings: who keeps what, and having them get it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from callreel.capture.anchor import Anchor
from callreel.capture.relay import Relay
from callreel.capture.streams import Attendant, LiveStream, keepers_of, keepers_of_ours
from callreel.capture.sweep import Batch, Sweeper
from callreel.capture.tap import Latched, Tap
from callreel.capture.volley import LANES, Mingled, Volley
from callreel.journal.format import Event, Kind

_UNDER_WAY_NS = 1_000_000
"""For so long a packet may be on its way through the kernel, stamped and not yet queued."""


class Intake:
    """Drains sockets. Those of bridged and attended calls are drained through the relay, which has
    mostly done so already and has put aside what is to be kept.

    ``on_latched`` is told of each stream whose source was latched.
    """

    def __init__(
        self,
        sweeper: Sweeper,
        volley: Volley,
        anchor: Anchor,
        relay: Relay,
        *,
        on_latched: Callable[[LiveStream], None],
    ) -> None:
        self.anchor = anchor
        self._sweeper = sweeper
        self._volley = volley
        self._relay = relay
        self._on_latched = on_latched
        self.kept = 0
        """RTP packets handed to recordings, ever."""

    def assign(self, live: LiveStream) -> None:
        """Find out who keeps a stream, and have exactly what is wanted queued, from the signalled
        address alone. What had come to it must have been drained."""
        live.keepers = keepers_of(live)
        if live.attendant is not None:
            live.attendant.keepers = keepers_of_ours(live)
        wanted = live.is_wanted
        now_ns = self.anchor.now().mono_ns
        for tap in (live.rtp, live.rtcp):
            if wanted and tap in live.taps:
                if tap.host != live.stream.remote_host:
                    tap.listen(live.stream.remote_host, now_mono_ns=now_ns)
            elif tap.host is not None:
                tap.refuse()

    def settle(self, lives: Iterable[LiveStream]) -> None:
        """Who keeps what has changed: refuse what nobody wants any more."""
        for live in lives:
            self.assign(live)
            for tap in (live.rtp, live.rtcp):
                if tap.host is None:
                    # It may have got into the queue before the filter went on. Nobody wants it, so
                    # it must not be found there when somebody next does.
                    tap.discard(self._sweeper)

    def drain(self, live: LiveStream) -> None:
        """Have all that came to a stream relayed and kept."""
        if live.is_read_at_once:
            for tap in (live.rtp, live.rtcp):
                self._relay.drain(tap)
        self.collect(live, rtcp=True)

    def collect(self, live: LiveStream, *, rtcp: bool) -> None:
        """Have what came to a stream kept, and what we sent to it. Of one that is bridged or
        attended: what was put aside."""
        self._collect(live, live.rtp, Kind.RTP)
        if rtcp and not live.stream.rtcp_mux:
            self._collect(live, live.rtcp, Kind.RTCP)
        if live.attendant is not None:
            self._collect_ours(live, live.attendant)

    def collect_many(self, lives: Sequence[LiveStream], kind: Kind) -> None:
        """Have kept what came to some streams' sockets for RTP, or for RTCP. None of them is
        bridged or attended, and all sockets are listened on."""
        volley, anchor = self._volley, self.anchor
        for first in range(0, len(lives), LANES):
            some = lives[first : first + LANES]
            taps = [live.rtp if kind is Kind.RTP else live.rtcp for live in some]
            mono_ns = time.monotonic_ns()
            for live, tap, found in zip(some, taps, volley.drain(taps, anchor), strict=True):
                if isinstance(found, Mingled):
                    self._keep(live, tap, kind, found.batches, found.latched)
                    continue
                if live.watch is not None and kind is Kind.RTP and found is not None:
                    self._show(live, [found.unpacked()])
                for keeping in live.keepers:
                    recording = keeping.recording
                    if found is not None:
                        recording.keep_packed(kind, keeping.number, tap, found, mono_ns)
                        self.kept += found.count if kind is Kind.RTP else 0
                    if recording.fresh:
                        recording.fresh.discard(tap)

    def report_latched(self) -> None:
        """Tell of the sources that the relay has latched."""
        while self._relay.latched:
            self._latched(self._relay.latched.pop(0))

    def _collect(self, live: LiveStream, tap: Tap, kind: Kind) -> None:
        if live.is_read_at_once:
            self._collect_relayed(live, tap, kind)
            return
        if tap.host is None:
            return
        batches, latched = tap.drain(self._sweeper, self.anchor)
        self._keep(live, tap, kind, batches, latched)

    def _keep(
        self,
        live: LiveStream,
        tap: Tap,
        kind: Kind,
        batches: list[Batch],
        latched: Latched | None,
    ) -> None:
        if latched is not None and kind is Kind.RTP:
            live.ssrc = latched.ssrc
            self._latched(live)
        if live.watch is not None and kind is Kind.RTP:
            self._show(live, batches)
        for keeping in live.keepers:
            for batch in batches:
                keeping.recording.keep(kind, keeping.number, tap, batch)
                self.kept += len(batch) if kind is Kind.RTP else 0
            if keeping.recording.fresh:
                keeping.recording.fresh.discard(tap)

    def _collect_relayed(self, live: LiveStream, tap: Tap, kind: Kind) -> None:
        if self._relay.latched:
            self.report_latched()
        found = self._relay.take(tap)
        if live.watch is not None and kind is Kind.RTP and found is not None:
            self._show(live, [found[0].unpacked()])
        mono_ns = time.monotonic_ns()
        for keeping in live.keepers:
            recording = keeping.recording
            if found is not None:
                packed, relayed = found
                count = packed.count
                if keeping.relayed and relayed is not None:
                    batch = packed.unpacked().select(relayed)
                    count = len(batch)
                    if count:
                        recording.keep(kind, keeping.number, tap, batch)
                else:
                    recording.keep_packed(kind, keeping.number, tap, packed, mono_ns)
                self.kept += count if kind is Kind.RTP else 0
            # Not before the relay itself has found the socket empty: there may be something left
            # in it from before the recording.
            if recording.fresh and tap.drained_ns > recording.after_ns + _UNDER_WAY_NS:
                recording.fresh.discard(tap)

    def _show(self, shown: LiveStream | Attendant, batches: list[Batch]) -> None:
        """Note what came or went for whoever looks on, if they still do."""
        assert shown.watch is not None
        if self.anchor.now().mono_ns > shown.watch.until_ns:
            shown.watch = None
        else:
            shown.watch.note(batches)

    def _collect_ours(self, live: LiveStream, attendant: Attendant) -> None:
        batch = attendant.take()
        if batch is not None:
            if attendant.watch is not None:
                self._show(attendant, [batch])
            for keeping in attendant.keepers:
                keeping.recording.keep(Kind.RTP, keeping.number, live.rtp, batch)

    def _latched(self, live: LiveStream) -> None:
        if live.rtp.latch.source is None:
            return
        now = self.anchor.now()
        for keeping in live.keepers:
            keeping.recording.note(Event.LATCH, now, stream=keeping.number, **live.source)
        self._on_latched(live)
