"""Signatures, against written vectors and the vendor's own validator."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, strategies as st
from twilio.request_validator import RequestValidator

from callreel.calls.model import CallbackMethod
from callreel.delivery.model import Delivery
from callreel.delivery.request import prepare
from callreel.delivery.signature import sign

KEY = "0123456789abcdef0123456789abcdef"

# Computed once with `openssl dgst -sha1 -hmac KEY -binary | base64` over the text said.
VECTORS = [
    (
        "https://example.com/hook",
        {"RecordingStatus": "completed", "AccountSid": "AC1", "CallSid": "CA1"},
        # https://example.com/hookAccountSidAC1CallSidCA1RecordingStatuscompleted
        "6yIBUNqDwDaoQzDlgHOrf+x67Kw=",
    ),
    (
        "https://user:pass@example.com:8443/hook?a=b&c=d#rt=100",
        {"b": "2", "B": "1", "ä": "ö"},
        # https://user:pass@example.com:8443/hook?a=b&c=dB1b2äö
        "FrKvqg1rtzC3VkckbBdaFmMHUAs=",
    ),
    # http://127.0.0.1/?x=%20
    ("http://127.0.0.1/?x=%20", {}, "sXm6PTIFk5HH+opTZKG8u0NbsP0="),
]


@pytest.mark.parametrize(("url", "fields", "signature"), VECTORS)
def test_vectors(url: str, fields: dict[str, str], signature: str) -> None:
    assert sign(KEY, url, fields) == signature


def delivery(url: str, method: CallbackMethod, fields: dict[str, str]) -> Delivery:
    return Delivery(
        id="ab" * 16,
        account_id="cd" * 16,
        event="completed",
        url=url,
        method=method,
        fields=fields,
        signing_key=KEY,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("method", CallbackMethod)
@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com/hook?token=a%2Fb&x",
        "https://example.com",
        "http://example.com:8080/hook",
        "https://example.com:443/hook",
        "http://user:p%40ss@example.com/hook",
        "http://example.com/höök?q=ä b",
        "http://example.com/hook#rt=1000&tt=2000",
    ],
)
def test_the_vendors_validator_accepts_what_is_sent(url: str, method: CallbackMethod) -> None:
    fields = {"RecordingStatus": "completed", "To": "+1 555", "Empty": "", "é": "ü&="}
    request = prepare(delivery(url, method, fields))
    headers = dict(request.headers)
    sent = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    validator = RequestValidator(KEY)
    assert validator.validate(request.url, sent, headers["X-Twilio-Signature"])
    assert headers["X-SignalWire-Signature"] == headers["X-Twilio-Signature"]
    assert not validator.validate(request.url + "x", sent, headers["X-Twilio-Signature"])
    if method is CallbackMethod.POST:
        assert sent == fields
        tampered = sent | {"RecordingStatus": "absent"}
        assert not validator.validate(request.url, tampered, headers["X-Twilio-Signature"])


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=6))
def test_any_fields_are_signed_as_the_vendor_does(fields: dict[str, str]) -> None:
    url = "https://example.com/x"
    assert sign(KEY, url, fields) == RequestValidator(KEY).compute_signature(url, fields)
