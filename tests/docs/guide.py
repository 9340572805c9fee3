"""A guide as a script: the files it has one write, the commands it has one run, in their order.

A file is a block after a line that ends with its name and a colon; commands stand after a ``$``
in console blocks. Ports are replaced, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tests.ports import free_port_pair

GUIDES = Path(__file__).parents[2] / "docs/guides"

_BLOCK = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w./-]+)`[^`\n]*:\s*\Z")
_WAIT_S = 15.0


class Terminal:
    """A command that goes on, at a terminal of its own."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self._fd, other = pty.openpty()
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            cwd=folder,
            env=environment,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
        )
        os.close(other)
        self.text = ""
        """What it has shown so far."""

    def wait_for(self, text: str) -> None:
        """Read on until it shows this."""
        deadline = time.monotonic() + _WAIT_S
        while text not in self.text:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.text}"
            assert self._read(0.1), f"ended without {text!r}:\n{self.text}"

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._fd, f"{line}\n".encode())

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return True
        try:
            self.text += os.read(self._fd, 65_536).decode(errors="replace")
        except OSError:  # nobody is at its other end any more
            return False
        return True

    def finish(self) -> int:
        """Wait for its end. Returns the exit status."""
        while self._read(0.1):
            pass
        return self._process.wait(_WAIT_S)

    def close(self) -> None:
        """Ctrl-C, then by force."""
        if self._process.poll() is None:
            self.type("\x03")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_WAIT_S)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._fd)


class Guide:
    """A page, followed in a folder; a context manager that ends what was started."""

    def __init__(self, page: str, folder: Path) -> None:
        self._text = (GUIDES / page).read_text()
        self._folder = folder
        self._terminals: list[Terminal] = []
        self.ports: dict[str, str] = {}
        """The page's ports, and those that stand for them here."""
        for port in sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", self._text))):
            self.ports[port] = str(free_port_pair())
        self._replaced: dict[str, str] = {}
        programs = folder / "bin"
        programs.mkdir()
        (programs / "callreel").write_text(f'#!/bin/sh\nexec {sys.executable} -m callreel "$@"\n')
        (programs / "callreel").chmod(0o755)
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith("CALLREEL_")
        } | {"PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin"}
        # Not of the page: the API has a port of its own here, which the page leaves at 8080.
        self._environment["CALLREEL_HTTP"] = f"127.0.0.1:{self.ports['8080']}"
        # Nor is the port that `phone answer` takes unless told otherwise.
        listen = f"phone answer --listen 127.0.0.1:{free_port_pair()} --register"
        self._replaced["phone answer --register"] = listen

    def __enter__(self) -> Guide:
        """Nothing runs yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Everything that was started is ended, the last first."""
        for one in reversed(self._terminals):
            one.close()

    def _here(self, text: str) -> str:
        for theirs, ours in self.ports.items():
            text = re.sub(rf"(?<=127\.0\.0\.1:){theirs}\b|(?<=_PORT ){theirs}\b", ours, text)
        for theirs, ours in self._replaced.items():
            text = text.replace(theirs, ours)
        return text

    def files(self) -> list[tuple[str, str]]:
        """Names and texts, in the page's order."""
        found = []
        for block in _BLOCK.finditer(self._text):
            name = _FILE.search(self._text[: block.start()])
            if name is not None and block[1] not in ("console", "text"):
                found.append((name[1], self._here(block[2])))
        return found

    def write(self, name: str, *, last: bool = False) -> None:
        """Write the first file of that name that the page has, or the last."""
        texts = [text for one, text in self.files() if one == name]
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[-1 if last else 0])

    def commands(self) -> list[str]:
        """All that stands after a ``$``, continuation lines joined."""
        found: list[str] = []
        for block in _BLOCK.finditer(self._text):
            if block[1] != "console":
                continue
            for line in block[2].splitlines():
                if line.startswith("$ "):
                    found.append(line[2:])
                else:
                    found[-1] += "\n" + line
        return [self._here(one) for one in found]

    def command(self, part: str) -> str:
        """The one command with this in it."""
        (found,) = [one for one in self.commands() if part in one]
        return found

    def typed(self) -> list[str]:
        """The lines to be typed into a program."""
        blocks = [block[2] for block in _BLOCK.finditer(self._text) if block[1] == "text"]
        return "".join(blocks).splitlines()

    def open(self, command: str, until: str) -> Terminal:
        """Run a command at a terminal of its own, until it shows ``until``."""
        terminal = Terminal(command, self._folder, self._environment)
        self._terminals.append(terminal)
        terminal.wait_for(until)
        return terminal

    def serve(self) -> Terminal:
        """Start the server; what it prints of the account is put into the commands to come."""
        server = self.open(self.command("callreel serve"), "Keep it.")
        for theirs, said in (("…the AccountSid…", "AccountSid"), ("…the token…", "Auth token")):
            found = re.search(rf"{said} +(\S+)", server.text)
            assert found is not None
            self._replaced[theirs] = found[1]
        return server

    def run(self, commands: list[str]) -> str:
        """Run commands one after the other in one shell. What they print."""
        script = "\n".join(commands)
        assert "…" not in script
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr

    def from_command(self, part: str) -> list[str]:
        """All commands from the one with this in it on."""
        commands = self.commands()
        first = next(n for n, one in enumerate(commands) if part in one)
        return commands[first:]
