"""The vendors' SDKs, each driven in a process of its own, by a program its users could write."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / ".venv/sdks"
"""What scripts/sdks.sh makes."""
SIGNALWIRE = "b3877c40-da60-4998-90ad-b792e98472af"
TWILIO = "AC" + "ab" * 16
ANSWER_S = 40.0


@dataclass(frozen=True, slots=True)
class Sdk:
    """One vendor's client in one language."""

    name: str
    """The package."""
    account_sid: str
    """In its vendor's form."""
    command: tuple[str, ...]
    """Interpreter and driver."""
    needs: Path | None
    """An environment, made once this file exists; None for our own."""
    error: str
    """The type its errors have."""

    @property
    def missing(self) -> str:
        """Why it cannot be run here, or empty."""
        if self.needs is not None and not self.needs.exists():
            return f"{self.name} is not set up (scripts/sdks.sh .venv/sdks)"
        if shutil.which(self.command[0]) is None:
            return f"{self.command[0]} is not installed"
        return ""

    @property
    def is_twilio(self) -> bool:
        """Whose dialect it speaks."""
        return self.account_sid == TWILIO


_NODE = ENVIRONMENTS / "node/.ready"
_VENV = ENVIRONMENTS / "signalwire"
SDKS = {
    sdk.name: sdk
    for sdk in (
        Sdk(
            "twilio-python",
            TWILIO,
            (sys.executable, str(HERE / "drive_twilio.py")),
            None,
            "TwilioRestException",
        ),
        Sdk(
            "signalwire-python",
            SIGNALWIRE,
            (str(_VENV / "bin/python"), str(HERE / "drive_signalwire.py")),
            _VENV / ".ready",
            "TwilioRestException",
        ),
        Sdk(
            "twilio-node",
            TWILIO,
            ("node", str(HERE / "drive_twilio.js")),
            _NODE,
            "RestException",
        ),
        Sdk(
            "signalwire-node",
            SIGNALWIRE,
            ("node", str(HERE / "drive_signalwire.js")),
            _NODE,
            "RestException",
        ),
    )
}


class Raised(Exception):
    """What a client raised."""

    def __init__(self, type_: str, status: int | None, code: int | None, message: str) -> None:
        super().__init__(f"{type_}: {status} {code} {message}")
        self.type = type_
        self.status = status
        self.code = code
        self.message = message


@dataclass(slots=True)
class Driver:
    """A running program that does with its client what it is told."""

    sdk: Sdk
    """Which."""
    url: str
    """Base URL, without a path."""
    auth_token: str
    """The account's token."""
    ca_file: Path
    """Whom to trust over TLS."""
    prefix: str = ""
    """``/api/laml``, or nothing: what the client's base URL ends in."""
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        config = {
            "account_sid": self.sdk.account_sid,
            "auth_token": self.auth_token,
            "url": self.url,
            "host": self.url.partition("://")[2],
            "prefix": self.prefix,
            "ca_file": str(self.ca_file) if self.url.startswith("https:") else None,
        }
        inherited = {
            name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
        }
        environment = inherited | {
            "PYTHONPATH": str(ROOT),
            "NODE_PATH": str(_NODE.parent / "node_modules"),
            # Links to media are https wherever there is TLS.
            "REQUESTS_CA_BUNDLE": str(self.ca_file),
            "NODE_EXTRA_CA_CERTS": str(self.ca_file),
        }
        self.process = subprocess.Popen(
            [*self.sdk.command, json.dumps(config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )

    def __call__(self, do: str, **arguments: Any) -> Any:
        """Do one thing. Raises :class:`Raised`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        readable, _, _ = select.select([self.process.stdout], [], [], ANSWER_S)
        assert readable, f"{self.sdk.name} does not come back from {do}"
        line = self.process.stdout.readline()
        assert line, f"{self.sdk.name} ended at {do}"
        answer = json.loads(line)
        if "raised" in answer:
            raised = answer["raised"]
            raise Raised(raised["type"], raised["status"], raised["code"], raised["message"])
        return answer.get("returned")

    def close(self) -> None:
        """End it."""
        try:
            self.process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
