"""SIPp as a phone: one scenario, one socket, a tone."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import numpy as np

from callreel.audio.g711 import encode_alaw, encode_ulaw
from callreel.audio.tone import tone
from tests.peers.scenarios import TONES
from tests.peers.sipp import need_sipp
from tests.ports import free_port_pair

_SECONDS = 30


class Agent:
    """SIPp running a scenario. Made by :meth:`start`; close it."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, port: int) -> None:
        self._process = process
        self._folder = folder
        self.port = port
        """Where its SIP is."""

    @classmethod
    async def start(
        cls,
        folder: Path,
        xml: str,
        *,
        hz: int = 0,
        port: int = 0,
        to: str | None = None,
        transport: str = "udp",
        calls: int = 1,
        rate: int = 20,
        more: tuple[str, ...] = (),
    ) -> Agent:
        """With ``to`` (HOST:PORT) it calls there, else it waits to be called at ``port``."""
        folder.mkdir(parents=True, exist_ok=True)
        port = port or free_port_pair()
        (folder / "scenario.xml").write_text(xml)
        samples = tone(hz, 8000) if hz else np.zeros(8000, np.int16)
        (folder / TONES[0]).write_bytes(encode_ulaw(samples).tobytes())
        (folder / TONES[8]).write_bytes(encode_alaw(samples).tobytes())
        process = await asyncio.create_subprocess_exec(
            *(need_sipp(), *((to,) if to else ()), "-sf", "scenario.xml"),
            *("-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(port)),
            *("-t", {"udp": "u1", "tcp": "t1"}[transport], "-m", str(calls), "-r", str(rate)),
            *("-trace_err", "-error_file", "errors.log", "-nostdin"),
            *("-trace_msg", "-message_file", "messages.log"),
            *("-timeout", str(_SECONDS), "-timeout_error", *more),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        made = cls(process, folder, port)
        if to is None:
            await made._wait_for_socket(transport)
        return made

    async def _wait_for_socket(self, transport: str) -> None:
        table = Path("/proc/net") / transport
        wanted = f":{self.port:04X} "
        async with asyncio.timeout(10):
            while wanted not in table.read_text():
                assert self._process.returncode is None, self.told
                await asyncio.sleep(0.01)

    @property
    def told(self) -> str:
        """What went wrong, and all messages."""
        texts = []
        for name in ("errors.log", "messages.log"):
            path = self._folder / name
            texts.append(path.read_text(errors="replace")[-3000:] if path.exists() else "")
        return "\n".join(texts)

    @property
    def messages(self) -> str:
        """All that was sent and received so far."""
        path = self._folder / "messages.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def succeed(self, *, seconds: float = 20) -> None:
        """Wait for the end; every message must have been as the scenario expects."""
        try:
            status = await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            raise AssertionError(f"SIPp still waits: {self.told}") from None
        assert status == 0, self.told

    async def close(self) -> None:
        """End it, whatever it does."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
