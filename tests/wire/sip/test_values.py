from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from callreel.wire.sip.values import (
    URI,
    Address,
    MediaType,
    Parameters,
    Via,
    parse_cseq,
    parse_integer,
    printable,
    split_list,
)


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@example.com",
        "sip:srs",
        "sip:sbc1:5060;transport=tcp;lr",
        "sip:under_scored-host.local",
        "sips:bob@[2001:db8::1]:5061;maddr=[2001:db8::2]",
        "sip:alice@example.com?Subject=call",
        "sip:alice;day=tuesday@example.com",
        "sip:%61lice@example.com;%6C%72;n%61me=v%61lue%25%34%31",
        "sip:alice@example.com;self=1;cls=2",
        "tel:+1-201-555-0123;phone-context=example.com",
        "urn:service:sos",
        "http://www.example.com",
    ],
)
def test_uri_prints_as_read(text: str) -> None:
    assert str(URI.parse(text)) == text
    assert str(Address.parse(f"<{text}>").uri) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "sip:", "alice", "sip:a b@c", "sip:a@", "sip:@b", "sip:a@b:99999", "sip:a@b:x"),
        *("sip:a%zz@b", "sip:a@[::1", "<sip:a@b>", "sip:a@b;=x", "sip:a@b\r\nX: y", "tel:", "x:"),
    ],
)
def test_bad_uri(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        URI.parse(text)


def test_uri_parts() -> None:
    uri = URI.parse("sip:al%40ice:se%3Acret@[2001:db8::1]:5070;Transport=TCP;lr?a=b&c=d")
    assert (uri.user, uri.password, uri.host, uri.port) == (
        "al@ice",
        "se:cret",
        "[2001:db8::1]",
        5070,
    )
    assert uri.parameters["transport"] == "TCP"
    assert "LR" in uri.parameters
    assert uri.headers == "a=b&c=d"


@pytest.mark.parametrize(
    ("text", "name", "uri", "tag"),
    [
        ("sip:a@b;tag=1", "", "sip:a@b", "1"),
        ("<sip:a@b;x=y>;tag=1", "", "sip:a@b;x=y", "1"),
        ('"A, \\"B\\" <C>; D" <sip:a@b>;tag=a*b%41', 'A, "B" <C>; D', "sip:a@b", "a*b%41"),
        ("Alice Smith <sip:a@b>", "Alice Smith", "sip:a@b", None),
        ("caller<sip:a@b>;tag=323", "caller", "sip:a@b", "323"),
        ("<sip:a@b>;Tag=x", "", "sip:a@b", "x"),
        ('"nul\0" <sip:a@b>', "nul\ufffd", "sip:a@b", None),
        ("Müller & Söhne <tel:+49301>", "Müller & Söhne", "tel:+49301", None),
    ],
)
def test_address(text: str, name: str, uri: str, tag: str | None) -> None:
    address = Address.parse(text)
    assert (address.name, str(address.uri), address.tag) == (name, uri, tag)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", '"open <sip:a@b>', '"a" sip:a@b', "<sip:a@b", "< sip:a@b >", "A, B <sip:a@b>"),
        *("sip:a@b?x=y", "sip:a@b, sip:c@d", "<sip:a@b>x", "<sip:a@b>;;", "<>", '<sip:a@b>;t="'),
    ],
)
def test_bad_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Address.parse(text)


def test_address_list_with_commas_in_quotes_and_brackets() -> None:
    addresses = Address.parse_many('"a, b" <sip:a,b@c>;q=1, "c" <sip:d@e> , sip:f@g')
    assert [str(address.uri) for address in addresses] == ["sip:a,b@c", "sip:d@e", "sip:f@g"]


