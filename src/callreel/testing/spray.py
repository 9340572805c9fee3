"""Somebody who throws packets at media ports, from addresses that no signalling has named.

``python -m callreel.testing.spray LOW HIGH RATE`` sends to every port from ``LOW`` to ``HIGH``, in
rounds, each from another address: a loud tone of G.711, keys (RFC 4733), RTCP and noise, to even
and odd ports alike. ``RATE`` is packets a second, 0: as many as go. It ends when its standard input
does, and says how many it sent and how late it was. :class:`Spray` starts one and ends it.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import numpy as np

from callreel.audio.g711 import encode_ulaw
from callreel.audio.tone import tone
from callreel.capture.outgoing import libc_sendmmsg
from callreel.capture.sweep import HEADER, HEADER_BYTES
from callreel.wire.rtp import RtpPacket
from callreel.wire.telephone_event import EventPayload

TONE_HZ = 3000
"""What is heard wherever a stranger got through."""
KEY = "9"
"""The key that it presses."""
HOSTS = tuple(f"127.0.66.{number}" for number in range(1, 9))
"""Where it comes from."""
SSRC = 0x0BAD0BAD
_AT_ONCE = 512
_FRAME_SAMPLES = 160
_BUFFER_BYTES = 1 << 20
_NICENESS = 10
"""It may have what is left of the machine, and not what calls need."""


class Spray:
    """A process that sprays until it is ended. A context manager.

    ``rate`` is packets a second, 0: as many as go.
    """

    def __init__(self, low: int, high: int, *, rate: int = 0) -> None:
        self._argv = [sys.executable, "-m", "callreel.testing.spray", str(low), str(high)]
        self._argv.append(str(rate))
        self._process: subprocess.Popen[bytes] | None = None
        self.sent = 0
        """Packets, once it has ended."""
        self.seconds = 0.0
        """For how long, once it has ended."""
        self.late_ms = 0.0
        """How far it was behind its rate at most, once it has ended."""

    def start(self) -> None:
        """Start, and wait for the first packets to be out."""
        self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def end(self) -> None:
        """End it, and learn what it did. Nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            told, _ = process.communicate()
            if told:
                found = json.loads(told)
                self.sent, self.seconds = found["sent"], found["seconds"]
                self.late_ms = found["late_ms"]

    def __enter__(self) -> Self:
        """Started."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ended."""
        self.end()


def thrown(number: int) -> bytes:
    """What round ``number`` throws at every port: mostly the tone, and one of each other kind."""
    stamp = number * _FRAME_SAMPLES & 0xFFFFFFFF
    sequence = number & 0xFFFF
    match number % 8:
        case 3:  # RTCP: a sender report (RFC 3550 §6.4.1)
            return struct.pack(">BBHIQIII", 0x80, 200, 6, SSRC, number << 32, stamp, number, 0)
        case 5:
            key = EventPayload(int(KEY), False, _FRAME_SAMPLES, 0).serialize()
            return RtpPacket(101, sequence, stamp, SSRC, key).serialize()
        case 7:
            return bytes(24)
    sound = tone(TONE_HZ, _FRAME_SAMPLES, start_sample=number * _FRAME_SAMPLES, level_dbfs=-6.0)
    return RtpPacket(0, sequence, stamp, SSRC, encode_ulaw(sound).tobytes()).serialize()


class _Thrower:
    """Sends one packet to each of many ports, ``_AT_ONCE`` a call."""

    def __init__(self, low: int, high: int) -> None:
        self._sockets = [_socket(host) for host in HOSTS]
        ports = range(low, high + 1)
        self.ports = len(ports)
        self._packet = bytearray(256)
        self._names = bytearray(
            b"".join(
                struct.pack("=H", socket.AF_INET)
                + struct.pack("!H", port)
                + socket.inet_aton("127.0.0.1")
                + bytes(8)
                for port in ports
            )
        )
        self._iovec = np.zeros(2, np.uintp)
        self._iovec[0] = np.frombuffer(self._packet, np.uint8).ctypes.data
        self._headers = np.zeros(self.ports, HEADER)
        names = np.frombuffer(self._names, np.uint8).ctypes.data
        self._headers["name"] = names + np.arange(self.ports, dtype=np.uintp) * 16
        self._headers["namelen"] = 16
        self._headers["iov"] = self._iovec.ctypes.data
        self._headers["iovlen"] = 1
        self._sendmmsg = libc_sendmmsg()

    def round(self, number: int) -> int:
        """A packet to every port; how many went."""
        data = thrown(number)
        self._packet[: len(data)] = data
        self._iovec[1] = len(data)
        fd = self._sockets[number % len(self._sockets)].fileno()
        sent = 0
        for at in range(0, self.ports, _AT_ONCE):
            address = self._headers.ctypes.data + at * HEADER_BYTES
            done = self._sendmmsg(fd, address, min(_AT_ONCE, self.ports - at), 0)
            if done < 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            sent += done
        return sent

    def close(self) -> None:
        """Close its sockets."""
        for sock in self._sockets:
            sock.close()


def _socket(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    sock.bind((host, 0))
    return sock


def main(low: int, high: int, rate: int) -> None:
    """Spray until standard input ends."""
    os.nice(_NICENESS)
    thrower = _Thrower(low, high)
    started = time.monotonic()
    sent = 0
    latest = 0.0
    for number in itertools.count():
        wait = 0.0
        if rate:
            wait = started + sent / rate - time.monotonic()
            latest = max(latest, -wait)
        if select.select([sys.stdin], [], [], max(0.0, wait))[0]:
            break
        sent += thrower.round(number)
        if number == 8:
            _say({"spraying": thrower.ports})
    seconds = time.monotonic() - started
    thrower.close()
    _say({"sent": sent, "seconds": seconds, "late_ms": latest * 1000})


def _say(value: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
