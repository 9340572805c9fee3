"""The machine: Python, its clock, buffers."""

from __future__ import annotations

import ctypes
import platform
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from callreel.capture.sockets import RCVBUF_BYTES, SO_RCVBUFFORCE
from callreel.server.doctor.finding import Finding, fail, ok, warn
from callreel.server.settings import Settings
from callreel.signalling.transport import RECEIVE_BUFFER_BYTES

_TIME_ERROR = 5
_TIMEX_BYTES = 512
_OLDEST_YEAR = 2025


def python(_: Settings) -> Iterator[Finding]:
    """The interpreter and the kernel."""
    version = platform.python_version()
    if sys.platform != "linux":
        yield fail("python", f"{version} on {sys.platform}", "callreel runs on Linux")
    else:
        yield ok("python", f"{version}, Linux {platform.release()}")


def clock(_: Settings) -> Iterator[Finding]:
    """Whether the time is right, as far as the kernel knows."""
    if datetime.now(UTC).year < _OLDEST_YEAR:
        yield fail("clock", f"it says {datetime.now(UTC):%Y-%m-%d}", "set the machine's clock")
        return
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))  # asks, changes nothing
    if state == _TIME_ERROR:
        yield warn(
            "clock",
            "nothing keeps it right",
            "run chrony or systemd-timesyncd: recordings and webhooks are dated by it, and TLS "
            "needs it",
        )
    elif state < 0:
        yield warn("clock", "the kernel does not say whether it is right", "make sure that it is")
    else:
        yield ok("clock", "it is kept right")


def receive_buffers(_: Settings) -> Iterator[Finding]:
    """Whether the kernel gives the buffers that media and SIP ask for."""
    for name, wanted in (("media", RCVBUF_BYTES), ("SIP", RECEIVE_BUFFER_BYTES)):
        yield buffer_finding(name, wanted, _granted(wanted))


def buffer_finding(name: str, wanted: int, granted: int) -> Finding:
    """What it means to get so many bytes. Pure."""
    if granted >= wanted:
        return ok("receive buffers", f"{name}: {granted // 1024} KiB, as asked for")
    return warn(
        "receive buffers",
        f"{name}: {granted // 1024} KiB of the {wanted // 1024} asked for: packets may be lost "
        "when this machine is busy",
        f"sysctl -w net.core.rmem_max={RECEIVE_BUFFER_BYTES}, and the same in /etc/sysctl.d",
    )


def _granted(wanted: int) -> int:
    """What a socket gets, asked for as the server asks."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, wanted)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # Linux tells it doubled