def test_tag_is_added_to_what_was_read() -> None:
    assert str(Address.parse('"A"  <sip:a@b>;x="y z"').with_tag("t1")) == (
        '"A" <sip:a@b>;x="y z";tag=t1'
    )
    assert str(Address.parse("sip:a@b;x=1").with_tag("t1")) == "<sip:a@b>;x=1;tag=t1"
    assert Address.parse("<sip:a@b>;tag=old").with_tag("new").tag == "new"
    assert str(Address.parse("<sip:a@b>;tag=old").with_tag("new")) == "<sip:a@b>;tag=new"


def test_via() -> None:
    via = Via.parse("SIP / 2.0 / UDP  first.example.com : 4000;ttl=16 ;maddr=224.2.0.1;branch=x.1")
    assert (via.transport, via.host, via.port, via.branch) == (
        "UDP",
        "first.example.com",
        4000,
        "x.1",
    )
    assert str(Via.parse("SIP/2.0/TCP [::1]:5060;received=2001:db8::1;rport=1;branch=a")) == (
        "SIP/2.0/TCP [::1]:5060;received=2001:db8::1;rport=1;branch=a"
    )
    assert Via.parse("SIP/2.0/UDP h_1").branch == ""


@pytest.mark.parametrize(
    "text", ["", "SIP/2.0/UDP", "SIP/3.0/UDP h", "SIP/2.0/UDP h:99999", "SIP/2.0/UDP [::1", "UDP h"]
)
def test_bad_via(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Via.parse(text)


def test_media_type_boundary_comes_without_quotes() -> None:
    media_type = MediaType.parse('Multipart/Mixed ; boundary="a b;c=\\"d\\""')
    assert media_type.mime_type == "multipart/mixed"
    assert media_type.parameters["Boundary"] == 'a b;c="d"'


def test_parameters() -> None:
    parameters = Parameters.parse(';a=1; B="x;y" ;c;a=2')
    assert dict(parameters) == {"a": "1", "b": "x;y", "c": None}
    assert str(parameters) == ';a=1;B="x;y";c'
    assert str(parameters.replace(a="9", d="p q")) == ';a=9;B="x;y";c;d="p q"'
    assert str(parameters.without("B")) == ";a=1;c"


@pytest.mark.parametrize("text", ["x", ";", ";;a", ";a=", ';a="x', ';a="x"y', ";a" * 100])
def test_bad_parameters(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Parameters.parse(text)


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.0", "٣", "1" * 5000, "4294967296", "1 2", "0x1"]
)
def test_bad_number(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_integer(text, maximum=0xFFFF_FFFF)


def test_cseq() -> None:
    assert (parse_cseq("0009  INVITE").sequence, parse_cseq("1 A").method) == (9, "A")
    for text in ("", "1", "INVITE 1", "1 IN VITE", "-1 BYE"):
        with pytest.raises(ValueError, match=r"\w"):
            parse_cseq(text)


def test_printable() -> None:
    assert printable("a\0b\x7fc\ud800") == "a\ufffdb\ufffdc\ufffd"


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=60))
def test_reading_text_raises_nothing_but_value_error(text: str) -> None:
    for parse in (URI.parse, Address.parse, Address.parse_many, Via.parse_many, MediaType.parse):
        try:
            parse(text)
        except ValueError:
            continue
    try:
        Parameters.parse(text)
        split_list(text)
    except ValueError:
        pass


@given(st.text(max_size=40), st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,20}", fullmatch=True))
def test_address_that_we_make_reads_the_same(name: str, tag: str) -> None:
    address = Address(URI("sip", "h", user=name or None), name="x", parameters=Parameters(tag=tag))
    again = Address.parse(str(address))
    assert (again.uri.user or "") == name.encode("utf-8", "replace").decode()
    assert again.tag == tag


@given(st.text(alphabet='abc "\\;=<>,', max_size=30))
def test_quoted_parameter_reads_the_same(value: str) -> None:
    again = Parameters.parse(str(Parameters(x=value, y="1")))
    assert (again["x"] or "", again["y"]) == (value, "1")
