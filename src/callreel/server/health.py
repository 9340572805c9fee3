"""Whether each part of the server is up: what ``/healthz`` says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Probe = Callable[[], Awaitable[str | None]]
"""Returns where a part is up: None, or what somebody should see to although it works. Raises where
it is not."""

WARNING = "warning: "
_TIMEOUT_S = 3.0


class Down(Exception):
    """A part is not up; the text says what is wrong, and may be shown to anybody."""


class Health:
    """Named probes, asked together."""

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}

    def add(self, name: str, probe: Probe) -> None:
        """One more part."""
        self._probes[name] = probe

    async def check(self) -> dict[str, str]:
        """Of each part ``ok``, ``warning: …``, or what is wrong."""
        states = await asyncio.gather(*(self._ask(probe) for probe in self._probes.values()))
        return dict(zip(self._probes, states, strict=True))

    @staticmethod
    async def _ask(probe: Probe) -> str:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                found = await probe()
        except TimeoutError:
            return f"no answer in {_TIMEOUT_S:g} s"
        except Down as error:
            return f"down: {error}"
        except Exception as error:
            return f"down: {type(error).__name__}"
        return "ok" if found is None else f"{WARNING}{found}"
