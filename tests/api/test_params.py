from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from callreel.api.codes import Code
from callreel.api.errors import ApiError
from callreel.api.params import Params
from callreel.api.recording_params import recording_request
from callreel.calls.model import (
    Callback,
    CallbackEvent,
    CallbackMethod,
    RecordingChannels,
    RecordingRequest,
    RecordingTrack,
    Trim,
)

CALLBACK = ("RecordingStatusCallback", "https://example.com/cb")


def asked(*pairs: tuple[str, str]) -> RecordingRequest:
    return recording_request(Params(pairs))


def refusal(*pairs: tuple[str, str]) -> Code:
    with pytest.raises(ApiError) as caught:
        asked(*pairs)
    return caught.value.code


def test_every_default_is_the_pages() -> None:
    assert asked() == RecordingRequest(
        channels=RecordingChannels.MONO,
        track=RecordingTrack.BOTH,
        trim=Trim.DO_NOT_TRIM,
        callback=None,
    )
    assert asked(CALLBACK).callback == Callback(
        CALLBACK[1], CallbackMethod.POST, frozenset({CallbackEvent.COMPLETED})
    )


def test_every_value_is_taken() -> None:
    request = asked(
        ("RecordingChannels", "dual"),
        ("RecordingTrack", "inbound"),
        ("Trim", "trim-silence"),
        CALLBACK,
        ("RecordingStatusCallbackMethod", "get"),
        ("RecordingStatusCallbackEvent", "in-progress completed absent"),
        ("PlayBeep", "true"),
    )
    assert request.channels is RecordingChannels.DUAL
    assert request.channel_count == 1  # a single track is always one channel
    assert request.track is RecordingTrack.INBOUND
    assert request.trim is Trim.TRIM_SILENCE
    assert request.callback is not None
    assert request.callback.method is CallbackMethod.GET
    assert request.callback.events == frozenset(CallbackEvent)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("RecordingChannels", "stereo", Code.INVALID_ARGUMENT),
        ("RecordingChannels", "Dual", Code.INVALID_ARGUMENT),
        ("RecordingTrack", "left", Code.INVALID_ARGUMENT),
        ("Trim", "true", Code.BAD_TRIM),
        ("RecordingStatusCallbackMethod", "PUT", Code.BAD_METHOD),
        ("RecordingStatusCallbackEvent", "started", Code.BAD_RECORDING_EVENT),
        ("RecordingStatusCallbackEvent", "completed,absent", Code.BAD_RECORDING_EVENT),
        ("RecordingStatusCallback", "ftp://example.com/", Code.BAD_CALLBACK_URL),
        ("RecordingStatusCallback", "/relative", Code.BAD_CALLBACK_URL),
        ("RecordingStatusCallback", "https://", Code.BAD_CALLBACK_URL),
        ("RecordingStatusCallback", "https://host:99999/", Code.BAD_CALLBACK_URL),
        ("RecordingStatusCallback", "https://host/\r\nX: y", Code.BAD_CALLBACK_URL),
        ("RecordingStatusCallback", "https://[::1", Code.BAD_CALLBACK_URL),
        ("RecordingStatusCallback", "https://host/" + "a" * 5000, Code.BAD_CALLBACK_URL),
    ],
)
def test_every_wrong_value_is_refused_with_its_code(name: str, value: str, code: Code) -> None:
    assert refusal((name, value)) is code


def test_an_empty_value_counts_as_absent() -> None:
    names = ("RecordingChannels", "RecordingTrack", "Trim", "RecordingStatusCallback")
    assert asked(*((name, "") for name in names)) == RecordingRequest()


def test_events_come_in_both_spellings_and_mixtures() -> None:
    name = "RecordingStatusCallbackEvent"
    request = asked(CALLBACK, (name, "in-progress"), (name, "completed absent"), (name, ""))
    assert request.callback is not None
    assert request.callback.events == frozenset(CallbackEvent)


@pytest.mark.parametrize("value", [{"a": 1}, [["x"]], "nul\0", "half \ud800", [None, {}]])
def test_what_is_no_text_is_refused_where_it_is_asked_for_and_only_there(value: Any) -> None:
    params = Params([("Known", value), ("Other", "fine")])
    assert params.get("Other") == "fine"
    with pytest.raises(ApiError) as caught:
        params.all("Known")
    assert caught.value.code is Code.WRONG_FORMAT


def test_what_json_has_is_read_as_text() -> None:
    params = Params([("A", None), ("B", True), ("C", 17), ("D", ["x", None, "", "y"])])
    assert [params.all(name) for name in "ABCD"] == [[], ["true"], ["17"], ["x", "y"]]
    with pytest.raises(ApiError) as caught:
        params.get("D")
    assert caught.value.code is Code.WRONG_FORMAT


@given(st.lists(st.tuples(st.sampled_from(["Trim", CALLBACK[0], "x"]), st.text()), max_size=5))
def test_nothing_but_a_refusal_comes_of_any_text(pairs: list[tuple[str, str]]) -> None:
    try:
        recording_request(Params(pairs))
    except ApiError as error:
        assert error.code in Code  # noqa: PT017
