"""The torture messages of RFC 4475, noise and broken framing, against a running server."""

from __future__ import annotations

import random
import re
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from tests.journeys.bad_input.peer import SipPeer
from tests.journeys.bad_input.sdp import siprec

TORTURE = sorted((Path(__file__).parents[2] / "wire/sip/torture").glob("*.dat"))
HOST = "127.0.0.77"

ANSWERED = {
    "badaspec": 400,
    "badbranch": 200,
    "baddate": 488,  # plain calls, not recording sessions: this, and the other 488s
    "baddn": 400,
    "badinv01": 400,
    "badvers": 505,
    "bext01": 420,
    "clerr": 400,
    "cparam01": 405,
    "cparam02": 405,
    "dblreq": 405,
    "esc01": 488,
    "esc02": 501,
    "escnull": 405,
    "escruri": 400,
    "intmeth": 501,
    "inv2543": 400,  # no Contact: where would our BYE go?
    "invut": 415,
    "longreq": 488,
    "ltgtruri": 400,
    "lwsdisp": 200,
    "lwsruri": 400,
    "lwsstart": 400,
    "mcl01": 400,
    "mismatch01": 400,
    "mismatch02": 400,
    "multi01": 400,
    "ncl": 400,
    "novelsc": 416,
    "quotbal": 400,
    "regaut01": 405,
    "regbadct": 405,
    "regescrt": 405,
    "scalar02": 400,
    "sdp01": 488,
    "semiuri": 200,
    "transports": 200,
    "trws": 400,
    "unkscm": 416,
    "unksm2": 405,
    "wsinv": 481,
    "zeromf": 200,
}
"""What a recorder answers over UDP; to what is not here, nothing."""

SILENT_ON_A_STREAM = {"clerr", "multi01"}
"""Their Content-Length promises more than comes: a stream waits for the rest."""
REFUSED_ON_A_STREAM = {"inv2543": 400, "mcl01": 400, "dblreq": 405, "ncl": 400}
"""Where the length is missing, given twice or negative, the stream ends (RFC 3261 §18.3)."""

_CALL_ID = re.compile(rb"(?im)^((?:call-id|i)[ \t]*:\s*)(\S+)")


def made_unique(path: Path, run: str) -> tuple[str, bytes]:
    """A message with a branch and Call-ID that no other run has; its Call-ID."""
    data = path.read_bytes()
    mark = f"{run}{path.stem}".encode()
    branch = re.compile(rb"(branch[ \t]*=[ \t]*z9hG4bK)(?=[^\r\n;,])")
    head, gap, body = data.partition(b"\r\n\r\n")
    head = branch.sub(lambda found: found[1] + mark, head)
    head = _CALL_ID.sub(lambda found: found[1] + mark, head, count=1)
    return mark.decode(), head + gap + body


def bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((HOST, port))
    return made


@pytest.fixture
def via_ports() -> Iterator[list[socket.socket]]:
    """Where the messages' Vias want the answers, at an address of their own."""
    sockets = [bound(5060), bound(5050)]
    yield sockets
    for one in sockets:
        one.close()


def address(server: OwnServer) -> tuple[str, int]:
    host, port = server.sip_uri.removeprefix("sip:").split(":")
    return host, int(port)


def final_codes(data: bytes) -> list[int]:
    found = [int(code) for code in re.findall(rb"(?m)^SIP/2\.0 (\d{3}) ", data)]
    return [code for code in found if code >= 200]


def test_torture_over_udp(server: OwnServer, via_ports: list[socket.socket]) -> None:
    names = {}
    for path in TORTURE:
        call_id, data = made_unique(path, "u")
        names[call_id] = path.stem
        via_ports[0].sendto(data, address(server))
    codes: dict[str, set[int]] = {}
    deadline = time.monotonic() + 5
    while set(codes) != set(ANSWERED) and time.monotonic() < deadline:
        for one in select.select(via_ports, [], [], 0.1)[0]:
            data = one.recv(65536)
            match = _CALL_ID.search(data)
            assert match is not None
            codes.setdefault(names[match[2].decode()], set()).update(final_codes(data))
    assert codes == {name: {code} for name, code in ANSWERED.items()}
    refused = re.findall(rf"message from udp:{HOST}:5060 refused: .*", server.log)
    assert len(refused) == 1, "once a minute for each host"


