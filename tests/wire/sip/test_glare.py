from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from callreel.wire.sip.dialog import DialogId
from callreel.wire.sip.glare import Glare, Ledger, retry_interval
from callreel.wire.sip.message import Request
from callreel.wire.sip.values import URI

DIALOG = DialogId("c", "ours", "theirs")


def request(method: str = "INVITE", *, body: bytes = b"v=0", to_tag: str = ";tag=ours") -> Request:
    made = Request(method, URI.parse("sip:a"), body)
    made.headers.set("From", "<sip:b>;tag=theirs")
    made.headers.set("To", f"<sip:a>{to_tag}")
    made.headers.set("Call-ID", "c")
    return made


@given(st.floats(0, 1, exclude_max=True))
def test_pause(fraction: float) -> None:
    owner = retry_interval(owns_call_id=True, fraction=fraction)
    other = retry_interval(owns_call_id=False, fraction=fraction)
    assert 2.1 <= owner <= 4.0
    assert 0.0 <= other <= 2.0
    assert round(owner * 100, 6) == round(owner * 100)


def test_the_ends_of_the_pause_are_reached() -> None:
    assert retry_interval(owns_call_id=True, fraction=0.0) == 2.1
    assert retry_interval(owns_call_id=True, fraction=0.9999) == 4.0
    assert retry_interval(owns_call_id=False, fraction=0.0) == 0.0
    assert retry_interval(owns_call_id=False, fraction=0.9999) == 2.0


def test_theirs_crosses_ours() -> None:
    ledger = Ledger()
    ledger.begin_ours(DIALOG)
    for crossing in (request(), request(body=b""), request("UPDATE")):
        with pytest.raises(Glare) as caught:
            ledger.begin_theirs(crossing, 1)
        assert caught.value.status == 491
    ledger.begin_theirs(request("UPDATE", body=b""), 2)  # no offer
    ledger.begin_theirs(request("BYE"), 3)
    ledger.begin_theirs(request(to_tag=""), 4)  # a new call
    ledger.end_ours(DIALOG)
    ledger.begin_theirs(request(), 5)
    assert len(ledger) == 1


def test_ours_waits_for_theirs_and_for_our_own() -> None:
    ledger = Ledger()
    ledger.begin_theirs(request(), 1)
    ledger.begin_theirs(request("UPDATE"), 2)
    assert ledger.is_theirs(DIALOG)
    assert not ledger.is_theirs(DialogId("c", "ours", "fork"))
    ledger.begin_ours(DialogId("c", "ours", "fork"))
    ledger.end_theirs(1)
    assert ledger.is_theirs(DIALOG)
    ledger.end_theirs(2)
    ledger.end_theirs(2)
    assert not ledger.is_theirs(DIALOG)
    ledger.begin_ours(DIALOG)
    with pytest.raises(Glare):
        ledger.begin_ours(DIALOG)
    ledger.end_ours(DIALOG)
    ledger.end_ours(DialogId("c", "ours", "fork"))
    assert len(ledger) == 0
