"""baresip without a screen: a folder of settings of its own, told what to do over TCP.

What it hears is written to a file by its module ``sndfile``, what it says comes
from a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from callreel.testing.ears import tone_spans
from tests.peers.waves import read_plain_wav, write_plain_wav
from tests.ports import free_port_pair

_MODULES = Path("/usr/lib/baresip/modules")
_READY_S = 10.0

Event = dict[str, Any]


def need_baresip() -> str:
    found = shutil.which("baresip")
    if found is None or not (_MODULES / "ctrl_tcp.so").exists():
        pytest.skip("baresip is not installed (Debian: baresip-core)")
    return found


class Baresip:
    """baresip with one account. Made by :meth:`start`; close it."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, port: int) -> None:
        self._process = process
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._events: list[Event] = []
        self._answers: asyncio.Queue[Event] = asyncio.Queue()
        self._news = asyncio.Event()
        self.folder = folder
        """Its settings, what it heard, what it logged."""
        self.port = port
        """Where it takes SIP, UDP and TCP; with TLS one above."""

    def dialled(self, transport: str = "udp") -> str:
        """What is dialled so that the server's routes lead here."""
        return {"udp": "", "tcp": "tcp", "tls": "tls"}[transport] + str(
            self.port + (transport == "tls")
        )

    @classmethod
    async def start(
        cls,
        folder: Path,
        *,
        hz: int,
        user: str = "peer",
        host: str = "127.0.0.1",
        account: str = "",
        answers: bool = False,
        codecs: str = "pcmu,pcma",
        certificate: Path | None = None,
        more: str = "",
    ) -> Baresip:
        """It says a tone of ``hz``. ``account``: more parameters of its account, such as
        ``;auth_pass=…``; ``host``: of its address. ``answers``: takes calls by itself.
        ``certificate``: its own, with the key, PEM.
        """
        program = need_baresip()
        folder.mkdir(parents=True, exist_ok=True)
        port, control = free_port_pair(), free_port_pair()
        (folder / "config").write_text(
            f"sip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\n"
            f"audio_source aufile,{folder}/says.wav\naudio_player aubridge,heard\n"
            "audio_alert aubridge,alert\n"
            "audio_channels 1-1\njitter_buffer_delay 1-5\ncall_max_calls 8\n"
            f"module_path {_MODULES}\nsnd_path {folder}\n"
            "module g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule sndfile.so\n"
            "module_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n"
            f"ctrl_tcp_listen 127.0.0.1:{control}\n{more}"
        )
        if certificate is not None:
            with (folder / "config").open("a") as config:
                config.write(f"sip_certificate {certificate}\n")
        mode = "auto" if answers else "manual"
        lines = "" if "regint" in account else ";regint=0"
        (folder / "accounts").write_text(
            f"<sip:{user}@{host}>{lines};answermode={mode};audio_codecs={codecs}{account}\n"
        )
        (folder / "contacts").write_text("")
        write_plain_wav(folder / "says.wav", hz, seconds=60)
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(program, "-f", str(folder), "-p", str(folder), "-s", "-v"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        made = cls(process, folder, port)
        try:
            await made._connect(control)
        except BaseException:
            await made.close()
            raise
        return made

    @property
    def log(self) -> str:
        """All it wrote, with the SIP messages."""
        return (self.folder / "log").read_text(errors="replace")

    async def _connect(self, port: int) -> None:
        async with asyncio.timeout(_READY_S):
            while True:
                assert self._process.returncode is None, self.log
                try:
                    self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        self._listening = asyncio.create_task(self._listen(self._reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                size = int((await reader.readuntil(b":"))[:-1])
                message: Event = json.loads((await reader.readexactly(size + 1))[:-1])
                if message.get("event"):
                    self._events.append(message)
                    self._news.set()
                else:
                    self._answers.put_nowait(message)

    async def command(self, name: str, parameters: str = "") -> str:
        """Run a command of its menu; what it says about it."""
        assert self._writer is not None
        text = json.dumps({"command": name, "params": parameters})
        self._writer.write(f"{len(text)}:{text},".encode())
        answer = await asyncio.wait_for(self._answers.get(), 5)
        assert answer["ok"], answer
        return str(answer.get("data", ""))

    async def event(self, kind: str, count: int = 1, *, seconds: float = 8.0) -> Event:
        """Wait until a kind of event has been ``count`` times, from the start on."""
        async with asyncio.timeout(seconds):
            while True:
                self._news.clear()
                found = [one for one in self._events if one["type"] == kind]
                if len(found) >= count:
                    return found[count - 1]
                assert self._process.returncode is None, self.log
                await self._news.wait()

    async def registered(self) -> None:
        """Wait until its registrar knows it: that may be before it can tell us of events."""
        async with asyncio.timeout(_READY_S):
            while "[1 binding]" not in self.log:
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Stop; what it heard is then complete."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        if self._listening is not None:
            await self._listening

    def heard_s(self, hz: int) -> float:
        """How long it heard a tone, of all its calls, once it is closed."""
        total = 0.0
        for path in self.folder.glob("dump-*-dec.wav"):
            rate_hz, samples = read_plain_wav(path)
            total += sum(end - start for start, end in tone_spans(samples[:, 0], rate_hz, hz))
        return total
