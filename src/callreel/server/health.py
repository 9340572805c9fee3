"""Whether each part of the server is up: what ``/healthz`` says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Probe = Callable[[], Awaitable[None]]
"""Returns where a part is up, raises where it is not."""

_TIMEOUT_S = 3.0


class Health:
    """Named probes, asked together."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}

    def add(self, name: str, probe: Probe) -> None:
        """One more part."""
        self._probes[name] = probe

    async def check(self) -> dict[str, str]:
        """Of each part ``ok``, or what is wrong."""
        states = await asyncio.gather(*(self._ask(probe) for probe in self._probes.values()))
        return dict(zip(self._probes, states, strict=True))

    @staticmethod
    async def _ask(probe: Probe) -> str:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await probe()
        except TimeoutError:
            return f"no answer in {_TIMEOUT_S:g} s"
        except Exception as error:
            return f"down: {type(error).__name__}"
        return "ok"
