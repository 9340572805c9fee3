"""What is wrong with the settings, or doubtful, and where that is written. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from callreel.base.errors import UsageError
from callreel.server.toml_lines import line_of

Place = tuple[str | int, ...]
"""A setting: ``("routes", 1, "to")`` is ``to`` of the second ``[[routes]]``."""


class Severity(Enum):
    """How bad it is."""

    ERROR = "error"
    """The server would not start so, or not read the file anew."""
    WARNING = "warning"
    """It would, but hardly does what is meant."""
    NOTE = "note"
    """It may well be meant so."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to be said about the settings."""

    message: str
    """What it is, and what to do."""
    place: Place = ()
    """Which setting; empty: no single one."""
    severity: Severity = Severity.ERROR
    """How bad."""
    line: int | None = None
    """Where in the file, from 1; None: nowhere in it."""

    @property
    def setting(self) -> str:
        """``place`` as text: ``routes.1.to``; empty for none."""
        return ".".join(str(part) for part in self.place)

    def located(self, text: str, from_file: Container[object]) -> Problem:
        """With its line in the file of this ``text``, if the setting is one of ``from_file``."""
        if not self.place or self.place[0] not in from_file:
            return self
        return dataclasses.replace(self, line=line_of(text, self.place))

    def described(self, config: Path | None) -> str:
        """A line for people: ``callreel.toml, line 7: routes.1.to: …``."""
        where = "" if config is None or self.line is None else f"{config}, line {self.line}: "
        return f"{where}{self.setting}{': ' if self.place else ''}{self.message}"


class SettingsRefused(UsageError):
    """The settings cannot be used: all that is wrong with them."""

    def __init__(self, problems: Sequence[Problem], config: Path | None) -> None:
        lines = [one.described(config) for one in problems]
        super().__init__("bad settings:\n  " + "\n  ".join(lines))
        self.problems = tuple(problems)
        """In the order in which they were found."""
