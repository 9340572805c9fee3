"""A webhook receiver as they are: it fails, stalls, is slow, and is down for a while."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict

from callreel.demo.receiver import Answer, Webhook, WebhookReceiver

_FAILS, _SLOW, _STALLS = 0.10, 0.05, 0.02
_UP_S, _DOWN_S = (15.0, 40.0), (1.0, 6.0)


class BadReceiver:
    """Keeps what came, by recording and event, with the id that each carried."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self._http = WebhookReceiver(on_webhook=self._came)
        self._task: asyncio.Task[None] | None = None
        self._behaves = False
        self.came: dict[tuple[str, str], list[str]] = defaultdict(list)
        """Ids, by RecordingSid and RecordingStatus, in order of arrival."""
        self.order: dict[str, list[str]] = defaultdict(list)
        """Events by RecordingSid, in order of arrival."""
        self.failed = 0
        """Requests that it did not take."""
        self.outages = 0
        """How often it was down."""

    @property
    def url(self) -> str:
        """Where to send webhooks to. A short time-out keeps a stall from lasting."""
        return f"{self._http.url}#rt=2000&tt=3000"

    async def start(self) -> None:
        """Listen, and begin to misbehave."""
        await self._http.start()
        self._task = asyncio.create_task(self._fall_over())

    async def behave(self) -> None:
        """Be up, and take everything from now on."""
        self._behaves = True
        if self._task is not None:
            await self._task
            self._task = None

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._http.stop()

    def _came(self, webhook: Webhook) -> None:
        fields = webhook.fields
        sid, event = fields.get("RecordingSid", ""), fields.get("RecordingStatus", "")
        self.came[sid, event].append(webhook.header("i-twilio-idempotency-token") or "")
        self.order[sid].append(event)
        answer = Answer()
        luck = 1.0 if self._behaves else self._random.random()
        if luck < _FAILS:
            answer = Answer(status=self._random.choice((500, 503)))
        elif luck < _FAILS + _SLOW:
            answer = Answer(delay_s=1.5)
        elif luck < _FAILS + _SLOW + _STALLS:
            answer = Answer(delay_s=10.0)
        self.failed += answer.status >= 300 or answer.delay_s > 2
        self._http.answers.append(answer)

    async def _fall_over(self) -> None:
        while not self._behaves:
            for _ in range(int(10 * self._random.uniform(*_UP_S))):
                await asyncio.sleep(0.1)
                if self._behaves:
                    return
            await self._http.stop()
            self.outages += 1
            await asyncio.sleep(self._random.uniform(*_DOWN_S))
            await self._http.start()
