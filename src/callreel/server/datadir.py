"""The data folder: what lies where, and the server's key."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callreel.base.errors import MachineError, UsageError
from callreel.journal.durable import sync_folder

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class DataDir:
    """Paths below the data folder. All of it is readable by its owner only."""

    root: Path
    """The folder itself, absolute."""

    @property
    def database(self) -> Path:
        """SQLite, unless another database is configured."""
        return self.root / "callreel.db"

    @property
    def key_file(self) -> Path:
        """The server's key: without it no stored secret can be read."""
        return self.root / "server.key"

    @property
    def journals(self) -> Path:
        """One folder a recording."""
        return self.root / "journals"

    @property
    def media(self) -> Path:
        """Finished audio, unless a media store is configured."""
        return self.root / "media"

    @property
    def tls(self) -> Path:
        """The self-signed certificate and its key, where TLS is on and none is configured."""
        return self.root / "tls"

    @property
    def scratch(self) -> Path:
        """Files being rendered; emptied at start."""
        return self.root / "scratch"

    @property
    def prompts(self) -> Path:
        """Speech and fetched audio, kept to be played again."""
        return self.root / "prompts"

    @property
    def state_file(self) -> Path:
        """Where a running server says how it is reached, JSON."""
        return self.root / "server.json"

    @property
    def token_shown(self) -> bool:
        """Whether the first account's token has been shown: it is, once, when a start succeeds."""
        return (self.root / "token-shown").exists()

    def note_token_shown(self) -> None:
        """It has been."""
        (self.root / "token-shown").touch(mode=0o600)

    @property
    def exists(self) -> bool:
        """Whether a server has made it."""
        return self.key_file.exists()

    def read_state(self) -> dict[str, Any] | None:
        """What a running server says, or None where none is up, or not yet."""
        try:
            found = json.loads(self.state_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write_state(self, state: dict[str, object]) -> None:
        """Say how the server is reached. Appears whole."""
        fresh = self.state_file.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.rename(self.state_file)

    def remove_state(self) -> None:
        """The server is down."""
        self.state_file.unlink(missing_ok=True)

    def empty_scratch(self) -> None:
        """Delete what an earlier run was rendering or encoding."""
        for left in self.scratch.iterdir():
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    left.unlink()

    def prepare(self) -> bytes:
        """Make what is missing; returns the server's key.

        Raises ``UsageError`` where the folder cannot be used.
        """
        mark = self.journals / ".callreel"
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.journals, self.media, self.scratch):
                folder.mkdir(exist_ok=True, mode=0o700)
            if self.key_file.exists() and not mark.exists():
                raise UsageError(
                    f"{self.journals} is not the folder that this server wrote to: is its "
                    f"filesystem mounted? If its journals are gone for good, make {mark}"
                )
            mark.touch(mode=0o600)
            return self._key()
        except OSError as error:
            raise UsageError(
                f"the data folder {self.root} cannot be used: {error.strerror}; "
                "choose another with --data"
            ) from None

    def _key(self) -> bytes:
        try:
            key = self.key_file.read_bytes()
        except FileNotFoundError:
            if self.database.exists():
                raise MachineError(
                    "the server's key is gone, and the database was sealed with it",
                    path=self.key_file,
                    hint="restore it from your backup",
                ) from None
            return self._new_key()
        if len(key) != KEY_BYTES:
            raise MachineError(
                f"the server's key must be {KEY_BYTES} bytes",
                path=self.key_file,
                hint="restore it from your backup",
            )
        return key

    def _new_key(self) -> bytes:
        """Written whole or not at all: to another name, synced, then renamed."""
        key = secrets.token_bytes(KEY_BYTES)
        fresh = self.key_file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, key)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        fresh.rename(self.key_file)
        sync_folder(self.root)
        return key

    def lock(self) -> int:
        """Take the folder for this server; the descriptor holds it until it is closed.

        Raises ``UsageError`` if another server has it.
        """
        descriptor = self.try_lock()
        if descriptor is None:
            raise UsageError(
                f"another callreel server is using {self.root}; stop it or choose another --data"
            )
        return descriptor

    def try_lock(self) -> int | None:
        """As :meth:`lock`, or None if somebody has it. Raises ``OSError``."""
        descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
