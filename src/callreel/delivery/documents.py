"""Asks programs what to do with a call, and waits for what they say (contract §12.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from callreel.base.errors import PeerError
from callreel.calls.model import CallbackMethod
from callreel.calls.voice import DocumentUnavailable, FetchedDocument
from callreel.delivery.exchange import Answer, Exchange, Unanswered
from callreel.delivery.model import Result
from callreel.delivery.request import (
    IDEMPOTENCY_HEADER,
    Message,
    PreparedRequest,
    Timeouts,
    compose,
)
from callreel.delivery.retries import Retries

MAX_DOCUMENT_BYTES = 65_536
TIMEOUTS = Timeouts(connect_ms=5000, read_ms=15_000, total_ms=15_000)
"""Twilio's, which are the more patient ones; a URL's fragment may ask for others. The total is that
of all tries together."""

SigningKey = Callable[[str], Awaitable[str | None]]
"""The key that an account's requests are signed with, by its id; None where there is none such."""


class ProgramDocuments:
    """Implements ``calls.voice.Documents``. ``new_id`` makes idempotency tokens."""

    def __init__(
        self, exchange: Exchange, signing_key: SigningKey, *, new_id: Callable[[], str]
    ) -> None:
        self._exchange = exchange
        self._signing_key = signing_key
        self._new_id = new_id

    async def fetch(
        self, account_id: str, url: str, method: CallbackMethod, fields: Sequence[tuple[str, str]]
    ) -> FetchedDocument:
        """See ``calls.voice.Documents``."""
        key = await self._signing_key(account_id)
        if key is None:
            raise DocumentUnavailable("the account is gone")
        # A name occurs once: validators disagree about what is signed otherwise.
        message = Message(url, dict(fields), key, method, ((IDEMPOTENCY_HEADER, self._new_id()),))
        try:
            request = compose(message, TIMEOUTS)
        except (PeerError, UnicodeError) as error:
            raise DocumentUnavailable(str(error)) from None
        return await self._try(request, Retries.of(url))

    async def _try(self, request: PreparedRequest, retries: Retries) -> FetchedDocument:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.timeouts.total_ms / 1000
        left = retries.count
        while True:
            try:
                return await self._ask(request)
            except Unanswered as error:
                worth = retries.cover(error.result, connected=error.connected)
                failure = DocumentUnavailable(str(error))
            except DocumentUnavailable as error:
                worth = retries.cover(Result.ANSWERED, status=error.http_status)
                failure = error
            remaining_ms = int((deadline - loop.time()) * 1000)
            if not worth or not left or remaining_ms <= 0:
                raise failure
            left -= 1
            request = replace(request, timeouts=replace(request.timeouts, total_ms=remaining_ms))

    async def _ask(self, request: PreparedRequest) -> FetchedDocument:
        async with self._exchange.answer(request) as answer:
            if not answer.is_good:
                why = f" ({answer.trouble})" if answer.trouble else ""
                raise DocumentUnavailable(
                    f"answered {answer.status}{why}", http_status=answer.status
                )
            text = await _whole(answer)
        return FetchedDocument(
            answer.request.url, text, content_type=answer.headers.get("Content-Type", "")[:200]
        )


async def _whole(answer: Answer) -> bytes:
    """The body, if it is of a size that a document can have."""
    received = bytearray()
    async for chunk in answer.chunks():
        received += chunk
        if len(received) > MAX_DOCUMENT_BYTES:
            raise DocumentUnavailable(
                f"the answer is larger than {MAX_DOCUMENT_BYTES // 1024} KiB",
                http_status=answer.status,
            )
    return bytes(received)
