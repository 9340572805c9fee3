"""The media of one call: RTP and RTCP both ways on two sockets, and the file of what was heard."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from callreel.audio.codec import Format
from callreel.base.clock import Clock
from callreel.base.errors import MachineError, PeerError
from callreel.calls.media import Srtp
from callreel.phone.description import Agreed
from callreel.phone.digits import DigitSender, EventFrame
from callreel.phone.heard import AHEAD_SAMPLES, Heard
from callreel.phone.reception import Placed, Reception
from callreel.phone.rtcp import (
    Report,
    ReportBlock,
    SenderInfo,
    middle,
    ntp_of,
    round_trip_s,
    wall_of,
)
from callreel.phone.sender import FrameSource
from callreel.phone.sources import FRAME_SAMPLES, RATE_HZ, AudioSource, encode_source
from callreel.render.wav import WavWriter
from callreel.wire.rtp import Packetizer, RtpPacket, is_rtcp
from callreel.wire.srtp import Protector, Unprotector
from callreel.wire.telephone_event import DigitReceiver

REPORT_FRAMES = 250
"""A report every 5 s (RFC 3550 §6.2); between two parties there is no crowd to spread."""
FIRST_REPORT_FRAMES = (25, 50)
"""The first two come soon: the second answers the peer's first, so that short calls too know their
round trip."""

_FLUSH_FRAMES = 25
_MAX_PAYLOAD_BYTES = 1600  # 200 ms of G.711
_DATAGRAMS_PER_WAKE = 64
_PORT_TRIES = 64
_SO_TIMESTAMPNS = 35  # Linux; the kernel's stamp, so that a late wake-up is not taken for jitter
_TIMESPEC = struct.Struct("@ll")
_RECEIVE_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class MediaStats:
    """What went over the wire, and how well it came."""

    packets_sent: int
    """RTP, digits among them."""
    packets_received: int
    """RTP, duplicates among them."""
    packets_expected: int
    """By the peer's sequence numbers."""
    lost: int
    """Of those, never came."""
    duplicated: int
    """Came twice."""
    reordered: int
    """Came after one sent later."""
    late: int
    """Came more than 60 ms behind the earliest-arrival line."""
    strange: int
    """Came from another host than the peer's, or were no RTP of this call; not counted above."""
    jitter_ms: float
    """Interarrival jitter at the end (RFC 3550 §6.4.1)."""
    most_jitter_ms: float
    """The highest that it was."""
    round_trip_ms: float | None
    """The shortest that RTCP measured; None if the peer sent no reports."""
    delay_ms: float | None
    """Mean one-way delay, sender's schedule to our socket; known only between programs that share
    a clock."""
    most_delay_ms: float | None
    """The longest."""
    peer_lost: int | None
    """Of ours, what the peer says did not come; None if it did not say."""


