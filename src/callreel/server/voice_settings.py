"""Which document answers what is dialled: tables of the TOML file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from callreel.base.ids import parse_id
from callreel.calls.model import CallbackMethod, CallCallback
from callreel.calls.steering import Instructions
from callreel.signalling.routing import plain_number

MAX_DOCUMENT_BYTES = 64 * 1024


def _http_url(value: str | None) -> str | None:
    if value is None:
        return None
    wrong = f"{value!r} is no absolute http or https URL, such as https://example.com/voice"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(wrong) from None
    blank = any(ord(char) <= 32 or ord(char) == 127 for char in value)
    if blank or parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(wrong)
    return value


class _Voice(BaseModel):
    """What an account and a number have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account_sid: str | None = None
    """Which account; the first one unless set."""
    voice_url: str | None = None
    """Whom to ask for the document that answers a call."""
    voice_method: Literal["GET", "POST"] = "POST"
    """How."""
    voice_fallback_url: str | None = None
    """Whom to ask where that gives none."""
    voice_fallback_method: Literal["GET", "POST"] = "POST"
    """How."""
    status_callback: str | None = None
    """Who is told once such a call is over."""
    status_callback_method: Literal["GET", "POST"] = "POST"
    """How."""

    _urls = field_validator("voice_url", "voice_fallback_url", "status_callback")(_http_url)

    @property
    def callback(self) -> CallCallback | None:
        """Who is told, if anybody."""
        if self.status_callback is None:
            return None
        return CallCallback(self.status_callback, CallbackMethod(self.status_callback_method))

    @property
    def instructions(self) -> Instructions:
        """What answers a call; empty for nothing."""
        return Instructions(
            url=self.voice_url,
            method=CallbackMethod(self.voice_method),
            fallback_url=self.voice_fallback_url,
            fallback_method=CallbackMethod(self.voice_fallback_method),
        )

    @model_validator(mode="after")
    def _falls_back_from_something(self) -> Self:
        if self.voice_fallback_url is not None and self.instructions.is_empty:
            raise ValueError("voice_fallback_url needs a voice_url to fall back from")
        return self


class AccountSettings(_Voice):
    """What answers an account's calls, those that no number and no route takes; and its trunk."""

    trunk: str | None = None
    """The trunk for numbers that its programs and documents call and no route takes; the
    ``default_trunk`` unless set."""


class NumberSettings(_Voice):
    """What answers the calls to one number."""

    number: str = Field(min_length=1, max_length=64)
    """As it is dialled: a number, or the user part of a SIP URI."""
    document: Path | None = None
    """A file that holds the document, in place of ``voice_url``."""

    @property
    def instructions(self) -> Instructions:
        """What answers a call. The file is read now."""
        if self.document is None:
            return super().instructions
        return Instructions(document=self.document.read_text(encoding="utf-8"))

    @field_validator("number")
    @classmethod
    def _without_separators(cls, value: str) -> str:
        return plain_number(value)

    @field_validator("document")
    @classmethod
    def _can_be_read(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                if value.stat().st_size > MAX_DOCUMENT_BYTES:
                    raise ValueError(f"{value} is larger than {MAX_DOCUMENT_BYTES} bytes")
                value.read_text(encoding="utf-8")
            except OSError as error:
                raise ValueError(f"cannot read {value}: {error.strerror}") from None
            except UnicodeDecodeError:
                raise ValueError(f"{value} is not UTF-8") from None
        return value

    @model_validator(mode="after")
    def _has_one_document(self) -> Self:
        if (self.voice_url is None) == (self.document is None):
            raise ValueError("want either voice_url or document")
        return self


def check_voice(
    accounts: Sequence[AccountSettings], numbers: Sequence[NumberSettings], trunks: Sequence[str]
) -> Iterator[str]:
    """A line for each account or number that is there twice, and each trunk that is not there; it
    begins with where, such as ``numbers.2.number: ``.
    """
    seen: set[str | None] = set()
    for place, account in enumerate(accounts):
        id_ = None if account.account_sid is None else parse_id(account.account_sid)
        if id_ in seen:
            yield f"accounts.{place}.account_sid: two for the same account"
        seen.add(id_)
        if account.trunk is not None and account.trunk not in trunks:
            yield f"accounts.{place}.trunk: there is no trunk {account.trunk!r}"
    dialled: set[str] = set()
    for place, number in enumerate(numbers):
        if number.number in dialled:
            yield f"numbers.{place}.number: two for {number.number!r}: every number needs its own"
        dialled.add(number.number)