def test_torture_over_tcp(server: OwnServer) -> None:
    connections = {}
    for path in TORTURE:
        connection = socket.create_connection(address(server))
        connection.sendall(made_unique(path, "t")[1])
        connections[connection] = path.stem
    expected = {
        name: code for name, code in ANSWERED.items() if name not in SILENT_ON_A_STREAM
    } | REFUSED_ON_A_STREAM
    received = {path.stem: b"" for path in TORTURE}
    open_ = list(connections)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        got = {name: codes[0] for name, data in received.items() if (codes := final_codes(data))}
        if got == expected:
            break
        for one in select.select(open_, [], [], 0.1)[0]:
            if data := one.recv(65536):
                received[connections[one]] += data
            else:
                open_.remove(one)
    for one in connections:
        one.close()
    assert got == expected
    closed = {connections[one] for one in connections if one not in open_}
    assert {"inv2543", "mcl01", "ncl"} <= closed


def test_noise_and_truncated_invites_over_udp(server: OwnServer) -> None:
    dice = random.Random(4475)
    with SipPeer(server) as peer:
        for size in (1, 2, 3, 20, 200, 1400, 9000):
            for _ in range(20):
                peer.send(dice.randbytes(size))
                peer.send(b"INVITE sip:a@b SIP/2.0\r\n" + dice.randbytes(size))
        peer.send(b"\r\n\r\n")
        peer.send(b"\0\0\0\0")
        invite = peer.request("INVITE", "Require: siprec", body=siprec())
        for end in range(1, len(invite), 7):
            peer.send(invite[:end])
        while (reply := peer.receive(0.3)) is not None:
            assert 400 <= reply.code < 500
        assert peer.ask(peer.request("OPTIONS")).code == 200


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("Content-Length: -1", 400),
        ("Content-Length: 99999999999999999999", 400),
        ("Content-Length: 2000000000", 513),
        ("Content-Length: twelve", 400),
        ("Content-Length: 4\r\nContent-Length: 5", 400),
    ],
)
def test_bad_length_ends_its_stream(server: OwnServer, head: str, code: int) -> None:
    with SipPeer(server, "tcp") as peer, SipPeer(server, "tcp") as other:
        assert peer.ask(peer.request("OPTIONS", *head.split("\r\n"))).code == code
        assert peer.closed()
        assert other.ask(other.request("OPTIONS")).code == 200
    with SipPeer(server) as peer:
        reply = peer.ask(peer.request("OPTIONS", *head.split("\r\n")))
        assert reply.code == 400


def test_a_header_without_end_is_cut(server: OwnServer) -> None:
    with SipPeer(server, "tcp") as peer:
        try:
            for _ in range(20):
                peer.send(b"X-Padding: " + b"x" * 5000 + b"\r\n")
        except ConnectionError:
            pass
        assert peer.closed()


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n",
        bytes(range(256)) * 40 + b"\r\n\r\n",
    ],
    ids=["http", "tls", "bytes"],
)
def test_what_is_no_sip_ends_its_stream(server: OwnServer, noise: bytes) -> None:
    with SipPeer(server, "tcp") as peer:
        peer.send(noise)
        assert peer.closed()


def test_stalled_connections_hold_up_nobody(server: OwnServer) -> None:
    stalled = [SipPeer(server, "tcp") for _ in range(50)]
    try:
        for number, peer in enumerate(stalled):
            invite = peer.request("INVITE", "Require: siprec", body=siprec())
            peer.send(invite[: number * len(invite) // 50])
        with SipPeer(server, "tcp") as peer:
            begun = time.monotonic()
            assert peer.ask(peer.request("OPTIONS")).code == 200
            assert time.monotonic() - begun < 1
    finally:
        for peer in stalled:
            peer.close()
