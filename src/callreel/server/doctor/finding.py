"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """How a thing stands."""

    OK = "ok"
    """Nothing to do."""
    WARN = "warn"
    """It serves, but not as well as it could, or not all of it."""
    FAIL = "fail"
    """It will not serve so."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    name: str
    """What was looked at, in a word or two."""
    verdict: Verdict
    """How it stands."""
    text: str
    """What was found, for people."""
    advice: str = ""
    """What to do; empty where there is nothing to do."""


def ok(name: str, text: str) -> Finding:
    """All is well."""
    return Finding(name, Verdict.OK, text)


def warn(name: str, text: str, advice: str) -> Finding:
    """It could be better."""
    return Finding(name, Verdict.WARN, text, advice)


def fail(name: str, text: str, advice: str) -> Finding:
    """It has to be put right."""
    return Finding(name, Verdict.FAIL, text, advice)
