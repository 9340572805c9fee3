"""Bindings, by a hand-moved clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from callreel.base.errors import PeerError
from callreel.signalling.location import (
    Binding,
    Change,
    IntervalTooBrief,
    LocationTable,
    contact_headers,
)
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request
from callreel.wire.sip.values import URI

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FLOW = Flow(Transport.UDP, "203.0.113.5", 40001, ("192.0.2.1", 5060))
DESK = "<sip:alice@10.0.0.2:5060>"
PHONE = "<sip:alice@10.0.0.3:5062;transport=tcp>"


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def register(
    *contacts: str, expires: str | None = None, call_id: str = "c", cseq: int = 1
) -> Request:
    request = Request("REGISTER", URI.parse("sip:example.com"))
    request.headers.set("Call-ID", call_id)
    request.headers.set("CSeq", f"{cseq} REGISTER")
    request.headers.set("User-Agent", "Desk phone")
    for contact in contacts:
        request.headers.add("Contact", contact)
    if expires is not None:
        request.headers.set("Expires", expires)
    return request


def apply(
    table: LocationTable, request: Request, *, now: datetime = NOW, flow: Flow = FLOW
) -> list[Binding]:
    change = table.plan("alice", request, flow, now=now)
    if change is not None:
        table.commit(change)
    return table.find("alice", now=now)


def lengths(bindings: list[Binding], now: datetime) -> list[float]:
    return [(one.expires_at - now).total_seconds() for one in bindings]


def test_a_binding_comes_is_refreshed_and_ends() -> None:
    table = LocationTable()
    (binding,) = apply(table, register(DESK, expires="600"))
    assert (binding.contact, binding.flow) == ("sip:alice@10.0.0.2:5060", FLOW)
    assert binding.user_agent == "Desk phone"
    assert contact_headers([binding], now=after(100)) == [
        ("Contact", "<sip:alice@10.0.0.2:5060>;expires=500;q=1")
    ]
    moved = Flow(Transport.UDP, "203.0.113.5", 40002)
    (binding,) = apply(table, register(DESK, expires="600", cseq=2), now=after(500), flow=moved)
    assert (binding.expires_at, binding.flow) == (after(1100), moved)
    assert table.find("alice", now=after(1099)) == [binding]
    assert table.find("alice", now=after(1100)) == []
    assert table.find("bob", now=NOW) == []


@pytest.mark.parametrize(
    ("contact", "expires", "seconds"),
    [
        (DESK, None, 3600.0),
        (DESK, "nonsense", 3600.0),
        (DESK, "999999", 3600.0),
        (DESK, "99999999999999", 3600.0),
        (DESK, "60", 60.0),
        (DESK + ";expires=90", "600", 90.0),
        (DESK + ";expires=x", "600", 600.0),
    ],
)
def test_how_long(contact: str, expires: str | None, seconds: float) -> None:
    assert lengths(apply(LocationTable(), register(contact, expires=expires)), NOW) == [seconds]


def test_too_brief() -> None:
    table = LocationTable()
    with pytest.raises(IntervalTooBrief) as caught:
        apply(table, register(PHONE, DESK + ";expires=59"))
    assert (caught.value.status, caught.value.headers) == (423, [("Min-Expires", "60")])
    assert table.find("alice", now=NOW) == []  # all or nothing


def test_a_question_changes_nothing() -> None:
    table = LocationTable()
    apply(table, register(DESK))
    assert table.plan("alice", register(), FLOW, now=NOW) is None


def test_one_is_removed_and_all_are() -> None:
    table = LocationTable()
    assert len(apply(table, register(f"{DESK}, {PHONE};q=0.5"))) == 2
    (left,) = apply(table, register(DESK, expires="0", cseq=2))
    assert left.contact == "sip:alice@10.0.0.3:5062;transport=tcp"
    apply(table, register(DESK, call_id="other", cseq=1))
    assert apply(table, register("*", expires="0", cseq=3)) == []
    assert len(table) == 0


@pytest.mark.parametrize(
    "request_",
    [
        register("*"),
        register("*", expires="60"),
        register("*", DESK, expires="0"),
        register("<sip:alice@10.0.0.2"),
        register('"Alice <sip:alice@10.0.0.2>'),
        register("<tel:+15550100>"),
        register("<mailto:alice@example.com>"),
        register(f"<sip:{'a' * 1100}@10.0.0.2>"),
        register(*(f"<sip:a@10.0.0.{n}>" for n in range(11))),
    ],
)
def test_contacts_that_are_refused(request_: Request) -> None:
    table = LocationTable()
    with pytest.raises(PeerError) as caught:
        apply(table, request_)
    assert caught.value.status == 400


def test_header_fields_in_a_contact_are_left_out() -> None:
    contact = "<sip:alice@10.0.0.2?Route=%3Csip:sip.example.com%3E>"
    (binding,) = apply(LocationTable(), register(contact))
    assert binding.contact == "sip:alice@10.0.0.2"


def test_what_was_overtaken_is_refused() -> None:
    table = LocationTable()
    apply(table, register(DESK, cseq=5))
    for request in (
        register(DESK, cseq=5),
        register(DESK, cseq=4, expires="0"),
        register("*", cseq=5, expires="0"),
    ):
        with pytest.raises(PeerError) as caught:
            apply(table, request, now=after(1))
        assert caught.value.status == 500
    # Of another Call-ID, as after a restart of the phone, any CSeq is taken.
    assert len(apply(table, register(DESK, cseq=1, call_id="new"), now=after(2))) == 1


def test_the_same_contact_twice_in_one_request() -> None:
    bindings = apply(LocationTable(), register(DESK + ";expires=60", DESK + ";expires=90"))
    assert lengths(bindings, NOW) == [90.0]


def test_a_device_that_moves_keeps_one_binding() -> None:
    table = LocationTable()
    instance = ';+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>";reg-id=1'
    apply(table, register(DESK + instance))
    (binding,) = apply(table, register(PHONE + instance, call_id="after a reboot"), now=after(9))
    assert binding.contact.startswith("sip:alice@10.0.0.3")
    assert len(apply(table, register(PHONE.replace(".3", ".4"), call_id="x"), now=after(9))) == 2


def test_preference_then_the_newest() -> None:
    table = LocationTable()
    apply(table, register("<sip:a@10.0.0.1>;q=0.3", call_id="1"))
    apply(table, register("<sip:a@10.0.0.2>;q=nan", call_id="2"), now=after(1))
    found = apply(table, register("<sip:a@10.0.0.3>;q=7", call_id="3"), now=after(2))
    assert [one.contact[-1] for one in found] == ["3", "2", "1"]
    tiny = Binding("sip:a@10.0.0.1", FLOW, NOW, NOW, "c", 1, q=0.00001)
    assert tiny.header(NOW) == ("Contact", "<sip:a@10.0.0.1>;expires=0;q=0")


def test_the_oldest_makes_room() -> None:
    table = LocationTable(max_bindings=3)
    for number in range(5):
        found = apply(
            table, register(f"<sip:a@10.0.0.{number}>", call_id=str(number)), now=after(number)
        )
    assert sorted(one.contact[-1] for one in found) == ["2", "3", "4"]


def test_what_time_changes() -> None:
    table = LocationTable()
    apply(table, register(DESK + ";expires=60", PHONE + ";expires=90"))
    assert table.expired(now=after(59)) == []
    (change,) = table.expired(now=after(60))
    assert len(change.bindings) == 1
    table.commit(change)
    assert table.expired(now=after(61)) == []
    assert table.expired(now=after(90)) == [Change("alice", ())]


def test_bindings_outlive_the_process() -> None:
    table = LocationTable()
    instance = ';+sip.instance="<urn:uuid:1>"'
    apply(table, register(DESK + ";q=0.25;expires=90" + instance, PHONE))
    change = table.plan("alice", register(DESK, cseq=2), Flow(Transport.TCP, "::1", 9), now=NOW)
    assert change is not None
    later = LocationTable()
    stored = {"alice": change.to_json(), "bob": "[{}]", "carol": "{", "dave": "[]", "erin": "7"}
    assert later.restore(stored, now=after(1)) == ["bob", "carol", "dave", "erin"]
    table.commit(change)
    assert later.find("alice", now=after(1)) == table.find("alice", now=after(1))
    with pytest.raises(PeerError):
        apply(later, register(DESK, cseq=2), now=after(1))
    assert LocationTable().restore({"alice": change.to_json()}, now=after(3600)) == ["alice"]
