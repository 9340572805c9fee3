"""Attributes of an element: what is unreadable is what it would be if it were not there, and a
warning tells."""

from __future__ import annotations

import re
from enum import Enum
from typing import TypeVar

from callreel.calls.model import (
    Callback,
    CallbackEvent,
    CallbackMethod,
    CallCallback,
    CallEvent,
)
from callreel.cxml.actions import Note, Severity
from callreel.cxml.addresses import resolve
from callreel.cxml.codes import Code
from callreel.cxml.markup import DocumentError, Element
from callreel.cxml.verbs import Follow

MAX_WARNINGS = 20
"""How many warnings about one document are kept; the rest are counted."""
MAX_SECONDS = 24 * 60 * 60
"""The longest time that an attribute may ask for."""

_WHOLE = re.compile("[0-9]{1,9}")
_KEYS = frozenset("0123456789*#")
_SENT_KEYS = frozenset("0123456789*#ABCDwW")

_Choice = TypeVar("_Choice", bound=Enum)


class Warnings:
    """What is not as it should be in one document."""

    def __init__(self) -> None:
        self._notes: list[Note] = []
        self._more = 0

    def add(self, element: Element, message: str, code: Code = Code.BAD_SCHEMA) -> None:
        """Warn of something about an element."""
        if len(self._notes) >= MAX_WARNINGS:
            self._more += 1
            return
        text = f"<{element.name:.40}>: {message}"
        self._notes.append(Note(Severity.WARNING, text, code, element.line, element.column))

    def notes(self) -> tuple[Note, ...]:
        """All of them, in the order they were found."""
        if not self._more:
            return tuple(self._notes)
        rest = Note(Severity.WARNING, f"and {self._more} more warnings", Code.BAD_SCHEMA)
        return (*self._notes, rest)


class Attributes:
    """The attributes of one element. Ask for each, then :meth:`finish`."""

    def __init__(self, element: Element, base: str | None, warnings: Warnings) -> None:
        """``base``: what relative addresses are relative to."""
        self._element = element
        self._base = base
        self._warnings = warnings
        self._asked: set[str] = set()

    def text(self, name: str) -> str:
        """As written, without blanks around it; empty if it is not there."""
        self._asked.add(name)
        return self._element.attributes.get(name, "").strip()

    def has(self, name: str) -> bool:
        """Whether it is there at all."""
        return name in self._element.attributes

    def whole(self, name: str, default: int, *, least: int = 1, most: int = MAX_SECONDS) -> int:
        """A whole number; what is above ``most`` is ``most``."""
        value = self.text(name)
        if not self.has(name):
            return default
        if not _WHOLE.fullmatch(value) or int(value) < least:
            self._unreadable(name, f"a whole number from {least} on", str(default))
            return default
        if int(value) > most:
            self._unreadable(name, f"{most} at most", str(most))
            return most
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        """``true`` or ``false``, in any case: some libraries write ``True``."""
        value = self.text(name).lower()
        if value in ("true", "false"):
            return value == "true"
        if self.has(name):
            self._unreadable(name, "true or false", str(default).lower())
        return default

    def choice(self, name: str, kind: type[_Choice], default: _Choice) -> _Choice:
        """One of the values of an enumeration, written exactly so."""
        value = self.text(name)
        if not self.has(name):
            return default
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(str(item.value) for item in kind)
            self._unreadable(name, f"one of {allowed}", str(default.value))
            return default

    def method(self, name: str) -> CallbackMethod:
        """``GET`` or ``POST``, in any case; POST unless given."""
        value = self.text(name).upper()
        if value in ("GET", "POST"):
            return CallbackMethod(value)
        if self.has(name):
            self._unreadable(name, "GET or POST", "POST")
        return CallbackMethod.POST

    def follow(self, *, url: str | None = None) -> Follow:
        """``action`` and ``method``, or just ``method`` where the address is the element's text.

        Raises :class:`DocumentError` for an address that cannot be asked: the call would not know
        where to go.
        """
        method = self.method("method")
        written = self.text("action") if url is None else url
        if not written:
            return Follow(None, method)
        resolved = resolve(self._base, written)
        if resolved is None:
            raise DocumentError(
                Code.BAD_URL,
                f"<{self._element.name:.40}>: {written[:100]!r} is no http or https address",
                line=self._element.line,
                column=self._element.column,
            )
        return Follow(resolved, method)

    def finish_on_key(self, default: str) -> str:
        """The keys that end something; an empty attribute is none."""
        value = self.text("finishOnKey")
        if not self.has("finishOnKey"):
            return default
        if not set(value) <= _KEYS:
            self._unreadable("finishOnKey", "of 0-9, * and #", default)
            return default
        return value

    def digits(self, name: str) -> str:
        """Keys to press, ``w`` for half a second; none if they are unreadable."""
        value = self.text(name)
        if not set(value) <= _SENT_KEYS:
            self._unreadable(name, "of 0-9, *, #, A-D and w", "no keys")
            return ""
        return value.replace("W", "w")

    def recording_callback(self) -> Callback | None:
        """``recordingStatusCallback`` and its method and events."""
        method = self.method("recordingStatusCallbackMethod")
        events = self._events(
            "recordingStatusCallbackEvent", CallbackEvent, CallbackEvent.COMPLETED
        )
        url = self._callback_url("recordingStatusCallback")
        return None if url is None else Callback(url, method, events)

    def status_callback(self) -> CallCallback | None:
        """``statusCallback`` and its method and events."""
        method = self.method("statusCallbackMethod")
        events = self._events("statusCallbackEvent", CallEvent, CallEvent.COMPLETED)
        url = self._callback_url("statusCallback")
        return None if url is None else CallCallback(url, method, events)

    def finish(self, *, unsupported: frozenset[str] = frozenset()) -> None:
        """Warn of attributes that nobody asked for; of ``unsupported`` ones, that the vendors
        have them and callreel does not."""
        for name in self._element.attributes:
            if name in self._asked or name == "xmlns" or name.startswith("xmlns:"):
                continue
            what = "is not supported" if name in unsupported else "is not known"
            self._warnings.add(self._element, f"{name:.40} {what} and is ignored")

    def _events(self, name: str, kind: type[_Choice], default: _Choice) -> frozenset[_Choice]:
        """Several values with blanks between; those nobody knows are left out."""
        words = self.text(name).split()
        known = {item.value: item for item in kind}
        found = frozenset(known[word] for word in words if word in known)
        if (words and len(found) < len(set(words))) or (self.has(name) and not words):
            used = " ".join(sorted(str(item.value) for item in found)) or str(default.value)
            self._unreadable(name, f"of {', '.join(known)}", used)
        return found or frozenset({default})

    def _callback_url(self, name: str) -> str | None:
        written = self.text(name)
        if not written:
            return None
        url = resolve(self._base, written)
        if url is None:
            self._warnings.add(
                self._element, f"{name} is no http or https address; nobody is told", Code.BAD_URL
            )
        return url

    def _unreadable(self, name: str, wanted: str, used: str) -> None:
        written = self.text(name)[:40]
        self._warnings.add(
            self._element, f"{name} is {wanted}, not {written!r}; it is taken as {used!r}"
        )
