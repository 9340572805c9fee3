"""The real clock and the real source of identifiers."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime


class SystemClock:
    """This machine's clocks."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC, in seconds."""
        return time.monotonic()

    def now(self) -> datetime:
        """Wall time, UTC."""
        return datetime.now(UTC)


class RandomIds:
    """Identifiers from the kernel's entropy: nobody can guess one from another."""

    def new_id(self) -> str:
        """128 random bits as 32 lower-case hex digits."""
        return secrets.token_hex(16)

    def new_token(self) -> str:
        """256 random bits, URL-safe."""
        return secrets.token_urlsafe(32)
