"""The errors of callreel: who is at fault decides the class.

A broken invariant is not among them: it crashes (``AssertionError``).
"""

from __future__ import annotations

from pathlib import Path


class CallreelError(Exception):
    """Root of every error that callreel raises on purpose."""


class PeerError(CallreelError):
    """The peer broke the rules. ``status`` is the SIP or HTTP status to answer with."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        """SIP or HTTP status code, by the protocol that the peer spoke."""


class UsageError(CallreelError):
    """The caller misused us: a bad option, setting or argument. The text says what to do."""


class MachineError(CallreelError):
    """The machine failed: disk, socket, process, database.

    ``path`` and ``offset`` (bytes) say where, ``hint`` what an operator can do about it.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | None = None,
        offset: int | None = None,
        hint: str | None = None,
    ) -> None:
        where = f" [{path}{'' if offset is None else f' at byte {offset}'}]" if path else ""
        super().__init__(f"{message}{where}{f' ({hint})' if hint else ''}")
        self.path = path
        self.offset = offset
        self.hint = hint


class CapacityError(MachineError):
    """No room for one more: ports, file descriptors, memory or disk. Existing work goes on."""
