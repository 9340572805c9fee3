"""A request's parameters from query, form or JSON, bounded (contract §2)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request

from callreel.api.codes import Code
from callreel.api.errors import ApiError

MAX_BODY_BYTES = 256 * 1024
MAX_FIELDS = 500

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

Choice = TypeVar("Choice", bound=Enum)


class Params:
    """Parameters by name, each with all its values in order. Unknown names are simply not asked.

    An empty value counts as absent. Values may be what JSON has: whether one is a text, or can be
    read as one, is seen when it is asked for, so that an unknown name can hold anything.
    """

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._values: dict[str, list[Any]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """Every value given, the empty ones left out. Raises :class:`ApiError`: 90000."""
        given = self._values.get(name, [])
        return [text for value in given for text in _texts(name, value) if text != ""]

    def get(self, name: str) -> str | None:
        """The last value given, or None. Raises :class:`ApiError`: 90000, for a JSON array too."""
        if any(isinstance(value, list) for value in self._values.get(name, [])):
            raise ApiError(Code.WRONG_FORMAT, f"{name} takes one value, not an array")
        values = self.all(name)
        return values[-1] if values else None

    def text(self, name: str) -> str | None:
        """As :meth:`get`, where JSON has to have a text: numbers and booleans are 90000 too."""
        if any(not isinstance(value, str | None) for value in self._values.get(name, [])):
            raise ApiError(Code.WRONG_FORMAT, f"{name} must be text")
        return self.get(name)

    def given(self, name: str) -> bool:
        """Whether the name is there at all, with an empty value too."""
        return name in self._values

    def flag(self, name: str, *, default: bool = False) -> bool:
        """``true`` or ``false`` in any case: some clients send ``True``."""
        value = self.get(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise ApiError(Code.INVALID_ARGUMENT, f"{name} must be true or false")
        return value.lower() == "true"

    def choice(
        self,
        name: str,
        choices: type[Choice],
        default: Choice,
        *,
        code: Code = Code.INVALID_ARGUMENT,
    ) -> Choice:
        """The value as one of ``choices``, matched exactly. Raises :class:`ApiError`."""
        value = self.get(name)
        return default if value is None else self._chosen(name, value, choices, code)

    def optional_choice(self, name: str, choices: type[Choice]) -> Choice | None:
        """As :meth:`choice`; None where it is absent."""
        value = self.get(name)
        return None if value is None else self._chosen(name, value, choices, Code.INVALID_ARGUMENT)

    def required_choice(self, name: str, choices: type[Choice]) -> Choice:
        """As :meth:`choice`, but absent and empty are refused too."""
        return self._chosen(name, self.get(name) or "", choices, Code.INVALID_ARGUMENT)

    @staticmethod
    def _chosen(name: str, value: str, choices: type[Choice], code: Code) -> Choice:
        try:
            return choices(value)
        except ValueError:
            allowed = ", ".join(str(choice.value) for choice in choices)
            raise ApiError(code, f"{name} must be one of {allowed}; it is {value[:80]!r}") from None


def query_params(request: Request) -> Params:
    """The parameters of a GET."""
    raw = request.scope.get("query_string", b"")
    return Params(_pairs(raw))


async def body_params(request: Request) -> Params:
    """The parameters of a POST: a form, or a JSON object (contract §2).

    Raises :class:`ApiError`: 413 beyond ``MAX_BODY_BYTES``, 90000 for a body that is neither.
    """
    body = await _bounded_body(request)
    if not body.strip():
        return Params(())
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        return Params(_json_pairs(body))
    return Params(_pairs(body))


async def _bounded_body(request: Request) -> bytes:
    too_large = ApiError(
        Code.TOO_LARGE,
        f"The body is larger than {MAX_BODY_BYTES} bytes",
        headers={"Connection": "close"},
    )
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            raw.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError:
        raise ApiError(Code.WRONG_FORMAT, "The parameters are not readable as a form") from None


def _json_pairs(body: bytes) -> list[tuple[str, Any]]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(Code.WRONG_FORMAT, "The body is not readable as JSON") from None
    if not isinstance(value, dict) or len(value) > MAX_FIELDS:
        raise ApiError(Code.WRONG_FORMAT, "The body must be a JSON object")
    return list(value.items())


def _texts(name: str, value: Any) -> list[str]:
    """The texts that a value stands for: none for null, several for an array."""
    if isinstance(value, list) and not any(isinstance(one, list) for one in value):
        return [text for one in value for text in _texts(name, one)]
    if value is None:
        return []
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if not isinstance(value, str | int | float):
        raise ApiError(Code.WRONG_FORMAT, f"{name} must be text, a number or an array of these")
    text = str(value)
    # NUL and halves of surrogate pairs are no text to a database.
    if _UNSTORABLE.search(text):
        raise ApiError(Code.WRONG_FORMAT, f"{name} holds what is no Unicode text")
    return [text]
