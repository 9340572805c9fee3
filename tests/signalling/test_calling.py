from __future__ import annotations

from callreel.signalling.calling import ANONYMOUS, Caller
from callreel.wire.sip.message import Request
from callreel.wire.sip.values import URI


def an_invite(from_: str, **headers: str) -> Request:
    request = Request("INVITE", URI.parse("sip:+15550199@pbx.example.com"))
    request.headers.set("From", f"{from_};tag=a")
    for name, value in headers.items():
        request.headers.set(name.replace("_", "-"), value)
    return request


def test_who_says_who_is_calling() -> None:
    request = an_invite(
        '"Ann" <sip:anonymous@x.example>',
        P_Asserted_Identity='"Ann B" <sip:+15550100@x.example>, <tel:+15550100>',
    )
    assert Caller.of(request, trusted=False) == Caller("anonymous", "Ann")
    assert Caller.of(request, trusted=True) == Caller("+15550100", "Ann B")
    assert Caller.of(request, trusted=True, number="42").number == "42"
    broken = an_invite("<sip:ann@x.example>", P_Asserted_Identity="nobody")
    assert Caller.of(broken, trusted=True).number == "ann"


def test_names_and_numbers_cannot_become_other_headers() -> None:
    told = Caller("a;b\r\nX: y", "").from_header("us.example", number=None, trusted=False)
    assert told == "<sip:a;b%0D%0AX%3A%20y@us.example>"
    shown = Caller.of(an_invite('"E\\"v\\\\e" <sip:e@x.example>'), trusted=False)
    assert shown.name == "Eve"


def test_privacy_is_kept_from_whom_is_not_trusted() -> None:
    request = an_invite(
        '"Ann" <sip:+15550100@x.example>',
        Privacy="id",
        P_Asserted_Identity="<sip:+15550100@x.example>",
    )
    who = Caller.of(request, trusted=True)
    assert who.private
    assert who.from_header("us.example", number=None, trusted=False) == ANONYMOUS
    assert who.identity_headers("us.example", trusted=False) == []
    told = who.from_header("us.example", number=None, trusted=True)
    assert told == "<sip:+15550100@us.example>"
    assert who.identity_headers("us.example", trusted=True) == [
        ("P-Asserted-Identity", "<sip:+15550100@us.example>"),
        ("Privacy", "id"),
    ]
    open_ = Caller("+15550100", "Ann")
    assert open_.from_header("us.example", number="+1555", trusted=False) == (
        '"Ann" <sip:+1555@us.example>'
    )
    assert open_.identity_headers("us.example", trusted=True) == [
        ("P-Asserted-Identity", "<sip:+15550100@us.example>")
    ]
