"""How often a program is asked again that steers a call and waits. No I/O.

Twilio's connection overrides: the URL's fragment may say ``rc`` (how often again, 0 to 5) and
``rp`` (after what: ``ct``, ``rt``, ``4xx``, ``5xx``, ``all``). Without them a document is asked for
once again, at once, where no connection came about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from callreel.delivery.model import Result

MAX_RETRIES = 5
_POLICIES = frozenset({"ct", "rt", "4xx", "5xx", "all"})


@dataclass(frozen=True, slots=True)
class Retries:
    """What a URL asks for."""

    count: int = 1
    """How often again at most."""
    after: frozenset[str] = frozenset({"ct"})
    """Of ``ct`` (no connection), ``rt`` (no answer in time), ``4xx``, ``5xx``, ``all``."""

    @classmethod
    def of(cls, url: str) -> Retries:
        """As a URL's fragment says. What cannot be read there is as if it were not there.

        >>> Retries.of("https://example.com/voice#rc=2&rp=ct,5xx").count
        2
        """
        asked = dict(re.findall(r"(?:^|&)(rc|rp)=([0-9a-z,]{1,32})(?=&|$)", url.partition("#")[2]))
        count, policies = asked.get("rc", ""), asked.get("rp", "").split(",")
        chosen = _POLICIES & frozenset(policies)
        return cls(
            min(int(count), MAX_RETRIES) if count.isdigit() else cls().count,
            chosen or cls().after,
        )

    def cover(self, result: Result, *, status: int | None = None, connected: bool = True) -> bool:
        """Whether such a failure is worth asking again. What is denied never is."""
        if result in (Result.DENIED, Result.INVALID, Result.DELIVERED):
            return False
        if "all" in self.after:
            return True
        if status is not None:
            return f"{status // 100}xx" in self.after
        if not connected:
            return "ct" in self.after
        return "rt" in self.after
