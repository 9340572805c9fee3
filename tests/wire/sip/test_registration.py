"""When to register again, by a hand-moved clock."""

from __future__ import annotations

import pytest

from callreel.wire.sip.message import Response
from callreel.wire.sip.registration import (
    RegistrationCycle,
    RegistrationState,
    contact_key,
    granted_seconds,
)
from callreel.wire.sip.values import URI

CONTACT = "sip:trunk-a@192.0.2.1:5060"


def response(code: int, *headers: tuple[str, str]) -> Response:
    made = Response(code)
    for name, value in headers:
        made.headers.add(name, value)
    return made


def cycle(jitter: float = 0.0, expires_seconds: int = 3600) -> RegistrationCycle:
    return RegistrationCycle(expires_seconds=expires_seconds, jitter=lambda: jitter)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 3600),
        ([("Expires", "120")], 120),
        ([("Contact", f"<{CONTACT}>;expires=90"), ("Expires", "120")], 90),
        ([("Contact", f"<sip:b@192.0.2.9>;expires=7, <{CONTACT}>;expires=90")], 90),
        ([("Contact", "<sip:trunk-a@203.0.113.9:1024>;expires=60")], 60),
        ([("Contact", "<sip:a@192.0.2.9>;expires=7, <sip:b@192.0.2.9>;expires=8")], 3600),
        ([("Contact", f"<{CONTACT}>"), ("Expires", "120")], 120),
        ([("Contact", "<nonsense"), ("Expires", "soon")], 3600),
        ([("Expires", "4000000000")], 86400),
    ],
)
def test_what_is_granted(headers: list[tuple[str, str]], expected: int) -> None:
    assert granted_seconds(response(200, *headers), CONTACT, 3600) == expected


@pytest.mark.parametrize(("jitter", "due"), [(0.0, 180.0), (1.0, 172.0)])
def test_it_is_refreshed_before_it_ends(jitter: float, due: float) -> None:
    one = cycle(jitter)
    assert (one.state, one.next_at) == (RegistrationState.TRYING, None)
    one.receive(response(200, ("Expires", "100")), CONTACT, now=100.0)
    assert one.state is RegistrationState.REGISTERED
    assert (one.registered_until, one.next_at) == (200.0, due)


def test_however_short_it_is_not_refreshed_without_end() -> None:
    one = cycle()
    one.receive(response(200, ("Expires", "0")), CONTACT, now=100.0)
    assert one.next_at == 110.0


def test_failures_are_retried_ever_later() -> None:
    one = cycle()
    delays = []
    now = 0.0
    for _ in range(7):
        one.fail("no answer", now=now)
        assert one.next_at is not None
        delays.append(one.next_at - now)
        now = one.next_at
    assert delays == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
    assert (one.state, one.last_error) == (RegistrationState.FAILING, "no answer")
    one.receive(response(200), CONTACT, now=now)
    assert (one.state, one.last_error) == (RegistrationState.REGISTERED, None)
    one.fail("again", now=now)
    assert one.next_at == now + 30.0
    late = cycle(jitter=1.0)
    late.fail("x", now=0.0)
    assert late.next_at == 27.0


def test_a_failed_refresh_leaves_what_was_granted() -> None:
    one = cycle()
    one.receive(response(200, ("Expires", "100")), CONTACT, now=0.0)
    one.fail("no answer", now=80.0)
    assert one.registered_until == 100.0
    one.fail("no answer", now=110.0)
    assert one.registered_until is None


@pytest.mark.parametrize("code", [401, 403, 407])
def test_refused_credentials_are_not_tried_soon(code: int) -> None:
    one = cycle(jitter=1.0)
    one.receive(response(code), CONTACT, now=0.0)
    assert one.next_at == 600.0


def test_retry_after() -> None:
    one = cycle()
    one.receive(response(503, ("Retry-After", "120 (busy);duration=60")), CONTACT, now=0.0)
    assert (one.next_at, one.last_error) == (120.0, "503 Service Unavailable")
    one.receive(response(503, ("Retry-After", "99999999")), CONTACT, now=0.0)
    assert one.next_at == 3600.0


def test_too_brief() -> None:
    one = cycle(expires_seconds=60)
    one.receive(response(423, ("Min-Expires", "300")), CONTACT, now=5.0)
    assert (one.expires_seconds, one.next_at, one.state) == (300, 5.0, RegistrationState.TRYING)
    one.receive(response(423, ("Min-Expires", "301")), CONTACT, now=5.0)  # it wants ever more
    assert (one.expires_seconds, one.next_at) == (300, 35.0)
    other = cycle(expires_seconds=60)
    other.receive(response(423), CONTACT, now=5.0)
    assert other.next_at == 35.0


def test_equivalent_contacts() -> None:
    keys = {
        contact_key(URI.parse(text))
        for text in ("sip:a@EXAMPLE.com;transport=TCP", "sip:%61@example.com;ob;transport=tcp")
    }
    assert len(keys) == 1
    assert contact_key(URI.parse("sip:a@example.com:5061")) not in keys
