"""Names of stored files: built from ids alone, so that nothing a peer sends becomes a path."""

from __future__ import annotations

import re

from callreel.base.errors import UsageError

MAX_KEY_CHARACTERS = 256

_KEY = re.compile(r"[0-9a-f]+(?:/[0-9a-f]+)*(?:\.[a-z0-9]+)+")
_PREFIX = re.compile(r"(?:[0-9a-f]+(?:/[0-9a-f]+)*/?)?")


def is_key(text: str) -> bool:
    """Whether a text is a key: hex digits in folders, and an extension.

    >>> is_key("ab/cdef.wav"), is_key("../ab.wav"), is_key("ab/.wav")
    (True, False, False)
    """
    return len(text) <= MAX_KEY_CHARACTERS and _KEY.fullmatch(text) is not None


def checked_key(text: str) -> str:
    """The key. Raises UsageError where it is none."""
    if not is_key(text):
        raise UsageError(f"not a media key: {text[:80]!r}; hex digits, folders and an extension")
    return text


def checked_prefix(text: str) -> str:
    """The folder to list, without a slash at its end. Raises UsageError where it is none."""
    if len(text) > MAX_KEY_CHARACTERS or _PREFIX.fullmatch(text) is None:
        raise UsageError(f"not a folder of media keys: {text[:80]!r}")
    return text.rstrip("/")
