"""Tries a webhook once, and reports what came of it.

Never raises for what a receiver does, and believes nothing of it but the status and Retry-After.
"""

from __future__ import annotations

import asyncio
import contextlib

import httpx

from callreel.base.clock import Clock
from callreel.delivery.exchange import Answer, Exchange, Unanswered
from callreel.delivery.model import Outcome, Result
from callreel.delivery.request import PreparedRequest
from callreel.delivery.schedule import parse_retry_after

MAX_ANSWER_BYTES = 1024
ANSWER_PATIENCE_S = 0.5
"""For the answer's body, which decides nothing."""


class Sender:
    """Sends prepared webhooks."""

    def __init__(self, clock: Clock, exchange: Exchange) -> None:
        self._clock = clock
        self._exchange = exchange

    async def attempt(self, request: PreparedRequest) -> Outcome:
        """Try once, redirects included. Raises nothing but cancellation."""
        try_ = _Try(self._clock)
        try:
            async with self._exchange.answer(request) as answer:
                body = await _first_bytes(answer)
        except Unanswered as error:
            return try_.outcome(error.result, error=str(error))
        result = Result.DELIVERED if answer.is_good else Result.ANSWERED
        return try_.outcome(result, answer, body, error=answer.trouble)


class _Try:
    """What is known of a try from its beginning."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.now()
        self._begun = clock.monotonic()

    def outcome(
        self, result: Result, answer: Answer | None = None, body: bytes = b"", *, error: str = ""
    ) -> Outcome:
        retry_after = answer.headers.get("Retry-After") if answer is not None else None
        return Outcome(
            at=self._at,
            result=result,
            elapsed_ms=max(0, round((self._clock.monotonic() - self._begun) * 1000)),
            status=answer.status if answer is not None else None,
            retry_after_s=(
                parse_retry_after(retry_after, self._clock.now()) if retry_after else None
            ),
            answer=body,
            error=error,
        )


async def _first_bytes(answer: Answer) -> bytes:
    """The beginning of the body. The status has decided already, so trouble here is none."""
    received = bytearray()
    with contextlib.suppress(httpx.TransportError, OSError):
        async with asyncio.timeout(ANSWER_PATIENCE_S), contextlib.aclosing(answer.chunks()) as body:
            async for chunk in body:
                received += chunk
                if len(received) >= MAX_ANSWER_BYTES:
                    break
    return bytes(received[:MAX_ANSWER_BYTES])
