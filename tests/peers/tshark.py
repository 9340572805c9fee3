"""tshark as a judge of what we send: it dissects every message that a SIP port saw."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_START_S = 10.0
_WRITTEN_S = 0.4
"""By then what was captured is in the file."""
_REMARKABLE = "_ws.malformed || (sip && _ws.expert.severity >= 0x00400000)"
"""What a dissector of any layer chokes on, and notes, warnings and errors on a SIP message."""


class Capture:
    """All that passes over loopback from and to a port."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self.fault = ""
        """Why there is none."""

    @property
    def log(self) -> str:
        return (self._folder / "tshark.log").read_text(errors="replace")

    def ours(self, where: str, *fields: str) -> list[str]:
        """Fields of the packets that came from the port, one line for each."""
        if self.fault:
            pytest.skip(self.fault)
        time.sleep(_WRITTEN_S)
        found = subprocess.run(
            [
                *("tshark", "-r", str(self._folder / "sip.pcapng"), "-T", "fields"),
                *("-d", f"udp.port=={self._port},sip", "-d", f"tcp.port=={self._port},sip"),
                *("-Y", f"(udp.srcport=={self._port} || tcp.srcport=={self._port}) && ({where})"),
                *(part for field in fields for part in ("-e", field)),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        # A file that is still being written ends within a packet: that is said, and no fault.
        assert found.returncode in (0, 2), found.stderr
        return found.stdout.splitlines()


@contextmanager
def captured(folder: Path, port: int) -> Iterator[Capture]:
    """Capture for as long as this lasts; where that cannot be, its ``fault`` says why."""
    made = Capture(folder, port)
    if shutil.which("tshark") is None:
        made.fault = "tshark is not installed (Debian: tshark)"
        yield made
        return
    with (folder / "tshark.log").open("wb") as log:
        process = subprocess.Popen(
            ["tshark", "-q", "-i", "lo", "-f", f"port {port}", "-w", str(folder / "sip.pcapng")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _START_S
        while "Capture started" not in made.log:
            if process.poll() is not None or time.monotonic() > deadline:
                made.fault = f"tshark may not capture here: {made.log[-300:]}"
                break
            time.sleep(0.02)
        yield made
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def assert_well_formed(capture: Capture, *, at_least: int) -> None:
    """Of so many messages of ours none is malformed, or worth a remark."""
    seen = len(capture.ours("sip", "frame.number"))
    assert seen >= at_least, seen
    shown = ("frame.number", "_ws.col.Info", "_ws.expert.message", "sip.Call-ID")
    for where in (_REMARKABLE, "udp && !sip"):
        remarks = capture.ours(where, *shown)
        assert not remarks, remarks
