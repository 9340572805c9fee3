from __future__ import annotations

from collections.abc import Sequence

import pytest

from callreel.signalling.destinations import Contact, destinations
from callreel.signalling.routing import parse_target


class Nowhere:
    def contacts(self, user: str) -> Sequence[Contact]:
        return ()


@pytest.mark.parametrize("dialled", ["callreel", "70000", "", "5060;lr"])
def test_what_makes_no_address_is_nowhere(dialled: str) -> None:
    target = parse_target("sip:peer@127.0.0.1:{number}", dialled)
    assert destinations(target, {}, Nowhere(), {}) == []


def test_what_is_dialled_makes_the_address() -> None:
    (one,) = destinations(parse_target("sip:peer@127.0.0.1:{number}", "15070"), {}, Nowhere(), {})
    assert str(one.uri) == "sip:peer@127.0.0.1:15070"
