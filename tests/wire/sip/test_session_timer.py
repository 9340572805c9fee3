from __future__ import annotations

import pytest

from callreel.base.errors import PeerError
from callreel.wire.sip.message import Request, Response
from callreel.wire.sip.session_timer import (
    IntervalTooSmall,
    SessionTimer,
    agreed_timer,
    answer_timer,
    minimum_after_refusal,
    offer_timer,
)
from callreel.wire.sip.values import URI


def request(**headers: str) -> Request:
    message = Request("INVITE", URI.parse("sip:a"))
    for name, value in headers.items():
        message.headers.add(name.replace("_", "-"), value)
    return message


@pytest.mark.parametrize(
    ("headers", "wished", "expected"),
    [
        # interval, who refreshes, is that us, Require: timer
        ({}, None, None),
        ({"Supported": "timer"}, None, None),
        ({"Supported": "timer"}, 1800, (1800, "uac", False, True)),
        ({}, 1800, (1800, "uas", True, False)),
        (
            {"Session_Expires": "1800", "Supported": "100rel, timer"},
            None,
            (1800, "uac", False, True),
        ),
        (
            {"Session_Expires": "1800;refresher=uas", "Supported": "timer"},
            None,
            (1800, "uas", True, False),
        ),
        (
            {"Session_Expires": "1800 ; refresher = UAC", "Require": "timer"},
            None,
            (1800, "uac", False, True),
        ),
        # a proxy asked, the caller knows no timers: we refresh
        ({"Session_Expires": "1800"}, None, (1800, "uas", True, False)),
        ({"Session_Expires": "60"}, None, (90, "uas", True, False)),
        # we may lower it, but not under Min-SE
        ({"Session_Expires": "3600", "Supported": "timer"}, 600, (600, "uac", False, True)),
        (
            {"Session_Expires": "3600", "Min_SE": "900", "Supported": "timer"},
            600,
            (900, "uac", False, True),
        ),
        ({"Session_Expires": "300", "Supported": "timer"}, 600, (300, "uac", False, True)),
        ({"Min_SE": "7200", "Supported": "timer"}, 1800, (7200, "uac", False, True)),
    ],
)
def test_answer(
    headers: dict[str, str], wished: int | None, expected: tuple[int, str, bool, bool] | None
) -> None:
    timer = answer_timer(request(**headers), wished_seconds=wished)
    assert timer == (None if expected is None else SessionTimer(*expected))


def test_headers_of_the_answer() -> None:
    assert SessionTimer(1800, "uac", False, True).headers == [
        ("Session-Expires", "1800;refresher=uac"),
        ("Require", "timer"),
    ]
    assert SessionTimer(90, "uas", True).headers == [("Session-Expires", "90;refresher=uas")]


def test_too_small() -> None:
    with pytest.raises(IntervalTooSmall) as caught:
        answer_timer(request(Session_Expires="60", Supported="timer"), minimum_seconds=120)
    assert caught.value.status == 422
    assert caught.value.headers == [("Min-SE", "120")]


@pytest.mark.parametrize(
    "headers",
    [
        {"Session_Expires": "soon"},
        {"Session_Expires": "-1"},
        {"Session_Expires": "1800;refresher=me"},
        {"Session_Expires": "1800", "Min_SE": "x"},
        {"Session_Expires": "9" * 40},
    ],
)
def test_nonsense(headers: dict[str, str]) -> None:
    with pytest.raises(PeerError) as caught:
        answer_timer(request(**headers))
    assert caught.value.status == 400


def test_client_side() -> None:
    assert offer_timer(1800) == [("Supported", "timer"), ("Session-Expires", "1800")]
    assert offer_timer(600, minimum_seconds=300, refresher="uas") == [
        ("Supported", "timer"),
        ("Session-Expires", "600;refresher=uas"),
        ("Min-SE", "300"),
    ]
    response = Response(200)
    assert agreed_timer(response) is None
    response.headers.set("Session-Expires", "1800;refresher=uas")
    assert agreed_timer(response) == SessionTimer(1800, "uas", False)
    response.headers.set("Session-Expires", "1800;refresher=uac")
    assert agreed_timer(response) == SessionTimer(1800, "uac", True)
    refusal = Response(422)
    refusal.headers.set("Min-SE", "3600")
    assert minimum_after_refusal(refusal) == 3600
    assert minimum_after_refusal(Response(422)) == 90


def test_deadlines() -> None:
    ours, theirs = SessionTimer(1800, "uas", True), SessionTimer(90, "uac", False)
    assert (ours.refresh_at(100.0), ours.expires_at(100.0)) == (1000.0, 1868.0)
    assert (theirs.refresh_at(100.0), theirs.expires_at(100.0)) == (None, 160.0)
