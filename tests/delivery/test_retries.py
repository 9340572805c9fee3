"""When a document is asked for again."""

from __future__ import annotations

import pytest

from callreel.delivery.model import Result
from callreel.delivery.retries import Retries


@pytest.mark.parametrize(
    ("url", "count", "after"),
    [
        ("https://example.com/voice", 1, {"ct"}),
        ("https://example.com/voice#", 1, {"ct"}),
        ("https://example.com/voice?rc=5", 1, {"ct"}),
        ("https://example.com/voice#rc=0", 0, {"ct"}),
        ("https://example.com/voice#rc=3&rp=5xx", 3, {"5xx"}),
        ("https://example.com/voice#ct=200&rp=ct,rt,4xx&rc=9", 5, {"ct", "rt", "4xx"}),
        ("https://example.com/voice#rc=99999999999&rp=all", 5, {"all"}),
        ("https://example.com/voice#rc=x&rp=nonsense", 1, {"ct"}),
        ("https://example.com/voice#rc=-1&xrc=4", 1, {"ct"}),
    ],
)
def test_what_a_url_asks_for(url: str, count: int, after: set[str]) -> None:
    assert Retries.of(url) == Retries(count, frozenset(after))


NO_CONNECTION = (Result.CONNECTION, None, False)
NO_NAME_IN_TIME = (Result.TIMEOUT, None, False)
SLOW = (Result.TIMEOUT, None, True)
BROKEN_OFF = (Result.CONNECTION, None, True)
MISSING = (Result.ANSWERED, 404, True)
BROKEN = (Result.ANSWERED, 503, True)
FAILURES = [NO_CONNECTION, NO_NAME_IN_TIME, SLOW, BROKEN_OFF, MISSING, BROKEN]


@pytest.mark.parametrize(
    ("policy", "covered"),
    [
        ("ct", [NO_CONNECTION, NO_NAME_IN_TIME]),
        ("rt", [SLOW, BROKEN_OFF]),
        ("4xx", [MISSING]),
        ("5xx", [BROKEN]),
        ("all", FAILURES),
    ],
)
def test_what_each_policy_covers(
    policy: str, covered: list[tuple[Result, int | None, bool]]
) -> None:
    retries = Retries(1, frozenset({policy}))
    for failure in FAILURES:
        result, status, connected = failure
        found = retries.cover(result, status=status, connected=connected)
        assert found == (failure in covered), failure
    assert not retries.cover(Result.DENIED, connected=False)
