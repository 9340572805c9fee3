from __future__ import annotations

import pytest

from callreel.calls.voice import NoRoute, Target
from callreel.signalling.means import Dialplan
from callreel.signalling.planning import caller_of, plan_for
from callreel.signalling.routing import Route, Routes
from callreel.wire.sip.values import URI

ROUTES = Routes(
    [
        Route(("trunk:spare", "trunk:other"), prefix="+49", sources=frozenset({"api"})),
        Route(("trunk:secret",), prefix="+1", sources=frozenset({"pbx"})),
    ],
    {"anna": "anna", "+15550111": "anna"},
)


def ours(uri: URI) -> bool:
    return uri.host == "192.0.2.2"


def planned(to: str, account: str = "a", **plan: object) -> list[str]:
    dialplan = Dialplan(ROUTES, {}, **{"default_trunk": "carrier", **plan})  # type: ignore[arg-type]
    found = plan_for(Target(to), account, dialplan, ours)
    return [f"{one} {one.number}" for one in found.targets]


@pytest.mark.parametrize(
    ("to", "targets"),
    [
        ("+49 (30) 123-4", ["trunk:spare +49301234", "trunk:other +49301234"]),
        ("tel:+4930;phone-context=x", ["trunk:spare +4930", "trunk:other +4930"]),
        ("+15550199", ["trunk:carrier +15550199"]),
        ("*21#", ["trunk:carrier *21#"]),
        ("anna", ["user:anna anna"]),
        ("+1-555-0111", ["user:anna +15550111"]),
        ("sip:bob@example.com:5070;transport=tcp", ["sip:bob@example.com:5070;transport=tcp bob"]),
        ("sips:bob@example.com", ["sips:bob@example.com bob"]),
        ("sip:bob:secret@example.com?Route=%3Csip:x%3E", ["sip:bob@example.com bob"]),
        ("sip:example.com", ["sip:example.com example.com"]),
        ("sip:anna@192.0.2.2", ["user:anna anna"]),
        ("sip:+15550199@192.0.2.2", ["trunk:carrier +15550199"]),
    ],
)
def test_whom_a_target_names(to: str, targets: list[str]) -> None:
    assert planned(to) == targets


@pytest.mark.parametrize(
    "to",
    [
        *("", " ", "sip:", "sip:@", "sip:a b@x", "sip:192.0.2.2"),
        *("nobody", "mailto:a@b", "tel:x", "1" * 33, "\x00"),
    ],
)
def test_what_cannot_be_called(to: str) -> None:
    with pytest.raises(NoRoute):
        planned(to)


def test_what_the_configuration_permits() -> None:
    with pytest.raises(NoRoute, match="no trunk"):
        planned("+15550199", default_trunk=None)
    with pytest.raises(NoRoute, match="not called"):
        planned("sip:bob@example.com", dial_uris=False)
    assert planned("sip:anna@192.0.2.2", dial_uris=False) == ["user:anna anna"]
    trunks = {"b": "of-b"}
    assert planned("+15550199", "b", account_trunks=trunks) == ["trunk:of-b +15550199"]
    assert planned("+15550199", "a", account_trunks=trunks) == ["trunk:carrier +15550199"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+1 555 0100", "+15550100"),
        ("sip:anna@example.com", "anna"),
        ("tel:+15550100", "+15550100"),
        ("sip:", ""),
        ("", ""),
        ("a\r\nVia: x", "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}Via: x"),
    ],
)
def test_who_calls(text: str, number: str) -> None:
    assert caller_of(text).number == number
