"""The parameters of calls: every one, its values, default and refusal."""

from __future__ import annotations

import pytest

from callreel.api.call_params import call_change, call_request
from callreel.api.codes import Code
from callreel.api.errors import ApiError
from callreel.api.params import Params
from callreel.calls.model import (
    CallbackMethod,
    CallCallback,
    CallEvent,
    RecordingChannels,
    RecordingRequest,
    Trim,
)
from callreel.calls.steering import CallChange, CallRequest, Instructions

TO, FROM = ("To", "+15550199"), ("From", "+15550100")
URL = ("Url", "https://example.com/voice")
NEEDED = (TO, FROM, URL)


def asked(*pairs: tuple[str, str]) -> CallRequest:
    return call_request(Params(pairs))


def test_every_default() -> None:
    assert asked(*NEEDED) == CallRequest(
        to="+15550199",
        from_="+15550100",
        instructions=Instructions("https://example.com/voice", CallbackMethod.POST),
        ring_seconds=60,
        call_seconds=4 * 3600,
    )


def test_every_value() -> None:
    request = asked(
        ("To", "sip:ann@192.0.2.1:5070;transport=tcp"),
        ("From", "+1 (555) 010-0"),
        URL,
        ("Method", "get"),
        ("FallbackUrl", "http://example.com/sorry"),
        ("FallbackMethod", "GET"),
        ("StatusCallback", "https://example.com/calls"),
        ("StatusCallbackMethod", "GET"),
        ("StatusCallbackEvent", "initiated ringing"),
        ("StatusCallbackEvent", "answered"),
        ("Timeout", "600"),
        ("TimeLimit", "60"),
        ("CallerId", "sip:reception@example.com"),
        ("SendDigits", "wW1#"),
        ("SipAuthUsername", "ann"),
        ("SipAuthPassword", "open,Sesame"),
        ("Record", "True"),
        ("RecordingChannels", "dual"),
        ("MachineDetection", "Enable"),
    )
    assert request == CallRequest(
        to="sip:ann@192.0.2.1:5070;transport=tcp",
        from_="+15550100",
        instructions=Instructions(
            "https://example.com/voice",
            CallbackMethod.GET,
            "http://example.com/sorry",
            CallbackMethod.GET,
        ),
        caller_id="sip:reception@example.com",
        username="ann",
        password="open,Sesame",
        ring_seconds=600,
        call_seconds=60,
        send_digits="ww1#",
        status_callback=CallCallback(
            "https://example.com/calls",
            CallbackMethod.GET,
            frozenset({CallEvent.INITIATED, CallEvent.RINGING, CallEvent.ANSWERED}),
        ),
        record=RecordingRequest(RecordingChannels.DUAL, trim=Trim.TRIM_SILENCE),
    )
    assert "Sesame" not in repr(request)


def test_a_document_in_place_of_its_address() -> None:
    for name in ("Twiml", "Laml"):
        assert asked(TO, FROM, (name, "<Response/>")).instructions.document == "<Response/>"
    both = asked(*NEEDED, ("Laml", "<A/>"), ("Twiml", "<B/>")).instructions
    assert (both.url, both.document) == ("https://example.com/voice", "<B/>")


def test_a_recording_is_only_asked_for_by_record() -> None:
    assert asked(*NEEDED, ("RecordingChannels", "dual")).record is None
    assert asked(*NEEDED, ("Record", "false")).record is None
    kept = asked(*NEEDED, ("Record", "true"), ("Trim", "do-not-trim")).record
    assert kept == RecordingRequest(trim=Trim.DO_NOT_TRIM)


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ((FROM, URL), 21201),
        ((("To", ""), FROM, URL), 21201),
        ((("To", "somebody there"), FROM, URL), 21211),
        ((("To", "sip:"), FROM, URL), 21211),
        ((("To", "http://example.com/"), FROM, URL), 21211),
        ((("To", "sip:a@b\r\nX: y"), FROM, URL), 21211),
        ((TO, URL), 21213),
        ((TO, ("From", "the one & only"), URL), 21212),
        ((TO, FROM), 21205),
        ((TO, FROM, ("FallbackUrl", "http://example.com/")), 21205),
        ((TO, FROM, ("Url", "example.com/voice")), 21205),
        ((*NEEDED, ("FallbackUrl", "x")), 21402),
        ((*NEEDED, ("StatusCallback", "ftp://example.com/")), 21402),
        ((*NEEDED, ("ApplicationSid", "AP" + "0" * 32)), 21218),
        ((TO, FROM, ("ApplicationSid", "AP" + "0" * 32)), 21218),
        ((*NEEDED, ("Timeout", "0")), 21208),
        ((*NEEDED, ("Timeout", "601")), 21208),
        ((*NEEDED, ("Timeout", "1.5")), 21208),
        ((*NEEDED, ("TimeLimit", "0")), 10000),
        ((*NEEDED, ("Method", "PUT")), 21209),
        ((*NEEDED, ("FallbackMethod", "PUT")), 21209),
        ((*NEEDED, ("StatusCallbackMethod", "PUT")), 21209),
        ((*NEEDED, ("StatusCallbackEvent", "answered hung-up")), 21626),
        ((*NEEDED, ("SendDigits", "12a")), 10000),
        ((*NEEDED, ("SendDigits", "1" * 65)), 10000),
        ((*NEEDED, ("Record", "maybe")), 10000),
        ((*NEEDED, ("RecordingChannels", "stereo")), 10000),
        ((*NEEDED, ("Trim", "all")), 13699),
        ((*NEEDED, ("RecordingStatusCallbackEvent", "ended")), 13621),
        ((*NEEDED, ("CallerId", "<ann>")), 21212),
        ((*NEEDED, ("SipAuthPassword", "x")), 10000),
        ((*NEEDED, ("SipAuthUsername", "a\nb")), 10000),
        ((TO, FROM, ("Twiml", "x" * 65_537)), 10000),
    ],
)
def test_every_refusal(pairs: tuple[tuple[str, str], ...], code: int) -> None:
    with pytest.raises(ApiError) as caught:
        asked(*pairs)
    assert caught.value.code is Code(code)


def test_a_registered_phones_name_may_be_called() -> None:
    assert asked(("To", "anna.b"), FROM, URL).to == "anna.b"


def test_what_may_be_changed() -> None:
    assert call_change(Params(())).is_empty
    assert call_change(Params([("Method", "GET")])).is_empty
    change = call_change(
        Params([("Twiml", "<Response/>"), ("TimeLimit", "10"), ("StatusCallback", "http://x/")])
    )
    assert change == CallChange(
        Instructions(document="<Response/>"), CallCallback("http://x/"), call_seconds=10
    )
    for name, value, code in (("Url", "x", 21402), ("TimeLimit", "-1", 10000)):
        with pytest.raises(ApiError) as caught:
            call_change(Params([(name, value)]))
        assert caught.value.code is Code(code)


@pytest.mark.parametrize("name", ["To", "From", "CallerId", "Twiml", "SendDigits"])
@pytest.mark.parametrize("value", [1, True, 0.5, ["a"]])
def test_what_is_text_is_text_in_json(name: str, value: object) -> None:
    given = {**dict(NEEDED), name: value}
    with pytest.raises(ApiError) as caught:
        call_request(Params(given.items()))
    assert caught.value.code is Code.WRONG_FORMAT
