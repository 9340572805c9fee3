from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from callreel.base.errors import PeerError
from callreel.wire.sip.message import (
    MalformedRequest,
    Request,
    Response,
    build_response,
    format_hostport,
    parse_message,
    stamp_source,
)
from callreel.wire.sip.values import URI

HEAD = (
    b"INVITE sip:srs@192.0.2.2 SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKa;rport\r\n"
    b"From: <sip:src@192.0.2.1>;tag=f\r\n"
    b"To: <sip:srs@192.0.2.2>\r\n"
    b"Call-ID: c@192.0.2.1\r\n"
    b"CSeq: 1 INVITE\r\n"
)


def invite(extra: bytes = b"", body: bytes = b"") -> Request:
    message = parse_message(HEAD + extra + b"\r\n" + body)
    assert isinstance(message, Request)
    return message


def test_body_is_cut_to_content_length() -> None:
    assert invite(b"Content-Length: 3\r\n", b"v=0\r\nnoise").body == b"v=0"
    assert invite(b"l:0\r\n", b"noise").body == b""
    assert invite(b"", b"all of it").body == b"all of it"


def test_body_that_is_cut_short_is_refused_with_an_answer() -> None:
    with pytest.raises(MalformedRequest, match="Content-Length") as caught:
        invite(b"Content-Length: 4\r\n", b"v=0")
    assert caught.value.status == 400
    assert caught.value.response is not None
    assert caught.value.response.headers.getlist("Via") == [
        "SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKa;rport"
    ]


def test_too_long() -> None:
    data = HEAD + b"Content-Length: 70000\r\n\r\n" + bytes(70_000)
    with pytest.raises(MalformedRequest) as caught:
        parse_message(data)
    assert caught.value.status == 513
    assert caught.value.response is not None
    assert isinstance(parse_message(data, max_bytes=100_000), Request)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_line_ends_and_leading_blank_lines(line_end: bytes) -> None:
    data = b"\r\n\r\n" + HEAD.replace(b"\r\n", line_end) + line_end
    assert isinstance(parse_message(data), Request)


def test_bytes_that_are_not_utf8() -> None:
    message = invite(b"Subject: Gr\xfc\xdfe\r\nX-\x00: y\r\n".replace(b"X-\x00", b"X-Y"))
    assert message.subject == "Gr\ufffd\ufffde"
    bytes(message).decode("utf-8")


def test_lone_carriage_return_is_white_space() -> None:
    assert invite(b"Subject: a\rEvil: b\r\n").subject == "a Evil: b"


def test_contact_star_is_no_contact() -> None:
    assert invite(b"Contact: *\r\n").contact_uri is None
    assert invite(b"Contact: *\r\n").contact == []
    assert str(invite(b'm: "a,b" <sip:a@b;x=y>;p=1, <sip:c@d>\r\n').contact_uri) == "sip:a@b;x=y"


@pytest.mark.parametrize("line", [b"SIP/2.0 486", b"SIP/2.0 486 ", b"sip/2.0 486 Busy Here"])
def test_status_line_without_reason(line: bytes) -> None:
    message = parse_message(line + b"\r\n" + HEAD.split(b"\r\n", 1)[1] + b"\r\n")
    assert isinstance(message, Response)
    assert message.code == 486


