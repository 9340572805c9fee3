"""Paths, dates, pages and ranges: the API's pure pieces."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from callreel.api.codes import Code
from callreel.api.dates import Span, parse_date, span
from callreel.api.errors import ApiError
from callreel.api.pages import page_request, read_token, write_token
from callreel.api.params import Params
from callreel.api.paths import ApiPath, normalise
from callreel.api.ranges import ByteRange, Unsatisfiable, requested_range
from callreel.store.pages import Position

A = "/2010-04-01/Accounts/AC1"


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        (f"{A}/Calls.json", ApiPath(f"{A}/Calls", "")),
        (f"/api/laml{A}/Calls", ApiPath(f"{A}/Calls", "/api/laml")),
        (f"/api/laml/api/laml{A}/Recordings.json", ApiPath(f"{A}/Recordings", "/api/laml")),
        (f"{A}/Recordings/RE1.wav", ApiPath(f"{A}/Recordings/RE1.wav", "")),
        (f"{A}/Calls/CA1/Recordings/Twilio.CURRENT.json",
         ApiPath(f"{A}/Calls/CA1/Recordings/Twilio.CURRENT", "")),
        (f"{A}/Calls/CA1/Recordings/Twilio.CURRENT",
         ApiPath(f"{A}/Calls/CA1/Recordings/Twilio.CURRENT", "")),
        ("/api/lamlish", ApiPath("/api/lamlish", "")),
        ("/healthz", ApiPath("/healthz", "")),
        ("/openapi.json", ApiPath("/openapi.json", "")),
    ],
)  # fmt: skip
def test_paths_come_into_one_spelling(asked: str, known: ApiPath) -> None:
    assert normalise(asked) == known


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T09:30:00Z", datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
        ("2026-11-22T09:30:00+02:00", datetime(2026, 11, 22, 7, 30, tzinfo=UTC)),
        ("Wed, 26 Sep 2018 00:00:00 +0000", datetime(2018, 9, 26, tzinfo=UTC)),
    ],
)
def test_dates_in_every_form_that_clients_send(text: str, moment: datetime) -> None:
    assert parse_date(text, "DateCreated") == moment


@pytest.mark.parametrize("zone", ["+" + "9" * 30, "-" + "9" * 30])
def test_a_zone_beyond_bounds_is_a_refused_date(zone: str) -> None:
    with pytest.raises(ApiError):
        parse_date(f"Wed, 26 Sep 2018 00:00:00 {zone}", "x")


@given(st.text())
def test_no_text_is_worse_than_a_refused_date(text: str) -> None:
    try:
        assert parse_date(text, "x").tzinfo is UTC
    except ApiError as error:
        assert error.code is Code.INVALID_ARGUMENT  # noqa: PT017


def test_a_bare_date_is_its_day_and_inequalities_make_a_range() -> None:
    day = span(Params([("DateCreated", "2026-11-22T17:00:00Z")]), "DateCreated")
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    assert day == Span(midnight, datetime(2026, 11, 23, tzinfo=UTC))
    between = Params([("DateCreated>", "2026-11-22"), ("DateCreated<", "2026-11-24")])
    assert span(between, "DateCreated") == Span(midnight, datetime(2026, 11, 24, tzinfo=UTC))
    assert span(Params([("DateCreated", "9999-12-31")]), "DateCreated").end is None


@given(
    st.datetimes(timezones=st.just(UTC)),
    st.binary(min_size=16, max_size=16),
    st.booleans(),
)
def test_page_tokens_round_trip(moment: datetime, id_: bytes, backward: bool) -> None:
    position = Position(moment, id_.hex(), backward)
    token = write_token(position)
    assert token.startswith("PB" if backward else "PA")
    assert read_token(token) == position


@given(st.text(max_size=60))
def test_forged_page_tokens_are_refused(text: str) -> None:
    for token in (text, "PA" + text):
        try:
            read_token(token)
        except ApiError as error:
            assert error.code is Code.BAD_PAGE_TOKEN  # noqa: PT017


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([("PageSize", "0")], Code.BAD_PAGE_SIZE),
        ([("PageSize", "-1")], Code.BAD_PAGE_SIZE),
        ([("PageSize", "many")], Code.BAD_PAGE_SIZE),
        ([("PageSize", "²")], Code.BAD_PAGE_SIZE),
        ([("Page", "1")], Code.BAD_PAGE_TOKEN),
        ([("PageToken", "PAx")], Code.BAD_PAGE_TOKEN),
        ([("Page", "minus")], Code.INVALID_ARGUMENT),
    ],
)
def test_wrong_pages_are_refused(pairs: list[tuple[str, str]], code: Code) -> None:
    with pytest.raises(ApiError) as caught:
        page_request(Params(pairs), twilio=False)
    assert caught.value.code is code


def test_page_sizes_have_a_default_and_a_cap() -> None:
    assert page_request(Params([]), twilio=False).size == 50
    assert page_request(Params([("PageSize", "4000")]), twilio=False).size == 1000
    assert page_request(Params([("PageSize", "0000000020")]), twilio=False).size == 20
    assert page_request(Params([("PageSize", "9" * 40)]), twilio=False).size == 1000
    assert page_request(Params([("Page", "3")]), twilio=True).number == 3


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-99", ByteRange(0, 100)),
        ("bytes=900-", ByteRange(900, 1000)),
        ("bytes=-10", ByteRange(990, 1000)),
        ("bytes=-5000", ByteRange(0, 1000)),
        ("bytes=990-5000", ByteRange(990, 1000)),
        ("bytes=5-2", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("items=0-1", None),
    ],
)
def test_ranges(header: str | None, expected: ByteRange | None) -> None:
    assert requested_range(header, 1000) == expected


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=5000-6000", "bytes=-0"])
def test_ranges_without_a_byte(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        requested_range(header, 1000)
