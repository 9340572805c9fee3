"""The torture messages of RFC 4475: accepted, refused or dropped as the RFC has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from callreel.base.errors import PeerError
from callreel.testing.sip_link import CountingIds
from callreel.wire.sdp import SessionDescription
from callreel.wire.sip.endpoint import Endpoint, RequestReceived
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.framing import StreamFramer
from callreel.wire.sip.message import MalformedRequest, Request, Response, parse_message

FOLDER = Path(__file__).parent / "torture"
METHODS = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE")

ACCEPTED = "accepted"
DROPPED = "dropped"

# What the endpoint of a recorder makes of each: hands it up, answers with a status, or is silent.
OUTCOMES: dict[str, str | int] = {
    # 3.1.1: valid. Unknown methods get 501, REGISTER is known but not for us: 405.
    "wsinv": ACCEPTED,
    "intmeth": 501,
    "esc01": ACCEPTED,
    "escnull": 405,
    "esc02": 501,
    "lwsdisp": ACCEPTED,
    "longreq": ACCEPTED,
    "dblreq": 405,
    "semiuri": ACCEPTED,
    "transports": ACCEPTED,
    "unreason": DROPPED,  # a sound response, but to no request of ours
    "noreason": DROPPED,
    # 3.1.2: invalid
    "badinv01": 400,
    "clerr": 400,
    "ncl": 400,
    "scalar02": 400,
    "scalarlg": DROPPED,
    "quotbal": 400,
    "ltgtruri": 400,
    "lwsruri": 400,
    "lwsstart": 400,
    "trws": 400,
    "escruri": 400,
    "baddate": ACCEPTED,  # the RFC lets an element that has no use for Date ignore it
    "regbadct": 405,
    "badaspec": 400,
    "baddn": 400,
    "badvers": 505,
    "mismatch01": 400,
    "mismatch02": 400,  # or 501, says the RFC
    "bigcode": DROPPED,
    # 3.2.1
    "badbranch": ACCEPTED,  # matched the way of RFC 2543
    # 3.3
    "insuf": DROPPED,  # without From, To and Call-ID there is no answer
    "unkscm": 416,
    "novelsc": 416,
    "unksm2": 405,
    "bext01": 420,
    "invut": ACCEPTED,  # 415 is the user's to say
    "regaut01": 405,
    "multi01": 400,
    "mcl01": 400,
    "bcast": DROPPED,
    "zeromf": ACCEPTED,  # an endpoint acts as if it were positive
    "cparam01": 405,
    "cparam02": 405,
    "regescrt": 405,
    "sdp01": ACCEPTED,  # 406 is the user's to say
    # 3.4.1
    "inv2543": ACCEPTED,
}


def read(name: str) -> bytes:
    return (FOLDER / f"{name}.dat").read_bytes()


def request(name: str) -> Request:
    message = parse_message(read(name))
    assert isinstance(message, Request)
    return message


def test_every_file_has_an_outcome() -> None:
    assert {path.stem for path in FOLDER.glob("*.dat")} == set(OUTCOMES)


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcome(name: str) -> None:
    endpoint = Endpoint(ids=CountingIds(), methods=METHODS, option_tags=("timer",))
    # Content-Length is needed on a stream only, so a datagram is what every one of them came in.
    endpoint.receive(read(name), Flow(Transport.UDP, "192.0.2.77", 5099), now=0.0)
    handed_up = []
    while (event := endpoint.next_event()) is not None:
        handed_up += [event] if isinstance(event, RequestReceived) else []
    answers = [int(outgoing.data.split(b" ")[1]) for outgoing in endpoint.messages_to_send()]
    outcome = OUTCOMES[name]
    if outcome == ACCEPTED:
        assert len(handed_up) == 1
        assert answers == []
    elif outcome == DROPPED:
        assert handed_up == []
        assert answers == []
    else:
        assert handed_up == []
        assert answers == [outcome]


@pytest.mark.parametrize("name", [n for n, o in OUTCOMES.items() if o == ACCEPTED])
def test_what_is_accepted_reads_the_same_after_writing(name: str) -> None:
    first = request(name)
    second = parse_message(bytes(first))
    assert isinstance(second, Request)
    assert (second.method, second.uri, second.body) == (first.method, first.uri, first.body)
    assert second.via == first.via
    assert second.from_address == first.from_address
    assert second.to_address == first.to_address
    assert bytes(second) == bytes(first)


def test_wsinv() -> None:
    message = request("wsinv")
    assert message.to_address.tag == "1918181833n"
    assert message.from_address.name == 'J Rosenberg \\"'
    assert message.from_address.tag == "98asjd8"
    assert message.max_forwards == 68
    assert (message.cseq.sequence, message.cseq.method) == (9, "INVITE")
    assert [via.host for via in message.via] == [
        "192.0.2.2",
        "spindle.example.com",
        "192.168.255.111",
    ]
    assert message.via[1].parameters["branch"] == "z9hG4bK9ikj8"
    assert message.subject == ""
    assert message.headers.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert message.contact[0].name == 'Quoted string ""'
    assert message.contact[0].parameters["newparam"] == "newvalue"
    assert "secondparam" in message.contact[0].parameters
    assert message.route[0].uri.parameters["unknownwith"] == "value"
    assert len(SessionDescription.parse(message.body).media) == 2


def test_intmeth() -> None:
    message = request("intmeth")
    assert message.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert message.uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert message.to_address.name == "BEL:\ufffd NUL:\ufffd DEL:\ufffd"
    assert message.from_address.tag == "_token~1'+`*%!-."
    assert message.from_address.parameters["fromParam''~+*_!.-%"] == "работающий"
    assert message.top_via.branch == "z9hG4bK-.!%66*_+`'~"
    assert message.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"


def test_escapes() -> None:
    esc01 = request("esc01")
    assert esc01.uri.user == "sips:user@example.com"
    assert esc01.to_address.uri.user == "user"
    assert esc01.contact_uri is not None
    assert str(esc01.contact_uri).endswith(";%6C%72;n%61me=v%61lue%25%34%31")
    escnull = request("escnull")
    assert escnull.to_address.uri.user == "null-\0-null"
    assert [address.uri.user for address in escnull.contact] == ["\0", "\0\0"]
    assert len(request("esc02").contact) == 2
    assert request("semiuri").uri.user == "user;par=u@example.net"


def test_longreq() -> None:
    message = request("longreq")
    assert len(message.via) == 34
    assert message.to_address.uri.port == 6000
    assert message.from_address.tag == "12" + "982" * 50 + "424"


def test_responses() -> None:
    unreason = parse_message(read("unreason"))
    assert isinstance(unreason, Response)
    assert unreason.phrase == "= 2**3 * 5**2 но сто девяносто девять - простое"
    noreason = parse_message(read("noreason"))
    assert isinstance(noreason, Response)
    assert (noreason.code, noreason.phrase) == (100, "")


def test_regbadct_is_refused_once_contact_is_looked_at() -> None:
    with pytest.raises(PeerError, match="needs <>"):
        _ = request("regbadct").contact


def test_400_for_a_malformed_request_copies_its_headers() -> None:
    with pytest.raises(MalformedRequest) as caught:
        parse_message(read("clerr"))
    response = caught.value.response
    assert response is not None
    assert response.call_id == "clerr.0ha0isndaksdjweiafasdk3"
    assert response.top_via.branch == "z9hG4bK-39234-23523"
    assert response.to_address.tag
    assert response.cseq.sequence == 8


def test_lengthless_message_is_refused_on_a_stream() -> None:
    with pytest.raises(MalformedRequest, match="Content-Length"):
        parse_message(read("inv2543"), stream=True)


def test_valid_messages_in_one_stream() -> None:
    names = ["wsinv", "esc01", "escnull", "longreq", "transports", "noreason"]
    framer = StreamFramer()
    frames = []
    for byte in b"".join(read(name) for name in names):
        framer.feed(bytes([byte]))
        while (frame := framer.next_frame()) is not None:
            frames.append(frame)
    calls = [
        parse_message(frame, stream=True).call_id for frame in frames if isinstance(frame, bytes)
    ]
    assert [call.split(".")[0] for call in calls] == names


@pytest.mark.parametrize("name", OUTCOMES)
def test_no_truncation_raises_anything_else(name: str) -> None:
    data = read(name)
    for end in range(0, len(data), 1 + len(data) // 400):
        try:
            message = parse_message(data[:end])
            _ = (message.contact, message.route, message.content_type, message.accept)
        except PeerError:
            pass
