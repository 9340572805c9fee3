"""Challenges and credentials as header fields: what peers really write."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from callreel.wire.sip.challenges import (
    MAX_FIELD_CHARACTERS,
    MAX_PARAMETERS,
    MAX_VALUES,
    AuthValue,
    parse_auth_values,
)


def read(text: str) -> list[tuple[str, dict[str, str]]]:
    return [(value.scheme, dict(value.parameters)) for value in parse_auth_values(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ", []),
        ("Negotiate", [("Negotiate", {})]),
        (
            'Digest realm="a, b", nonce="x=y", qop="auth,auth-int"',
            [("Digest", {"realm": "a, b", "nonce": "x=y", "qop": "auth,auth-int"})],
        ),
        (
            r'Digest realm="a \"quoted\" \\ one",nonce=""',
            [("Digest", {"realm": 'a "quoted" \\ one', "nonce": ""})],
        ),
        (
            'Digest realm="a", nonce="1", algorithm=SHA-256, Digest realm="a", nonce="2"',
            [
                ("Digest", {"realm": "a", "nonce": "1", "algorithm": "SHA-256"}),
                ("Digest", {"realm": "a", "nonce": "2"}),
            ],
        ),
        (
            'Basic realm="a"\tdigest REALM = "b"',
            [("Basic", {"realm": "a"}), ("digest", {"realm": "b"})],
        ),
        # Slips: no comma, no quotes round a list, the same name twice, a comma too many.
        ('Digest realm="a" nonce="b"', [("Digest", {"realm": "a", "nonce": "b"})]),
        (
            "Digest realm=a, qop=auth,auth-int, nonce=b",
            [("Digest", {"realm": "a", "qop": "auth", "nonce": "b"})],
        ),
        (
            "Digest realm=a, qop=auth , auth-int , nonce=b",
            [("Digest", {"realm": "a", "qop": "auth", "nonce": "b"})],
        ),
        ("Digest realm=a, realm=b,,", [("Digest", {"realm": "a"})]),
        (
            "NoOneKnowsThisScheme opaque-data=here",
            [("NoOneKnowsThisScheme", {"opaque-data": "here"})],
        ),
        (
            "Negotiate YII==, Digest realm=a",
            [("Negotiate", {"yii": "="}), ("Digest", {"realm": "a"})],
        ),
    ],
)
def test_reading(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        'Digest realm="never closed',
        'Digest realm="closed\\"',
        'realm="no scheme"',
        'Digest "value"',
        "Digest ;",
        "Digest realm=" + "a" * MAX_FIELD_CHARACTERS,
        "Digest " + ",".join(f"p{n}=1" for n in range(MAX_PARAMETERS + 1)),
        ", ".join("Digest realm=a" for _ in range(MAX_VALUES + 1)),
    ],
)
def test_what_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_auth_values(text)


names = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
challenges = st.lists(
    st.builds(
        AuthValue,
        st.from_regex(r"[A-Z][a-z]{1,8}", fullmatch=True),
        st.dictionaries(names, texts, min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=4,
)


@given(challenges)
def test_round_trip(values: list[AuthValue]) -> None:
    assert parse_auth_values(", ".join(value.serialize() for value in values)) == values


@given(challenges)
def test_round_trip_with_bare_values(values: list[AuthValue]) -> None:
    text = ", ".join(value.serialize(bare=value.parameters) for value in values)
    assert parse_auth_values(text) == values


@given(st.text(max_size=200))
def test_nothing_but_value_errors(text: str) -> None:
    try:
        parse_auth_values("Digest " + text)
    except ValueError:
        return


def test_every_truncation() -> None:
    text = r'Digest realm="a, \"b\"", nonce=x, Basic realm="c"'
    for end in range(len(text)):
        try:
            assert len(parse_auth_values(text[:end])) <= 2
        except ValueError:
            continue
