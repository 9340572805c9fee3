"""Whether trunks are there: OPTIONS from time to time (RFC 3261 §11), as carriers do with us.

Any answer but 408 and 503 says that somebody is there, a refusal too. A trunk that does not answer
is still called, after the others of the same route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.signalling.user_agent import UserAgent
from callreel.wire.sip.values import URI

log = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
"""After the start, before the first is asked."""


@dataclass(frozen=True, slots=True)
class Probed:
    """A trunk that is asked."""

    name: str
    """Of the trunk."""
    uri: URI
    """Where its calls go."""
    every_seconds: float
    """How often; 0: never."""


@dataclass(frozen=True, slots=True)
class TrunkState:
    """What is known of a trunk."""

    answers: bool | None
    """Whether it answered last; None while it was not asked."""
    since: datetime | None = None
    """Since when it does, or does not, UTC."""
    said: str = ""
    """The last answer, or why there is none."""


class TrunkProbes:
    """Told by :meth:`configure` which trunks there are, also later on; :meth:`close` it before the
    user agent."""

    def __init__(self, agent: UserAgent, *, clock: Clock) -> None:
        self._agent = agent
        self._clock = clock
        self._probed: dict[str, Probed] = {}
        self._states: dict[str, TrunkState] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._started = False

    @property
    def states(self) -> Mapping[str, TrunkState]:
        """Of each trunk, by name; also of those that are not asked."""
        return dict(self._states)

    def is_down(self, name: str) -> bool:
        """Whether a trunk was asked, and did not answer."""
        state = self._states.get(name)
        return state is not None and state.answers is False

    def configure(self, trunks: Sequence[Probed]) -> None:
        """Go by these from now on. What stays as it was is not disturbed."""
        wanted = {one.name: one for one in trunks}
        for name, before in self._probed.items():
            if wanted.get(name) != before:
                self._states.pop(name, None)
                task = self._tasks.pop(name, None)
                if task is not None:
                    task.cancel()
        self._probed = wanted
        for name in wanted:
            self._states.setdefault(name, TrunkState(None))
        self._begin()

    def start(self) -> None:
        """Ask, now that there are sockets."""
        self._started = True
        self._begin()

    async def close(self) -> None:
        """Ask no more."""
        self._started = False
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        if not self._started:
            return
        for name, one in self._probed.items():
            if one.every_seconds and name not in self._tasks:
                self._tasks[name] = asyncio.create_task(self._run(one), name=f"trunk {name}")

    async def _run(self, one: Probed) -> None:
        await asyncio.sleep(min(FIRST_WAIT_S, one.every_seconds))
        while True:
            await self.ask(one)
            await asyncio.sleep(one.every_seconds)

    async def ask(self, one: Probed) -> None:
        """Ask once, and note what comes of it."""
        try:
            flows = await self._agent.resolve_all(one.uri)
            host = URI.parse(self._agent.contact(flows[0])).host
            request = self._agent.new_request(
                "OPTIONS", one.uri, from_uri=str(URI(scheme="sip", user="callreel", host=host))
            )
            response = await self._agent.request_any(request, flows)
            answers, said = response.code not in (408, 503), f"{response.code} {response.phrase}"
        except PeerError as error:
            answers, said = False, str(error)
        if self._probed.get(one.name) == one:
            self._note(one.name, answers, said)

    def _note(self, name: str, answers: bool, said: str) -> None:
        before = self._states[name]
        if before.answers is answers:
            self._states[name] = TrunkState(answers, before.since, said)
            return
        self._states[name] = TrunkState(answers, self._clock.now(), said)
        if not answers:
            log.warning("trunk %s does not answer: %s", name, said)
        elif before.answers is not None:
            log.info("trunk %s answers again", name)
