"""Recorded calls, ours beside rtpengine's: CPU for a second of a call.

rtpengine (Debian: rtpengine-daemon) runs in userspace, without its kernel module, and records to
pcap files; it relays what it records. A media worker of ours does the same with bridged calls, and
then what rtpengine has no counterpart to: calls that are only received. The same sender processes,
one after the other, over loopback, in one run. Exit status 1 if a packet was lost of ours; 0, and
nothing measured, where there is no rtpengine.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.figures import quantiles, show
from bench.processes import cpu_s
from bench.rtp_load import LoadProcess
from bench.sweep import Worker, raise_file_limit
from callreel.calls.media import Codec, Stream
from callreel.calls.model import Track
from callreel.capture.protocol import Op, Request

PCMU = (Codec(0, "PCMU", 8000),)
PACKETS_A_CALL_SECOND = 100
WARM_UP_S = 1.5
START_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one way of recording cost."""

    cpu_ms: float
    """For a second of a call."""
    sent: int
    """Packets from the senders."""
    heard: int
    """Packets that came back to them."""
    kept: int
    """Packets that were recorded; -1 where nobody says."""
    late: str
    """How late the senders were."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench rtpengine", description=about)
    parser.add_argument("--calls", type=int, default=100, help="at once (default: 100)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of talk (default: 10)")
    parser.add_argument("--port", type=int, default=14000, help="first for media (default: 14000)")
    asked = parser.parse_args(arguments)
    raise_file_limit()
    program = shutil.which("rtpengine")
    if program is None:
        show("rtpengine", "not installed: nothing to compare with")
        return 0
    low, high = asked.port, asked.port + 16 * asked.calls
    outcomes: dict[str, Outcome] = {}
    ways: dict[str, Callable[[Path], Way]] = {
        "rtpengine": lambda folder: Theirs(program, folder, low, high),
        "callreel, bridged": lambda folder: Bridged(folder, low, high),
        "callreel, received": lambda folder: Received(folder, low, high),
    }
    for name, made in ways.items():
        with tempfile.TemporaryDirectory(prefix="callreel-bench-") as folder:
            outcomes[name] = measure(made(Path(folder)), asked.calls, asked.seconds)
        one = outcomes[name]
        show(name, f"{one.cpu_ms:.2f} ms of CPU for a second of a recorded call")
        show("  packets", f"{one.sent} sent, {one.heard} relayed, {_said(one.kept)} recorded")
        show("  senders' lateness", one.late)
    theirs, bridged, received = outcomes.values()
    show("bridged, to rtpengine", f"{bridged.cpu_ms / theirs.cpu_ms:.2f} of its CPU")
    show(
        "received only, to rtpengine",
        f"{received.cpu_ms / theirs.cpu_ms:.2f} of its CPU, {theirs.cpu_ms / received.cpu_ms:.1f} "
        "times less; rtpengine relays too",
    )
    lost = bridged.kept != bridged.sent or received.kept != received.sent
    if lost:
        print("  WRONG: not all that was sent to us was recorded")
    return 1 if lost else 0


def _said(kept: int) -> str:
    return "not told how many" if kept < 0 else str(kept)


class Way:
    """Somebody who records calls. ``pid`` is the process that is looked at."""

    pid: int

    def open(self, number: int, ports: tuple[int, int]) -> tuple[int, int]:
        """Set a recorded call up between two parties' ports; where each sends to."""
        raise NotImplementedError

    def close(self, number: int) -> int:
        """End a call; the packets recorded, or -1."""
        raise NotImplementedError

    def end(self) -> None:
        """End the process."""
        raise NotImplementedError


def measure(way: Way, calls: int, seconds: float) -> Outcome:
    """One way of recording."""
    load = LoadProcess(2 * calls, hears=True)
    try:
        for number in range(calls):
            one, two = load.streams[2 * number : 2 * number + 2]
            to = way.open(number, (one.port, two.port))
            one.remote, two.remote = (("127.0.0.1", port) for port in to)
        load.start(time.monotonic() + 0.2)
        time.sleep(0.2 + WARM_UP_S)
        before_s, started_ns = cpu_s(way.pid), time.time_ns()
        time.sleep(seconds)
        used_s, ended_ns = cpu_s(way.pid) - before_s, time.time_ns()
        sent = load.finish()
        kept = [way.close(number) for number in range(calls)]
    finally:
        load.kill()
        way.end()
    # By what was sent: where the senders were late there was less to do.
    within = ((sent.before_ns >= started_ns) & (sent.before_ns < ended_ns)).sum()
    return Outcome(
        1000 * used_s / within * PACKETS_A_CALL_SECOND,
        int((sent.before_ns > 0).sum()),
        sum(len(one.arrived_ns) for one in sent.heard),
        sum(kept) if min(kept) >= 0 else -1,
        quantiles(sent.lateness_ms),
    )


