from __future__ import annotations

import pytest

from callreel.base.errors import UsageError
from callreel.signalling.routing import Route, Routes, Target, TargetKind, parse_target

OUT = Route(("trunk:carrier", "trunk:spare"), prefix="+")
LOCAL = Route(("trunk:carrier",), prefix="+49", strip=3, prepend="0", ring_seconds=7)
DESK = Route(("user:anna", "user:ben"), user="desk", at_once=True)
ROUTES = Routes([OUT, LOCAL, DESK], {"anna": "anna", "+15550111": "anna"})


def dialled(number: str, source: str = "pbx") -> list[tuple[str, str]] | None:
    plan = ROUTES.find(number, source)
    return None if plan is None else [(str(one), one.number) for one in plan.targets]


def test_the_longest_prefix_wins_and_the_number_is_rewritten() -> None:
    assert dialled("+15550199") == [("trunk:carrier", "+15550199"), ("trunk:spare", "+15550199")]
    assert dialled("+49 (30) 123-4") == [("trunk:carrier", "0301234")]
    plan = ROUTES.find("+4930", "pbx")
    assert plan is not None
    assert (plan.at_once, plan.ring_seconds) == (False, 7)


def test_a_user_wins_over_every_prefix_and_a_phone_has_its_own_name_and_number() -> None:
    assert dialled("desk") == [("user:anna", "desk"), ("user:ben", "desk")]
    assert dialled("anna") == [("user:anna", "anna")]
    assert dialled("+15550111") == [("trunk:carrier", "+15550111"), ("trunk:spare", "+15550111")]
    assert Routes([], {"+15550111": "anna"}).find("+1-555-0111", "x") is not None
    assert dialled("nobody") is None
    assert dialled("") is None


def test_routes_that_are_for_some_sources_only() -> None:
    routes = Routes(
        [
            Route(("trunk:a",), prefix="+1", sources=frozenset({"users"})),
            Route(("trunk:b",), prefix="+1", sources=frozenset({"pbx", "user:eve"})),
        ],
        {},
    )
    for source, target in (("user:anna", "trunk:a"), ("pbx", "trunk:b")):
        plan = routes.find("+15550199", source)
        assert plan is not None
        assert str(plan.targets[0]) == target
    assert routes.find("+15550199", "carrier") is None
    assert routes.find("+15550199", "users") is not None


def test_targets() -> None:
    assert parse_target("sip:{number}@192.0.2.7", "12") == Target(
        TargetKind.URI, "sip:12@192.0.2.7", "12"
    )
    assert parse_target("user:{number}", "12") == Target(TargetKind.USER, "12", "12")
    for wrong in ("carrier", "trunk:", "mailto:a@b", ""):
        with pytest.raises(UsageError, match="no target"):
            parse_target(wrong, "12")
