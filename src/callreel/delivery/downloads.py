"""Fetches files from programs' servers, onto disk, by the rules of webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from callreel.base.errors import PeerError
from callreel.calls.model import CallbackMethod
from callreel.calls.voice import DocumentUnavailable
from callreel.delivery.documents import SigningKey
from callreel.delivery.exchange import Answer, Exchange, Unanswered
from callreel.delivery.request import Message, Timeouts, compose

TIMEOUTS = Timeouts(connect_ms=5000, read_ms=15_000, total_ms=60_000)
"""A long file may take its time; a server that says nothing may not."""


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What a server answered."""

    http_status: int
    """2xx, or 304 where the headers asked for it."""
    headers: Mapping[str, str]
    """Of the answer, names in any case."""


class Downloads:
    """Fetches files."""

    def __init__(self, exchange: Exchange, signing_key: SigningKey) -> None:
        self._exchange = exchange
        self._signing_key = signing_key

    async def download(
        self,
        account_id: str,
        url: str,
        *,
        headers: Mapping[str, str],
        into: Path,
        max_bytes: int,
    ) -> Downloaded:
        """GET a URL, signed as webhooks are, its body into a file. With 304 nothing is written.

        Raises ``DocumentUnavailable``; the file may be there then, and is worth nothing.
        """
        key = await self._signing_key(account_id)
        if key is None:
            raise DocumentUnavailable("the account is gone")
        message = Message(url, {}, key, CallbackMethod.GET, tuple(headers.items()))
        try:
            request = compose(message, TIMEOUTS)
        except (PeerError, UnicodeError) as error:
            raise DocumentUnavailable(str(error)) from None
        try:
            async with self._exchange.answer(request) as answer:
                if answer.status != 304:
                    await _save(answer, into, max_bytes)
                return Downloaded(answer.status, answer.headers)
        except Unanswered as error:
            raise DocumentUnavailable(str(error)) from None


async def _save(answer: Answer, into: Path, max_bytes: int) -> None:
    if not answer.is_good:
        why = f" ({answer.trouble})" if answer.trouble else ""
        raise DocumentUnavailable(f"answered {answer.status}{why}", http_status=answer.status)
    announced = answer.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:18]) > max_bytes:
        raise _too_large(answer, max_bytes)
    file: BinaryIO = await asyncio.to_thread(into.open, "wb")
    try:
        received = 0
        async for chunk in answer.chunks():
            received += len(chunk)
            if received > max_bytes:
                raise _too_large(answer, max_bytes)
            await asyncio.to_thread(file.write, chunk)
    finally:
        await asyncio.to_thread(file.close)


def _too_large(answer: Answer, max_bytes: int) -> DocumentUnavailable:
    return DocumentUnavailable(
        f"the file is larger than {max_bytes // 1_000_000} MB", http_status=answer.status
    )
