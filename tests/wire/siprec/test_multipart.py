"""Multipart bodies: the liberties that senders take, and the bounds."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError, UsageError
from callreel.wire.siprec.multipart import (
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_PARTS,
    Part,
    find_metadata,
    find_sdp,
    parse,
    parse_content_type,
    serialize,
)

TWO = (
    b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n"
    b"--b\r\nContent-Type: text/x\r\n\r\n\x00\xff\r\n--b--\r\n"
)


def refused(error: PeerError) -> None:
    """With a status that says what was wrong."""
    assert error.status in (400, 413)


def bodies(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    return [(part.content_type, part.body) for part in parse(content_type, body)]


def test_two_parts_and_their_exact_bytes() -> None:
    assert bodies("multipart/mixed;boundary=b", TWO) == [
        ("application/sdp", b"v=0\r\n"),
        ("text/x", b"\x00\xff"),
    ]


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/mixed;boundary="b"',
        "multipart/mixed; boundary=b ; charset=x",
        'MULTIPART/Mixed; type="application/sdp"; BOUNDARY = "b"',
        "multipart/mixed",
        "multipart/mixed; boundary=another",
        "multipart/related;boundary='b'",
        'multipart/mixed;boundary="\\b"',
    ],
)
def test_boundaries_as_they_are_really_given(content_type: str) -> None:
    assert [body for _, body in bodies(content_type, TWO)] == [b"v=0\r\n", b"\x00\xff"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"pre\r\n--b\r\n\r\nx\r\n--b--\r\npost --b\r\n", [b"x"]),
        (b"--b\n\nx\n--b--", [b"x"]),
        (b"--b\r\n\r\nx", [b"x"]),
        (b"--b\r\n\r\nx\r\n--b", [b"x", b""]),
        (b"--b  \t\r\n\r\nx\r\n--b-- \r\n", [b"x"]),
        (b"--b\r\n\r\n--bx\r\n--b--\r\n", [b"--bx"]),
        (b"--b\r\n\r\nx--b\r\n--b--\r\n", [b"x--b"]),
        (b"--b\r\n--b--\r\n", [b""]),
        (b"--b--\r\n", []),
        (b"--b\r\nv=0\r\no=-\r\n--b--", [b"v=0\r\no=-"]),
    ],
)
def test_edges(body: bytes, expected: list[bytes]) -> None:
    assert [part.body for part in parse("multipart/mixed;boundary=b", body)] == expected


def test_headers_unfolded_spaced_and_cleaned() -> None:
    (part,) = parse(
        "multipart/mixed;boundary=b",
        b"--b\r\nCONTENT-TYPE :Application/SDP;\r\n\tcharset=utf-8\r\n"
        b"Content-ID:<a@b>\r\nContent-Disposition: Recording-Session ;handling=optional\r\n\r\n."
        b"\r\n--b--",
    )
    assert part.content_type == "application/sdp"
    assert part.content_id == "a@b"
    assert part.content_disposition == "recording-session"
    assert part.headers[0] == ("CONTENT-TYPE", "Application/SDP; charset=utf-8")


def test_a_body_that_is_no_multipart_is_one_part() -> None:
    (part,) = parse("application/sdp;charset=x", b"v=0\r\n")
    assert part == Part(
        "application/sdp", b"v=0\r\n", headers=(("Content-Type", "application/sdp;charset=x"),)
    )
    assert find_sdp(parse("", b"v=0\r\n")) is not None


def test_transfer_encodings_are_undone() -> None:
    def one(encoding: str, body: bytes) -> bytes:
        head = f"--b\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        (part,) = parse("multipart/mixed;boundary=b", head + body + b"\r\n--b--")
        return part.body

    assert one("Base64", base64.encodebytes(b"v=0\r\n" * 40)) == b"v=0\r\n" * 40
    assert one("quoted-printable", b"a=3D=\r\nb") == b"a=b"
    assert one("binary", b"=3D") == b"=3D"
    with pytest.raises(PeerError):
        one("base64", b"!!!")


def nested(depth: int) -> bytes:
    body = b"v=0"
    content_type = b"application/sdp"
    for level in range(depth):
        name = str(level).encode()
        body = b"--%b\r\nContent-Type: %b\r\n\r\n%b\r\n--%b--\r\n" % (
            name,
            content_type,
            body,
            name,
        )
        content_type = b"multipart/mixed;boundary=" + name
    return body


def test_nesting_is_flattened_up_to_a_depth() -> None:
    (part,) = parse(f"multipart/mixed;boundary={MAX_DEPTH - 1}", nested(MAX_DEPTH))
    assert part.body == b"v=0"
    with pytest.raises(PeerError) as caught:
        parse(f"multipart/mixed;boundary={MAX_DEPTH}", nested(MAX_DEPTH + 1))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/mixed;boundary=b", b"--b\r\n\r\nx\r\n" * (MAX_PARTS + 1) + b"--b--", 413),
        ("application/sdp", b"x" * (MAX_BODY_BYTES + 1), 413),
        ("multipart/mixed;boundary=b", b"no boundary anywhere", 400),
        ("multipart/mixed;boundary=b", b"", 400),
        ("multipart/mixed;boundary=b", b"--b\r\n" + b"X: y\r\n" * 4000, 400),
    ],
)
def test_bounds(content_type: str, body: bytes, status: int) -> None:
    with pytest.raises(PeerError) as caught:
        parse(content_type, body)
    assert caught.value.status == status


def test_leaves_of_sibling_multiparts_are_counted_together() -> None:
    inner = b"--i\r\n\r\nx\r\n" * 20 + b"--i--\r\n"
    outer = (b"--b\r\nContent-Type: multipart/mixed;boundary=i\r\n\r\n" + inner) * 2 + b"--b--"
    with pytest.raises(PeerError) as caught:
        parse("multipart/mixed;boundary=b", outer)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "content_type",
    ["application/rs-metadata+xml", "Application/RS-Metadata", "application/rs-metadata; v=1"],
)
def test_metadata_is_found_whatever_it_is_called(content_type: str) -> None:
    parts = parse(content_type, b"<recording/>")
    assert find_metadata(parts) is parts[0]
    assert find_sdp(parts) is None


def test_a_part_without_a_type_is_known_by_its_looks() -> None:
    parts = parse(
        "multipart/mixed;boundary=b",
        b"--b\r\n\r\nv=0\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\n<?xml?><r:recording a='1'/>\r\n--b--",
    )
    assert find_sdp(parts) is parts[0]
    assert find_metadata(parts) is parts[1]
    assert find_metadata(parse("text/html", b"<recording/>")) is None


def test_an_empty_part_gives_way_to_a_full_one() -> None:
    parts = [Part("application/sdp", b"\r\n"), Part("application/sdp", b"v=0\r\n")]
    assert find_sdp(parts) is parts[1]
    assert find_sdp(parts[:1]) is parts[0]


def test_written_bytes() -> None:
    parts = [
        Part("application/sdp", b"v=0\r\n"),
        Part("application/rs-metadata+xml", b"<r/>", "a@b", "recording-session"),
    ]
    assert serialize(parts, "b") == (
        b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n"
        b"--b\r\nContent-Type: application/rs-metadata+xml\r\nContent-ID: <a@b>\r\n"
        b"Content-Disposition: recording-session\r\n\r\n<r/>\r\n--b--\r\n"
    )


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(UsageError):
        serialize([], "a b")
    with pytest.raises(UsageError):
        serialize([Part("text/plain", b"x\r\n--bee")], "b")
    with pytest.raises(UsageError):
        serialize([Part("text/plain", b"", headers=(("X", "a\r\nB: c"),))], "b")


def test_content_type_parameters() -> None:
    assert parse_content_type('A/B; c="d;\\"e"; F = g') == ("a/b", {"c": 'd;"e', "f": "g"})


@given(
    st.lists(
        st.builds(
            Part,
            st.sampled_from(["application/sdp", "text/plain", "x/y"]),
            st.binary(max_size=200).filter(lambda body: b"--bnd" not in body),
            st.sampled_from(["", "one@example.com"]),
            st.sampled_from(["", "recording-session"]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_round_trip(parts: list[Part]) -> None:
    again = parse("multipart/mixed;boundary=bnd", serialize(parts, "bnd"))
    assert [(p.content_type, p.body, p.content_id, p.content_disposition) for p in again] == [
        (p.content_type, p.body, p.content_id, p.content_disposition) for p in parts
    ]


FRAGMENTS = st.sampled_from(
    [
        b"--",
        b"b",
        b"\r\n",
        b"\n",
        b":",
        b"Content-Type",
        b"multipart/mixed;boundary=b",
        b" ",
        b"--b",
    ]
)


@given(
    st.sampled_from(["multipart/mixed;boundary=b", "multipart/x", "", "application/sdp"]),
    st.binary(max_size=200) | st.lists(FRAGMENTS, max_size=60).map(b"".join),
)
def test_arbitrary_bytes_are_read_or_refused(content_type: str, body: bytes) -> None:
    try:
        parts = parse(content_type, body)
    except PeerError as error:
        refused(error)
    else:
        find_sdp(parts)
        find_metadata(parts)


@given(st.text(max_size=80), st.binary(max_size=80))
def test_arbitrary_content_types_are_read_or_refused(content_type: str, body: bytes) -> None:
    try:
        parse(f"multipart/{content_type}", body)
    except PeerError as error:
        refused(error)