@pytest.mark.parametrize(
    "line",
    [b"SIP/2.0 99 Low", b"SIP/2.0 700 High", b"SIP/2.0 2000 Big", b"SIP/2.0", b"SIP/2.0 x y"],
)
def test_bad_status_line_is_no_request(line: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        parse_message(line + b"\r\n" + HEAD.split(b"\r\n", 1)[1] + b"\r\n")
    assert not isinstance(caught.value, MalformedRequest)


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_missing_header_field(name: str) -> None:
    lines = [line for line in HEAD.split(b"\r\n") if not line.startswith(name.encode() + b":")]
    with pytest.raises(MalformedRequest) as caught:
        parse_message(b"\r\n".join(lines) + b"\r\n")
    assert caught.value.status == 400
    assert caught.value.response is None


@pytest.mark.parametrize(
    "extra",
    [
        *(b"From: <sip:x@y>;tag=2\r\n", b"CSeq: 2 INVITE\r\n", b"i: other\r\n"),
        *(b"Max-Forwards: 256\r\n", b"no colon\r\n", b"b@d name: x\r\n", b": x\r\n"),
        *(b"Content-Length: 1e3\r\n", b"Via: SIP/2.0/UDP h\r\n" * 80, b"Via: nonsense\r\n"),
        b"X-A: y\r\n" * 300,
    ],
)
def test_bad_header_field_is_answered(extra: bytes) -> None:
    with pytest.raises(MalformedRequest) as caught:
        invite(extra)
    assert caught.value.status == 400
    assert caught.value.response is not None
    assert caught.value.response.code == 400


def test_ack_is_never_answered() -> None:
    data = HEAD.replace(b"INVITE", b"ACK") + b"Content-Length: 9\r\n\r\n"
    with pytest.raises(MalformedRequest) as caught:
        parse_message(data)
    assert caught.value.response is None


def test_accessors_raise_peer_errors() -> None:
    message = invite(
        b"Contact: nonsense\r\nContent-Type: x\r\nAccept: y\r\nExpires: soon\r\nRoute: <z\r\n"
        b'Require: "open\r\n'
    )
    for read in (
        lambda: message.contact,
        lambda: message.contact_uri,
        lambda: message.content_type,
        lambda: message.accept,
        lambda: message.expires,
        lambda: message.route,
        lambda: message.require,
    ):
        with pytest.raises(PeerError) as caught:
            read()
        assert caught.value.status == 400


def test_response_copies_what_it_must() -> None:
    request = invite(
        b"Via: SIP/2.0/TCP p.example.com;branch=z9hG4bKp\r\n"
        b"Record-Route: <sip:p.example.com;lr>\r\n"
    )
    response = build_response(
        request,
        200,
        to_tag="mine",
        body=b"v=0",
        content_type="application/sdp",
        headers=[("X-A", "1"), ("X-A", "2")],
    )
    again = parse_message(bytes(response))
    assert isinstance(again, Response)
    assert (again.code, again.phrase, again.body) == (200, "OK", b"v=0")
    assert again.via == request.via
    assert again.to_address.tag == "mine"
    assert again.from_address == request.from_address
    assert str(again.record_route[0].uri) == "sip:p.example.com;lr"
    assert again.headers.getlist("X-A") == ["1", "2"]
    assert build_response(request, 100, to_tag="mine").to_address.tag is None
    assert build_response(request, 486, to_tag="mine").record_route == []


def test_response_keeps_the_tag_of_a_request_in_a_dialog() -> None:
    request = invite()
    request.to_address = request.to_address.with_tag("theirs")
    assert build_response(request, 200, to_tag="mine").to_address.tag == "theirs"


@pytest.mark.parametrize(
    ("via", "stamped"),
    [
        ("192.0.2.1:5062;branch=a;rport", "192.0.2.1:5062;branch=a;rport=4242;received=192.0.2.9"),
        ("192.0.2.1;branch=a", "192.0.2.1;branch=a;received=192.0.2.9"),
        ("192.0.2.9;branch=a", "192.0.2.9;branch=a"),
        ("h.example;branch=a;received=1.1.1.1", "h.example;branch=a;received=192.0.2.9"),
    ],
)
def test_source_is_stamped(via: str, stamped: str) -> None:
    request = invite()
    request.headers.setlist("Via", [f"SIP/2.0/UDP {via}, SIP/2.0/UDP x;branch=b", "SIP/2.0/TCP y"])
    stamp_source(request, "192.0.2.9", 4242)
    assert [str(via) for via in request.via] == [
        f"SIP/2.0/UDP {stamped}",
        "SIP/2.0/UDP x;branch=b",
        "SIP/2.0/TCP y",
    ]


def test_ipv6_source_is_stamped_without_brackets() -> None:
    request = invite()
    request.headers.set("Via", "SIP/2.0/UDP [2001:db8::1]:5060;rport;branch=a")
    stamp_source(request, "2001:db8::9", 5060)
    assert request.top_via.parameters["received"] == "2001:db8::9"
    assert format_hostport("2001:db8::9", 5060) == "[2001:db8::9]:5060"
    assert b"received=2001:db8::9" in bytes(request)


def test_line_breaks_in_what_we_write_make_no_header_fields() -> None:
    request = Request("OPTIONS", URI.parse("sip:a@b"))
    request.headers.set("Subject", "x\r\nEvil: 1\nWorse: 2\r")
    response = Response(400, "no\r\nEvil: 1")
    assert b"\r\nEvil" not in bytes(request)
    assert b"\nWorse" not in bytes(request)
    assert b"\r\nEvil" not in bytes(response)


def test_copy_is_apart() -> None:
    request = invite(b"X-A: 1\r\n")
    copy = request.copy()
    copy.headers.add("X-A", "2")
    assert request.headers.getlist("X-A") == ["1"]


def parse_and_look(data: bytes) -> None:
    try:
        message = parse_message(data)
        bytes(message)
        _ = (message.via, message.from_address, message.to_address, message.cseq, message.call_id)
    except PeerError as error:
        if isinstance(error, MalformedRequest) and error.response is not None:
            bytes(error.response)
        return
    try:
        _ = (message.contact, message.contact_uri, message.route, message.require)
        _ = (message.content_type, message.accept, message.supported)
    except PeerError:
        return


@given(st.binary(max_size=300))
@example(b"")
@example(b"\r\n\r\n")
@example(b"ACK sip:a SIP/2.0\r\n")
def test_any_bytes_raise_peer_error_alone(data: bytes) -> None:
    parse_and_look(data)


@given(st.data())
def test_damaged_message_raises_peer_error_alone(data: st.DataObject) -> None:
    whole = HEAD + b"Contact: <sip:a@b>\r\nRoute: <sip:c;lr>\r\nContent-Type: a/b;c=d\r\n\r\nbody"
    position = data.draw(st.integers(0, len(whole)))
    length = data.draw(st.integers(0, 12))
    parse_and_look(
        whole[:position] + data.draw(st.binary(max_size=12)) + whole[position + length :]
    )


@pytest.mark.parametrize(
    "hostile", [b'"' * 30_000, b";a=" * 15_000, b"<" * 30_000, b" ,\t" * 15_000]
)
@pytest.mark.parametrize("name", [b"From", b"Contact", b"Via", b"Route", b"X"])
def test_no_header_field_takes_long(name: bytes, hostile: bytes) -> None:
    # The time limit is the suite's: a pattern that backtracks would take hours over these.
    parse_and_look(HEAD + name + b": " + hostile + b"\r\n\r\n")