class CallMedia:
    """One audio stream both ways. Opens its sockets at once, reads them from :meth:`aim` on.

    A file to ``record`` to is begun at once too, so that a bad path stops the call before it rings.
    ``source`` plays; a live one gives frames of the codec agreed upon. ``host_token`` names this
    machine's clock: who uses the same can tell the delay of what we send.
    """

    def __init__(
        self,
        host: str,
        source: AudioSource | FrameSource,
        *,
        clock: Clock,
        entropy: str,
        host_token: str,
        on_digit: Callable[[str], None],
        record: Path | None = None,
    ) -> None:
        self._file: BinaryIO | None = None
        self._wav: WavWriter | None = None
        if record is not None:
            try:
                self._file = record.open("wb")
            except OSError as error:
                text = f"cannot write: {error.strerror}"
                raise MachineError(text, path=record) from None
            self._wav = WavWriter(self._file, rate_hz=RATE_HZ, channels=1)
        self._recording_since: float | None = None
        self._clock = clock
        self._source = source
        self._on_digit = on_digit
        self._cname = f"{entropy[:12]}@{host_token}"
        self._host_token = host_token
        self._packetizer = Packetizer(
            ssrc=int(entropy[:8], 16),
            payload_type=0,
            sequence=int(entropy[8:12], 16),
            timestamp=int(entropy[12:20], 16),
        )
        try:
            self._rtp, self._rtcp = _open_pair(host)
        except MachineError:
            if self._file is not None:
                self._file.close()
            raise
        self.port: int = self._rtp.getsockname()[1]
        """Where RTP comes to; RTCP to the next one."""
        self.digits = DigitSender()
        """What is to be dialled."""
        self.reception = Reception()
        """What came."""
        self.packets_sent = 0
        """RTP, since the start."""
        self._octets_sent = 0
        self._strange = 0
        self._agreed: Agreed | None = None
        self._hosts: frozenset[str] = frozenset()
        self._names: dict[int, str] = {}
        self._decoders = {name: Format(name, RATE_HZ).decoder() for name in ("PCMU", "PCMA")}
        self._frames: dict[str, FrameSource] = {}
        self._frame = 0
        self._sending = False
        self._listening = False
        self._reading = False
        self._pressed = DigitReceiver()
        self._schedule: float | None = None
        self._peer_sr: tuple[int, float, SenderInfo] | None = None
        self._peer_same_clock = False
        self._round_trip_s: float | None = None
        self._delays = (0, 0.0, 0.0)
        self._peer_lost: int | None = None
        self._heard = Heard()
        self._protector: Protector | None = None
        self._unprotectors: list[Unprotector] = []
        self._closed = False

    # Told by the signalling

    def aim(self, agreed: Agreed, *, signalling_host: str) -> None:
        """Send and take what was agreed upon."""
        self._agreed = agreed
        self._protect(agreed.srtp)
        self._names = dict(agreed.codecs)
        hosts = {signalling_host}
        hosts |= {address[0] for address in (agreed.remote, agreed.rtcp) if address is not None}
        self._hosts = frozenset(hosts)
        self._packetizer.payload_type = agreed.payload_type
        if agreed.codec not in self._frames:
            source = self._source
            self._frames[agreed.codec] = (
                encode_source(source, agreed.codec) if isinstance(source, AudioSource) else source
            )
        if not self._reading:
            self._reading = True
            loop = asyncio.get_running_loop()
            loop.add_reader(self._rtp, self._read, self._rtp)
            loop.add_reader(self._rtcp, self._read, self._rtcp)

    def _protect(self, srtp: Srtp | None) -> None:
        """A context goes on where its key does; what is late under a former one still counts."""
        if srtp is None:
            self._protector, self._unprotectors = None, []
            return
        if self._protector is None or self._protector.key != srtp.send:
            self._protector = Protector(srtp.send)
        if not self._unprotectors or self._unprotectors[0].key != srtp.receive:
            self._unprotectors = [Unprotector(srtp.receive), *self._unprotectors[:1]]

    def begin(self, *, sending: bool) -> None:
        """From now on what comes counts and is recorded; ``sending``: and we speak."""
        self._sending = self._sending or sending
        if not self._listening:
            self._listening = True
            self._recording_since = self._clock.monotonic()

    @property
    def codec(self) -> str | None:
        """What is sent; None before anything was agreed upon."""
        return None if self._agreed is None else self._agreed.codec

    @property
    def has_begun(self) -> bool:
        """Whether what comes counts."""
        return self._listening

    # Every 20 ms

    def send_frame(self) -> None:
        """Send the next 20 ms, or let them pass."""
        number = self._frame
        self._frame += 1
        event = self.digits.next_frame() if self._sending else None
        if self._sending and self._agreed is not None and self._agreed.remote is not None:
            self._note_schedule()
            if event is not None and self._agreed.event_type is not None:
                self._send_event(event, self._agreed.event_type, self._agreed.remote)
            else:
                payload = self._frames[self._agreed.codec].frame(number)
                packet = self._packetizer.packet(payload, ticks=FRAME_SAMPLES)
                self._send_rtp(packet, len(payload), self._agreed.remote)
        else:
            self._packetizer.pass_silence(FRAME_SAMPLES)
        if number % _FLUSH_FRAMES == 0:
            self._flush(self._heard_until() - AHEAD_SAMPLES // 10)
        if number in FIRST_REPORT_FRAMES or (number and number % REPORT_FRAMES == 0):
            self._send_report()

    def _send_event(self, event: EventFrame, payload_type: int, remote: tuple[str, int]) -> None:
        sender = self._packetizer
        payload = event.payload.serialize()
        packet = RtpPacket(
            payload_type=payload_type,
            sequence=sender.sequence,
            timestamp=(sender.timestamp - event.number * FRAME_SAMPLES) & 0xFFFFFFFF,
            ssrc=sender.ssrc,
            payload=payload,
            marker=event.number == 0,
        )
        sender.sequence = (sender.sequence + 1) & 0xFFFF
        sender.pass_silence(FRAME_SAMPLES)
        self._send_rtp(packet.serialize(), len(payload), remote)

    def _send_rtp(self, packet: bytes, octets: int, remote: tuple[str, int]) -> None:
        protected = packet if self._protector is None else self._protector.rtp(packet)
        if protected is None:
            return
        packet = protected
        # A full buffer or an ICMP refusal is a packet lost, as on any network.
        with contextlib.suppress(OSError):
            self._rtp.sendto(packet, remote)
            self.packets_sent += 1
            self._octets_sent += octets

    def _note_schedule(self) -> None:
        """Wall time at which frame 0 was due: by the promptest frame, since none goes early."""
        start = self._wall() - (self._frame - 1) * FRAME_SAMPLES / RATE_HZ
        self._schedule = start if self._schedule is None else min(self._schedule, start)

    # What comes

    def _read(self, sock: socket.socket) -> None:
        for _ in range(_DATAGRAMS_PER_WAKE):
            try:
                data, ancillary, _, source = sock.recvmsg(2048, 64)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP answer to something we sent; the socket goes on
            if not self._listening or self._agreed is None:
                continue
            if source[0].partition("%")[0] not in self._hosts:
                self._strange += 1
                continue
            wall = self._wall()
            stamp = _stamp(ancillary, wall)
            clear = self._unprotected(data, of_rtcp=sock is self._rtcp or is_rtcp(data))
            if clear is None:
                self._strange += 1
                continue
            data = clear
            if sock is self._rtcp or is_rtcp(data):
                self._receive_report(data, stamp)
            else:
                self._receive_rtp(data, stamp, self._clock.monotonic() - max(0.0, wall - stamp))

    def _unprotected(self, data: bytes, *, of_rtcp: bool) -> bytes | None:
        if self._protector is None:
            return data
        for one in self._unprotectors:
            clear = one.rtcp(data) if of_rtcp else one.rtp(data)
            if isinstance(clear, bytes):
                return clear
        return None

    def _receive_rtp(self, data: bytes, stamp: float, arrival: float) -> None:
        assert self._agreed is not None
        try:
            packet = RtpPacket.parse(data)
        except PeerError:
            self._strange += 1
            return
        if packet.payload_type == self._agreed.event_type:
            if self.reception.receive(packet, arrival=arrival, ticks=0, is_audio=False):
                digit = self._pressed.receive(
                    packet.payload, ssrc=packet.ssrc, timestamp=packet.timestamp
                )
                if digit is not None:
                    self._on_digit(digit)
            return
        name = self._names.get(packet.payload_type)
        if name is None or not 0 < len(packet.payload) <= _MAX_PAYLOAD_BYTES:
            self._strange += 1
            return
        placed = self.reception.receive(packet, arrival=arrival, ticks=len(packet.payload))
        if placed is None:
            return
        self._note_delay(packet, stamp)
        if self._wav is not None:
            self._hear(name, packet.payload, placed, arrival)

    def _hear(self, name: str, payload: bytes, placed: Placed, arrival: float) -> None:
        decoder = self._decoders[name]
        samples = decoder.decode(
            np.frombuffer(payload, np.uint8), np.array([len(payload)], np.int64)
        )
        assert self._recording_since is not None
        came = round((arrival - self._recording_since) * RATE_HZ)
        self._heard.place(placed.stretch, placed.media, samples, arrival_sample=came)

    def _note_delay(self, packet: RtpPacket, stamp: float) -> None:
        if self._peer_sr is None or not self._peer_same_clock or self._peer_sr[0] != packet.ssrc:
            return
        info = self._peer_sr[2]
        ticks = (packet.timestamp - info.timestamp) & 0xFFFFFFFF
        ticks -= 1 << 32 if ticks & 0x80000000 else 0
        delay = stamp - wall_of(info.ntp) - ticks / RATE_HZ
        count, total, most = self._delays
        self._delays = (count + 1, total + delay, max(most, delay))

    # Reports

    def _send_report(self, *, leaves: bool = False) -> None:
        if self._agreed is None or self._agreed.rtcp is None or not self._listening:
            return
        now = self._wall()
        sender = None
        if self.packets_sent and self._schedule is not None:
            # The next frame's timestamp, and how far it is ahead of this instant.
            ahead = self._schedule + self._frame * FRAME_SAMPLES / RATE_HZ - now
            timestamp = self._packetizer.timestamp - round(ahead * RATE_HZ)
            sender = SenderInfo(
                ntp_of(now),
                timestamp & 0xFFFFFFFF,
                self.packets_sent & 0xFFFFFFFF,
                self._octets_sent & 0xFFFFFFFF,
            )
        counted = self.reception.report()
        blocks: tuple[ReportBlock, ...] = ()
        if counted is not None:
            last, since = 0, 0
            if self._peer_sr is not None and self._peer_sr[0] == counted.ssrc:
                last = middle(self._peer_sr[2].ntp)
                since = round(max(0.0, now - self._peer_sr[1]) * 65536) & 0xFFFFFFFF
            blocks = (ReportBlock(counted, last, since),)
        report = Report(self._packetizer.ssrc, sender, blocks, self._cname, leaves)
        sock = self._rtp if self._agreed.rtcp_mux else self._rtcp
        data: bytes | None = report.serialize()
        if self._protector is not None and data is not None:
            data = self._protector.rtcp(data)
        if data is not None:
            with contextlib.suppress(OSError):
                sock.sendto(data, self._agreed.rtcp)

    def _receive_report(self, data: bytes, stamp: float) -> None:
        try:
            report = Report.parse(data)
        except PeerError:
            self._strange += 1
            return
        if report.cname:
            self._peer_same_clock = report.cname.rpartition("@")[2] == self._host_token
        if report.sender is not None:
            self._peer_sr = (report.ssrc, stamp, report.sender)
        for block in report.blocks:
            if block.reception.ssrc == self._packetizer.ssrc:
                self._peer_lost = block.reception.lost
                trip = round_trip_s(block, arrival_ntp=ntp_of(stamp))
                if trip is not None:
                    known = self._round_trip_s
                    self._round_trip_s = trip if known is None else min(known, trip)

    # The end

    def close(self) -> None:
        """Say goodbye by RTCP, finish the file, give the sockets back."""
        if self._closed:
            return
        self._closed = True
        if self._reading:
            for sock in (self._rtp, self._rtcp):
                self._read(sock)  # what waits was still said
                asyncio.get_running_loop().remove_reader(sock)
        self._send_report(leaves=True)
        self._flush(self._heard_until())
        if self._wav is not None and self._file is not None:
            self._wav.finish()
            self._file.close()
        self._rtp.close()
        self._rtcp.close()

    def stats(self) -> MediaStats:
        """As it stands."""
        count, total, most = self._delays
        reception = self.reception
        return MediaStats(
            packets_sent=self.packets_sent,
            packets_received=reception.received,
            packets_expected=reception.expected,
            lost=reception.lost,
            duplicated=reception.duplicated,
            reordered=reception.reordered,
            late=reception.late,
            strange=self._strange,
            jitter_ms=round(reception.jitter_ms, 3),
            most_jitter_ms=round(reception.most_jitter_ms, 3),
            round_trip_ms=_ms(self._round_trip_s),
            delay_ms=_ms(total / count) if count else None,
            most_delay_ms=_ms(most) if count else None,
            peer_lost=self._peer_lost,
        )

    def _heard_until(self) -> int:
        if self._recording_since is None:
            return 0
        return round((self._clock.monotonic() - self._recording_since) * RATE_HZ)

    def _flush(self, until_sample: int) -> None:
        if self._wav is None:
            return
        while len(samples := self._heard.take(until_sample)):
            self._wav.write(samples.reshape(-1, 1))

    def _wall(self) -> float:
        return self._clock.now().timestamp()


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _stamp(ancillary: list[tuple[int, int, bytes]], now: float) -> float:
    """The kernel's wall time of arrival, seconds; ``now`` if it gave none."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, ns = _TIMESPEC.unpack_from(data)
            return float(seconds + ns / 1e9)
    return now


def _open_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """Sockets on an even port and the one above it (RFC 3550 §11)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_PORT_TRIES):
        rtp = socket.socket(family, socket.SOCK_DGRAM)
        rtcp = socket.socket(family, socket.SOCK_DGRAM)
        try:
            rtp.bind((host, 0))
            port = rtp.getsockname()[1]
            if port % 2 == 0:
                rtcp.bind((host, port + 1))
                for sock in (rtp, rtcp):
                    sock.setblocking(False)
                    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
                return rtp, rtcp
        except OSError:
            pass  # the next one up is taken, say: another pair may be free
        rtp.close()
        rtcp.close()
    raise MachineError(f"no pair of free UDP ports on {host}")
