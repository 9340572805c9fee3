"""What is no document: each refusal has its number, a place and a reason."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from callreel.cxml.codes import Code
from callreel.cxml.document import read
from callreel.cxml.markup import MAX_DEPTH, MAX_DOCUMENT_BYTES, DocumentError, parse
from callreel.cxml.verbs import Say

_ENTITY = b'<!DOCTYPE r [<!ENTITY a "aaaaaaaa">]><Response><Say>&a;</Say></Response>'
_EXTERNAL = (
    b'<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]><Response><Say>&a;</Say></Response>'
)


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        (b"", Code.NOT_XML, None),
        (b" \n", Code.NOT_XML, None),
        (b"hello", Code.NOT_XML, (1, 1)),
        (b'{"a": 1}', Code.NOT_XML, (1, 1)),
        (b"<Response>\n <Say>a</Sa></Response>", Code.NOT_XML, (2, 10)),
        (b"<Response><Say>a & b</Say></Response>", Code.NOT_XML, (1, 19)),
        (b"<Response/>\n<Response/>", Code.NOT_XML, (2, 1)),
        (b"\n<?xml version='1.0'?><Response/>", Code.NOT_XML, (2, 1)),
        (b"<?xml version='1.0' encoding='x-nobody'?><Response/>", Code.NOT_XML, None),
        (b"<Response><Say>\xff\xfe</Say></Response>", Code.NOT_XML, (1, 16)),
        (b"<Response><Say>\x00</Say></Response>", Code.NOT_XML, (1, 16)),
        (b"<!DOCTYPE html><html/>", Code.NOT_XML, None),
        (_ENTITY, Code.NOT_XML, (1, 13)),
        (_EXTERNAL, Code.NOT_XML, (1, 13)),
        (b"<Response><Say>&nbsp;</Say></Response>", Code.NOT_XML, (1, 16)),
        (b"<a>" * 50 + b"</a>" * 50, Code.NOT_XML, (1, 3 * MAX_DEPTH + 1)),
        (b"<html><body>404</body></html>", Code.BAD_ROOT, (1, 1)),
        (b"<response><Say>a</Say></response>", Code.BAD_ROOT, (1, 1)),
        (b"<Response>" + b" " * MAX_DOCUMENT_BYTES + b"</Response>", Code.TOO_LARGE, None),
    ],
)
def test_refused(body: bytes, code: Code, place: tuple[int, int] | None) -> None:
    with pytest.raises(DocumentError) as caught:
        read(body, None)
    assert caught.value.code is code
    assert str(caught.value)
    if place is not None:
        assert (caught.value.line, caught.value.column) == place


def test_ten_megabytes_are_not_even_looked_at() -> None:
    with pytest.raises(DocumentError, match="10485781 bytes"):
        parse(b"<Response>" + b"x" * 10_485_760 + b"</Response>")


def test_the_largest_that_is_read() -> None:
    shell = "<Response><Say></Say></Response>"
    text = shell.replace("<Say>", "<Say>" + "a" * (MAX_DOCUMENT_BYTES - len(shell)))
    assert len(read(text.encode(), None).verbs) == 1
    with pytest.raises(DocumentError):
        read(text.replace("aa", "aaa", 1).encode(), None)


@pytest.mark.parametrize(
    "body",
    [
        "<Response><Say>Grüße</Say></Response>".encode(),
        b"\xef\xbb\xbf" + "<Response><Say>Grüße</Say></Response>".encode(),
        "<?xml version='1.0'?><Response><Say>Grüße</Say></Response>".encode("utf-16"),
        "<?xml version='1.0' encoding='ISO-8859-1'?><Response><Say>Grüße</Say></Response>".encode(
            "latin-1"
        ),
        "<Response><Say><![CDATA[Grüße]]></Say></Response>",
        # Given as text: what it says of its own encoding is of no matter.
        "<?xml version='1.0' encoding='ISO-8859-1'?><Response><Say>Grüße</Say></Response>",
        "<Response><!-- hidden --><?php ?><Say>Gr&#252;&#xdf;e</Say></Response>",
    ],
)
def test_encodings(body: bytes | str) -> None:
    (say,) = read(body, None).verbs
    assert isinstance(say, Say)
    assert say.text == "Grüße"


def _refusal(body: bytes | str) -> Code | None:
    try:
        read(body, "https://app.example/")
    except DocumentError as error:
        return error.code
    return None


@given(st.binary(max_size=400) | st.text(max_size=400))
def test_nothing_else_is_raised(body: bytes | str) -> None:
    assert _refusal(body) in {None, *Code}


_names = st.sampled_from(
    ["Say", "Play", "Gather", "Dial", "Record", "Start", "Stop", "Recording", "Number", "Sip", "Q"]
)
_attributes = st.dictionaries(
    st.sampled_from(["loop", "timeout", "action", "method", "record", "trim", "digits", "x"]),
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=8),
    max_size=3,
)


def _element(name: str, attributes: dict[str, str], inside: str) -> str:
    def escape(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")

    written = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{inside}</{name}>"


_elements = st.recursive(
    st.text(st.characters(categories=["L", "N", "Zs"]), max_size=6),
    lambda inner: st.builds(_element, _names, _attributes, st.lists(inner).map("".join)),
    max_leaves=12,
)


@given(_elements)
def test_any_well_formed_document_is_read_or_refused(inside: str) -> None:
    assert _refusal(f"<Response>{inside}</Response>") in {None, Code.BAD_URL}
