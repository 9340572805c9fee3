from __future__ import annotations

from callreel.wire.sip.message import Response
from callreel.wire.sip.redirect import MAX_TARGETS, redirect_targets


def targets(*contacts: str) -> list[str]:
    response = Response(302)
    response.headers.setlist("Contact", list(contacts))
    return [str(address.uri) for address in redirect_targets(response)]


def test_the_most_wanted_first() -> None:
    found = targets(
        "<sip:low@h>;q=0.1, <sip:first@h>", '"B, C" <sip:half@h>;q=0.5', "<tel:+1555>;q=1.0"
    )
    assert found == ["sip:first@h", "tel:+1555", "sip:half@h", "sip:low@h"]


def test_nonsense_is_left_out() -> None:
    found = targets(
        "*",
        "<mailto:a@h>",
        "nonsense",
        '"open <sip:a@h>',
        "<sip:a@h>;q=nan, <sip:b@h>;q=x",
        "<sip:c@h>;q=7",
        "<sip:c@h>;q=7",
        "",
    )
    assert found == ["sip:c@h", "sip:a@h", "sip:b@h"]


def test_bounded() -> None:
    assert len(targets(", ".join(f"<sip:{n}@h>" for n in range(50)))) == MAX_TARGETS
