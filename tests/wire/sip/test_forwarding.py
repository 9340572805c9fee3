from __future__ import annotations

import pytest

from callreel.base.errors import PeerError
from callreel.wire.sip.forwarding import forwards_left
from callreel.wire.sip.message import Request
from callreel.wire.sip.values import URI


@pytest.mark.parametrize(("value", "left"), [(None, 69), ("70", 69), ("1", 0), ("255", 69)])
def test_forwards_left(value: str | None, left: int) -> None:
    request = Request("INVITE", URI.parse("sip:a"))
    if value is not None:
        request.headers.set("Max-Forwards", value)
    assert forwards_left(request) == left


def test_no_forwards_left() -> None:
    request = Request("INVITE", URI.parse("sip:a"))
    request.headers.set("Max-Forwards", "0")
    with pytest.raises(PeerError) as caught:
        forwards_left(request)
    assert caught.value.status == 483
