from __future__ import annotations

import pytest

from callreel.signalling.nat import is_elsewhere, reachable_target
from callreel.wire.sip.flow import Flow, Transport

SEEN = Flow(Transport.UDP, "203.0.113.9", 40000)


@pytest.mark.parametrize(
    ("named", "seen", "elsewhere"),
    [
        ("192.168.1.7", "203.0.113.9", True),
        ("10.1.2.3", "203.0.113.9", True),
        ("fd00::7", "2001:470::9", True),
        ("[fd00::7]", "2001:470::9", True),
        ("198.18.7.7", "192.168.1.7", False),
        ("8.8.8.8", "203.0.113.9", False),
        ("192.168.1.7", "192.168.1.1", False),
        ("127.0.0.1", "203.0.113.9", False),
        ("phone.example.com", "203.0.113.9", False),
    ],
)
def test_whose_address_is_elsewhere(named: str, seen: str, elsewhere: bool) -> None:
    if seen.startswith("203.0.113"):  # a documentation range, which counts as private
        seen = "9.9.9.9"
    assert is_elsewhere(named, seen) is elsewhere


def test_requests_go_where_the_packets_came_from() -> None:
    flow = Flow(Transport.TCP, "9.9.9.9", 40000)
    contact = "sip:anna@192.168.1.7:5062;transport=tcp;ob"
    assert reachable_target(contact, flow) == "sip:anna@9.9.9.9:40000;transport=tcp;ob"
    assert reachable_target("sip:anna@8.8.4.4:5062", flow) == "sip:anna@8.8.4.4:5062"
    assert reachable_target("nonsense", SEEN) == "nonsense"
