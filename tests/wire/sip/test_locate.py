"""What to ask the DNS, and in what order to try what it says (RFC 3263, RFC 2782)."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.locate import (
    MAX_SERVERS,
    Naptr,
    Reachability,
    Service,
    Srv,
    Target,
    order_servers,
    parse_hosts,
    services_by_name,
    services_by_naptr,
)
from callreel.wire.sip.values import URI

ALL = tuple(Transport)


def target(text: str, transport: Transport | None = None) -> Target:
    return Target.of(URI.parse(text), transport)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sip:a@H.Example.", Target("h.example", None, None, False, False)),
        ("sip:h:5070", Target("h", 5070, Transport.UDP, False, False)),
        ("sip:h;transport=TCP", Target("h", None, Transport.TCP, False, False)),
        ("sip:h;transport=tls", Target("h", None, Transport.TLS, False, False)),
        ("sip:192.0.2.1", Target("192.0.2.1", None, Transport.UDP, False, True)),
        ("sip:[2001:DB8::1]:5070", Target("2001:db8::1", 5070, Transport.UDP, False, True)),
        ("sips:h", Target("h", None, Transport.TLS, True, False)),
        ("sips:h;transport=tcp", Target("h", None, Transport.TLS, True, False)),
        ("sip:h;maddr=192.0.2.9", Target("h", None, None, False, False)),
    ],
)
def test_target(uri: str, expected: Target) -> None:
    assert target(uri) == expected


@pytest.mark.parametrize("uri", ["tel:+1", "sip:h;transport=sctp", "sips:h;transport=udp"])
def test_target_that_is_not_spoken(uri: str) -> None:
    with pytest.raises(PeerError) as caught:
        target(uri)
    assert caught.value.status == 416


def test_given_transport_wins() -> None:
    assert target("sip:h;transport=udp", Transport.TCP).transport is Transport.TCP


def test_flow_of_a_target() -> None:
    assert target("sip:h").flow("192.0.2.1") == Flow(Transport.UDP, "192.0.2.1", 5060)
    assert target("sips:h.example").flow("192.0.2.1") == Flow(
        Transport.TLS, "192.0.2.1", 5061, domain="h.example"
    )
    assert target("sip:h:7").flow("::1", 9, Transport.TCP) == Flow(Transport.TCP, "::1", 9)


NAPTRS = [
    # The example of RFC 3263 §4.1, shuffled, and what is of no use.
    Naptr(100, 50, "s", "SIP+D2U", "_sip._udp.example.com."),
    Naptr(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com."),
    Naptr(90, 50, "S", "sip+d2t", "_sip._tcp.example.com."),
    Naptr(90, 40, "s", "SIP+D2S", "_sip._sctp.example.com."),
    Naptr(10, 50, "u", "SIP+D2U", "."),
    Naptr(10, 50, "s", "SIP+D2U", "."),
]


def test_naptr() -> None:
    found = services_by_naptr(NAPTRS, target("sip:example.com"), ALL)
    assert found == [
        Service(Transport.TLS, "_sips._tcp.example.com"),
        Service(Transport.TCP, "_sip._tcp.example.com"),
        Service(Transport.UDP, "_sip._udp.example.com"),
    ]
    assert services_by_naptr(NAPTRS, target("sips:example.com"), ALL) == found[:1]
    assert services_by_naptr(NAPTRS, target("sip:example.com"), [Transport.UDP]) == found[2:]


def test_names_without_naptr() -> None:
    assert [one.name for one in services_by_name(target("sip:h"), ALL)] == [
        "_sip._udp.h",
        "_sip._tcp.h",
    ]
    assert services_by_name(target("sips:h"), ALL) == [Service(Transport.TLS, "_sips._tcp.h")]
    assert services_by_name(target("sip:h;transport=tcp"), [Transport.UDP]) == [
        Service(Transport.TCP, "_sip._tcp.h")
    ]


def test_servers_by_priority_then_weight() -> None:
    records = [
        Srv(20, 0, 5060, "backup."),
        Srv(10, 60, 5060, "big."),
        Srv(10, 20, 5061, "small."),
        Srv(10, 0, 5060, "."),
    ]
    source = random.Random(1)
    first = Counter(order_servers(records, source.random)[0].target for _ in range(2000))
    assert first["backup."] == 0
    assert 2.3 < first["big."] / first["small."] < 3.7
    assert [one.target for one in order_servers(records, lambda: 0.0)] == [
        *("small.", "big.", "backup.")
    ]
    assert [one.target for one in order_servers(records, lambda: 1.0)][-1] == "backup."


@given(
    st.lists(
        st.builds(
            Srv, st.integers(0, 3), st.integers(0, 65535), st.just(1), st.text("ab", min_size=1)
        ),
        max_size=MAX_SERVERS,
    ),
    st.randoms(),
)
def test_every_server_is_tried_once(records: list[Srv], source: random.Random) -> None:
    ordered = order_servers(records, source.random)
    assert sorted(ordered, key=repr) == sorted(records, key=repr)
    priorities = [one.priority for one in ordered]
    assert priorities == sorted(priorities)


def test_servers_are_bounded() -> None:
    records = [Srv(n, 0, 1, f"h{n}") for n in range(100)]
    assert len(order_servers(records, lambda: 0.5)) == MAX_SERVERS


def test_hosts_file() -> None:
    text = "127.0.0.1 localhost # me\n::1\tlocalhost Ip6\n\n# x\nnonsense a\n192.0.2.1\n"
    assert parse_hosts(text) == {"localhost": ("127.0.0.1", "::1"), "ip6": ("::1",)}


def test_who_failed_is_tried_last_for_a_while() -> None:
    one, two, three = (Flow(Transport.UDP, f"192.0.2.{n}", 5060) for n in (1, 2, 3))
    memory = Reachability()
    memory.failed(Flow(one.transport, one.host, one.port, ("192.0.2.9", 1)), now=0.0)
    assert memory.sort([one, two, three], now=29.9) == [two, three, one]
    memory.failed(two, now=10.0)
    assert memory.sort([one, two, three], now=29.9) == [three, one, two]
    memory.succeeded(two)
    assert memory.sort([one, two, three], now=29.9) == [two, three, one]
    assert memory.sort([one, two, three], now=30.0) == [one, two, three]


def test_failures_are_forgotten_before_they_fill_the_memory() -> None:
    memory = Reachability()
    for number in range(5_000):
        memory.failed(Flow(Transport.TCP, "192.0.2.1", number), now=float(number))
    assert len(memory._until) <= 1_024