class Ours(Way):
    """A media worker of ours."""

    def __init__(self, folder: Path, low: int, high: int) -> None:
        self.worker = Worker(folder, low, high, 500)
        self.pid = self.worker.pid

    @classmethod
    def beside(cls, other: Ours) -> Self:
        """Another way, in the same worker."""
        made = cls.__new__(cls)
        made.worker, made.pid = other.worker, other.pid
        return made

    def close(self, number: int) -> int:
        """Stop the recording."""
        answer = self.worker.ask(Request(Op.STOP, recording_id=f"{number:032x}"))
        return int(answer["packets"])

    def end(self) -> None:
        """End the worker."""
        self.worker.end()

    def _open(self, call_id: str, *streams: Stream) -> list[int]:
        answer = self.worker.ask(Request(Op.OPEN, call_id=call_id, streams=streams))
        return list(answer["ports"].values())

    def _start(self, number: int) -> None:
        tracks = (Track.INBOUND, Track.OUTBOUND)
        name = f"{number:032x}"
        self.worker.ask(Request(Op.START, call_id=name, recording_id=name, tracks=tracks))


class Received(Ours):
    """Two streams that are only received."""

    def open(self, number: int, ports: tuple[int, int]) -> tuple[int, int]:
        """A call of two streams."""
        tracks = (Track.INBOUND, Track.OUTBOUND)
        one, two = self._open(
            f"{number:032x}",
            *(
                Stream(index, track, "127.0.0.1", port, PCMU)
                for index, (track, port) in enumerate(zip(tracks, ports, strict=True))
            ),
        )
        self._start(number)
        return one, two


class Bridged(Ours):
    """Two calls of one stream, bridged."""

    def open(self, number: int, ports: tuple[int, int]) -> tuple[int, int]:
        """A call, and the one that it is bridged with."""
        names = f"{number:032x}", f"{1 << 64 | number:032x}"
        found = [
            self._open(name, Stream(0, Track.INBOUND, "127.0.0.1", port, PCMU))[0]
            for name, port in zip(names, ports, strict=True)
        ]
        self.worker.ask(Request(Op.BRIDGE, call_id=names[0], other_call_id=names[1]))
        self._start(number)
        return found[0], found[1]


class Theirs(Way):
    """rtpengine, asked by its ng protocol."""

    def __init__(self, program: str, folder: Path, low: int, high: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            control = probe.getsockname()
        self._process = subprocess.Popen(
            [
                *(program, "--foreground", "--table=-1", "--log-level=2", "--log-stderr"),
                *("--interface=127.0.0.1", f"--listen-ng=127.0.0.1:{control[1]}"),
                *(f"--port-min={low}", f"--port-max={high}", f"--pidfile={folder / 'pid'}"),
                *(f"--recording-dir={folder}", "--recording-method=pcap"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,  # it may leave a core dump behind when it is ended
        )
        self.pid = self._process.pid
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect(control)
        self._numbers = iter(range(1 << 30))
        self._until_up()

    def open(self, number: int, ports: tuple[int, int]) -> tuple[int, int]:
        """An offer and an answer, and the order to record."""
        names = {"call-id": f"call-{number}", "from-tag": "one"}
        offered = self._ask({"command": "offer", **names, "sdp": _sdp(ports[0])})
        answered = self._ask({"command": "answer", **names, "to-tag": "two", "sdp": _sdp(ports[1])})
        self._ask({"command": "start recording", **names})
        # What the one is answered is where it sends to, and what the other is offered is where
        # that one does.
        return _port(answered), _port(offered)

    def close(self, number: int) -> int:
        """Delete the call."""
        self._ask({"command": "delete", "call-id": f"call-{number}", "from-tag": "one"})
        return -1

    def end(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.terminate()
        self._process.wait()

    def _until_up(self) -> None:
        deadline = time.monotonic() + START_S
        self._socket.settimeout(0.2)
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self._ask({"command": "ping"})
                self._socket.settimeout(5)
                return
            time.sleep(0.05)
        self.end()
        raise SystemExit("rtpengine does not come up")

    def _ask(self, command: Mapping[str, str]) -> Mapping[str, object]:
        cookie = f"{next(self._numbers)}_".encode()
        self._socket.send(cookie + b" " + bencoded(command))
        while True:
            got, _, body = self._socket.recv(65536).partition(b" ")
            if got != cookie:
                continue
            answer = bdecoded(body)
            if answer.get("result") not in ("ok", "pong"):
                raise SystemExit(f"rtpengine: {dict(command)['command']}: {answer}")
            return answer


def _sdp(port: int) -> str:
    return (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
    )


def _port(answer: Mapping[str, object]) -> int:
    lines = str(answer["sdp"]).splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("m=audio"))


def bencoded(value: Mapping[str, str]) -> bytes:
    """A dictionary of texts, as the ng protocol wants it."""
    pieces = (text.encode() for pair in value.items() for text in pair)
    return b"d" + b"".join(b"%d:%s" % (len(piece), piece) for piece in pieces) + b"e"


def bdecoded(data: bytes) -> dict[str, object]:
    """A dictionary, as the ng protocol answers."""
    at = 0

    def one() -> object:
        nonlocal at
        head = data[at : at + 1]
        if head == b"i":
            end = data.index(b"e", at)
            number, at = int(data[at + 1 : end]), end + 1
            return number
        if head in (b"l", b"d"):
            at += 1
            items = []
            while data[at : at + 1] != b"e":
                items.append(one())
            at += 1
            if head == b"l":
                return items
            return {str(name): value for name, value in zip(items[::2], items[1::2], strict=True)}
        colon = data.index(b":", at)
        start, length = colon + 1, int(data[at:colon])
        at = start + length
        return data[start:at].decode(errors="replace")

    found = one()
    assert isinstance(found, dict)
    return found


if __name__ == "__main__":
    sys.exit(main())
