"""How often a source may present wrong credentials. Pure: the time is handed in."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass

REFILL_S = 3.0
MOST_SOURCES = 10_000
MOST_KNOWN = 10_000

_LONGEST_SOURCE = 64
_V6_PREFIX_BITS = 64


@dataclass(slots=True)
class _Allowance:
    """What a source that has failed might still do when it did."""

    failures: float
    """It might fail so many times more then; grows back with time."""
    at_s: float
    """When it failed last, monotonic seconds."""
    reported: bool = False
    """Whether somebody was told that it is used up."""


class FailureThrottle:
    """Failures of each source, counted as a bucket that refills.

    A source may fail ``burst`` times, then once more every ``refill_s``. Once that is used up its
    credentials are not looked at, right or wrong: an answer would be an oracle. Excepted are those
    that were good before from the same source, so that nobody can lock out a program behind the
    same address. Of these only a hash is kept, with ``salt``: random bytes, new in each process.

    Both tables are bounded, and the oldest entry makes room. Times are monotonic seconds.
    """

    def __init__(
        self,
        *,
        burst: int,
        salt: bytes,
        refill_s: float = REFILL_S,
        most_sources: int = MOST_SOURCES,
        most_known: int = MOST_KNOWN,
    ) -> None:
        assert burst >= 1
        self._burst = burst
        self._salt = salt
        self._refill_s = refill_s
        self._most_sources = most_sources
        self._most_known = most_known
        # Both oldest first: an entry that is used moves to the end.
        self._allowances: dict[str, _Allowance] = {}
        self._known: dict[bytes, None] = {}

    def __len__(self) -> int:
        """Sources that are remembered for having failed."""
        return len(self._allowances)

    def refused_for_s(
        self, source: str, username: str, password: str, *, now: float
    ) -> float | None:
        """How long these credentials are not looked at, in seconds; None if they are, now."""
        left = self._left(counted_as(source), now)
        if left >= 1.0 or self._digest(source, username, password) in self._known:
            return None
        return (1.0 - left) * self._refill_s

    def failed(self, source: str, username: str, password: str, *, now: float) -> bool:
        """These were wrong. Whether it is time to tell somebody about the source."""
        self._known.pop(self._digest(source, username, password), None)
        key = counted_as(source)
        before = self._left(key, now)
        fresh = _Allowance(max(0.0, before - 1.0), now)
        known = self._allowances.pop(key, None)
        fresh.reported = known is not None and known.reported and before < self._burst
        self._allowances[key] = fresh
        if len(self._allowances) > self._most_sources:
            del self._allowances[next(iter(self._allowances))]
        tell = fresh.failures < 1.0 and not fresh.reported
        fresh.reported = fresh.reported or tell
        return tell

    def succeeded(self, source: str, username: str, password: str) -> None:
        """These were right: from this source they are looked at whatever others do there."""
        digest = self._digest(source, username, password)
        self._known.pop(digest, None)
        self._known[digest] = None
        if len(self._known) > self._most_known:
            del self._known[next(iter(self._known))]

    def _left(self, key: str, now: float) -> float:
        """How many failures the source may still make."""
        then = self._allowances.get(key)
        if then is None:
            return float(self._burst)
        grown = max(0.0, now - then.at_s) / self._refill_s
        return min(float(self._burst), then.failures + grown)

    def _digest(self, source: str, username: str, password: str) -> bytes:
        parts = (counted_as(source), username, password)
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.digest(self._salt, text.encode(), hashlib.sha256)


def counted_as(source: str) -> str:
    """What a source's address is counted under: an IPv6 host has a whole /64 to choose from."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source[:_LONGEST_SOURCE]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _V6_PREFIX_BITS), strict=False))
