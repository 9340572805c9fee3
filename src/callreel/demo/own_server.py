"""``callreel serve`` as a child process on free ports, as a user would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from callreel.base.errors import MachineError

START_S = 30.0
STOP_S = 40.0


@dataclass(slots=True)
class OwnServer:
    """A server in a folder of its own; a context manager. Starts again on the same folder too."""

    folder: Path
    """Holds ``data`` and ``server.log``."""
    account_sid: str
    """SID of the first account; its form decides the dialect."""
    auth_token: str = field(repr=False)
    """Its token."""
    options: tuple[str, ...] = ()
    """More of the command line."""
    environment: dict[str, str] = field(default_factory=dict)
    """More ``CALLREEL_*`` variables."""
    start_s: float = START_S
    """How long it may take to come up."""
    tls: bool = False
    """Whether the API listens with TLS too, by a self-signed certificate."""
    http_url: str = ""
    """Base URL of the API, once it runs."""
    https_url: str = ""
    """The same with TLS; empty without."""
    sip_uri: str = ""
    """Where SIPREC sessions go, once it runs."""
    process: subprocess.Popen[bytes] | None = None
    """The supervisor, while it runs."""

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    @property
    def ca_file(self) -> Path:
        """What a client has to trust for ``https_url``, PEM."""
        return self.data / "tls" / "cert.pem"

    @property
    def log(self) -> str:
        """All it has written so far."""
        path = self.folder / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start and wait until it is up. Raises ``MachineError`` with the end of its log."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("CALLREEL_")
        }
        state = self.data / "server.json"
        state.unlink(missing_ok=True)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "callreel", "serve", "--data", str(self.data)),
                    *("--http", "127.0.0.1:0", "--sip", "127.0.0.1:0"),
                    *(("--https", "127.0.0.1:0") if self.tls else ()),
                    *self.options,
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=inherited
                | {
                    "CALLREEL_BOOTSTRAP_ACCOUNT_SID": self.account_sid,
                    "CALLREEL_BOOTSTRAP_AUTH_TOKEN": self.auth_token,
                }
                | self.environment,
            )
        deadline = time.monotonic() + self.start_s
        while self.process.poll() is None and time.monotonic() < deadline:
            if state.exists():
                self.learn_state()
                if self._healthy():
                    return
            time.sleep(0.05)
        self.stop()
        tail = "\n".join(self.log.splitlines()[-15:])
        raise MachineError(f"the server did not come up:\n{tail}")

    def learn_state(self) -> None:
        """Read how it is reached from what it says: it may have been restarted on other ports."""
        found = json.loads((self.data / "server.json").read_text())
        self.http_url, self.sip_uri = found["http_url"], found["sip_uri"]
        self.https_url = found["https_url"] or ""

    def stop(self) -> int:
        """SIGTERM, and wait: calls and recordings end properly. Returns the exit status."""
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self.http_url + "/healthz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def __enter__(self) -> OwnServer:
        """Started."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stopped."""
        self.stop()
