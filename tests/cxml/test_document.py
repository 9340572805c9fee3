"""Every verb, every attribute, every default."""

from __future__ import annotations

import pytest

from callreel.calls.model import (
    Callback,
    CallbackEvent,
    CallbackMethod,
    CallCallback,
    CallEvent,
    RecordingChannels,
    RecordingRequest,
    RecordingTrack,
    Trim,
)
from callreel.cxml.attributes import MAX_SECONDS, MAX_WARNINGS
from callreel.cxml.codes import Code
from callreel.cxml.document import Document, read
from callreel.cxml.markup import DocumentError
from callreel.cxml.verbs import (
    FOREVER,
    Dial,
    Follow,
    Gather,
    Hangup,
    Number,
    Pause,
    Place,
    Play,
    Record,
    Redirect,
    Reject,
    Say,
    Sip,
    StartRecording,
    StopRecording,
    Unsupported,
    Verb,
)
from tests.cxml.driver import GET, POST

BASE = "https://app.example/voice/start?x=1"
HERE = Place(1, 11)


def document(body: str) -> Document:
    return read(f"<Response>{body}</Response>", BASE)


def one(body: str, warnings: int = 0) -> Verb:
    found = document(body)
    assert len(found.warnings) == warnings, found.warnings
    assert all(note.line == 1 and note.column and note.message for note in found.warnings)
    (verb,) = found.verbs
    return verb


# Defaults and every attribute


@pytest.mark.parametrize(
    ("body", "verb"),
    [
        ("<Say>Hello</Say>", Say(HERE, "Hello")),
        (
            '<Say voice=" Polly.Joanna " language="en-GB" loop="3">\n Hel\n\t lo </Say>',
            Say(HERE, "Hel lo", "Polly.Joanna", "en-GB", 3),
        ),
        ('<Say loop="0">a</Say>', Say(HERE, "a", loop=FOREVER)),
        ("<Play>/a.mp3</Play>", Play(HERE, "https://app.example/a.mp3")),
        ("<Play> b.mp3 </Play>", Play(HERE, "https://app.example/voice/b.mp3")),
        ("<Play>http://x.example/c.wav</Play>", Play(HERE, "http://x.example/c.wav")),
        ('<Play loop="2">//y.example/d</Play>', Play(HERE, "https://y.example/d", loop=2)),
        ('<Play loop="0">/a</Play>', Play(HERE, "https://app.example/a", loop=FOREVER)),
        ('<Play digits="wW1*#D"/>', Play(HERE, None, "ww1*#D")),
        ("<Pause/>", Pause(HERE, 1)),
        ('<Pause length="10"/>', Pause(HERE, 10)),
        ('<Pause length="0"/>', Pause(HERE, 0)),
        ("<Gather/>", Gather(HERE, Follow(None, POST), "#", None, 5, False, ())),
        (
            '<Gather input="dtmf" action="/keys" method="GET" finishOnKey="*" numDigits="4"'
            ' timeout="9" actionOnEmptyResult="true"/>',
            Gather(HERE, Follow("https://app.example/keys", GET), "*", 4, 9, True),
        ),
        ('<Gather finishOnKey=""/>', Gather(HERE, Follow(None, POST), "")),
        ('<Gather timeout="0"/>', Gather(HERE, Follow(None, POST), timeout_s=0)),
        (
            "<Gather><Say>a</Say><Pause/><Play>/b</Play></Gather>",
            Gather(
                HERE,
                Follow(None, POST),
                prompts=(
                    Say(Place(1, 19), "a"),
                    Pause(Place(1, 31)),
                    Play(Place(1, 39), "https://app.example/b"),
                ),
            ),
        ),
        (
            "<Record/>",
            Record(
                HERE,
                Follow(None, POST),
                RecordingRequest(track=RecordingTrack.INBOUND, trim=Trim.TRIM_SILENCE),
                3600,
                5,
                "1234567890*#",
                True,
            ),
        ),
        (
            '<Record action="/r" method="get" maxLength="20" timeout="2" finishOnKey="#"'
            ' playBeep="false" trim="do-not-trim" recordingStatusCallback="/cb"'
            ' recordingStatusCallbackMethod="GET"'
            ' recordingStatusCallbackEvent="in-progress completed absent"/>',
            Record(
                HERE,
                Follow("https://app.example/r", GET),
                RecordingRequest(
                    track=RecordingTrack.INBOUND,
                    trim=Trim.DO_NOT_TRIM,
                    callback=Callback("https://app.example/cb", GET, frozenset(CallbackEvent)),
                ),
                20,
                2,
                "#",
                False,
            ),
        ),
        (
            '<Record maxLength="0"/>',
            Record(
                HERE,
                Follow(None, POST),
                RecordingRequest(track=RecordingTrack.INBOUND, trim=Trim.TRIM_SILENCE),
            ),
        ),
        ("<Dial>+1 (415) 123-45.67</Dial>", Dial(HERE, (Number("+14151234567"),))),
        ("<Dial>sip:a-b@c.example</Dial>", Dial(HERE, (Sip("sip:a-b@c.example"),))),
        (
            '<Dial action="/d" method="GET" timeout="12" timeLimit="60" callerId="+15551"'
            ' callerName="Ada" answerOnBridge="true" hangupOnStar="TRUE">'
            '<Number sendDigits="ww12" statusCallback="/n" statusCallbackMethod="GET"'
            ' statusCallbackEvent="initiated ringing">415-123</Number>'
            '<Sip username="u" password="p" statusCallback="/s">sip:x@y.example</Sip></Dial>',
            Dial(
                HERE,
                (
                    Number(
                        "415123",
                        "ww12",
                        CallCallback(
                            "https://app.example/n",
                            GET,
                            frozenset({CallEvent.INITIATED, CallEvent.RINGING}),
                        ),
                    ),
                    Sip(
                        "sip:x@y.example",
                        "u",
                        "p",
                        CallCallback(
                            "https://app.example/s", POST, frozenset({CallEvent.COMPLETED})
                        ),
                    ),
                ),
                Follow("https://app.example/d", GET),
                12,
                60,
                "+15551",
                "Ada",
                True,
                True,
            ),
        ),
        (
            "<Start><Recording/></Start>",
            StartRecording(
                HERE,
                RecordingRequest(
                    RecordingChannels.DUAL, RecordingTrack.BOTH, Trim.TRIM_SILENCE, None
                ),
            ),
        ),
        (
            '<Start><Recording name="a" channels="mono" track="inbound" trim="do-not-trim"'
            ' recordingStatusCallback="https://z.example/"/></Start>',
            StartRecording(
                HERE,
                RecordingRequest(
                    RecordingChannels.MONO,
                    RecordingTrack.INBOUND,
                    Trim.DO_NOT_TRIM,
                    Callback("https://z.example/"),
                ),
                "a",
            ),
        ),
        ('<Stop><Recording name="a"/></Stop>', StopRecording(HERE, "a")),
        ("<Stop><Recording/></Stop>", StopRecording(HERE)),
        ("<Hangup/>", Hangup(HERE)),
        ("<Reject/>", Reject(HERE, False)),
        ('<Reject reason="busy"/>', Reject(HERE, True)),
        ('<Reject reason="rejected"/>', Reject(HERE, False)),
        ("<Redirect>../next</Redirect>", Redirect(HERE, Follow("https://app.example/next", POST))),
        (
            '<Redirect method="GET">https://b.example/</Redirect>',
            Redirect(HERE, Follow("https://b.example/", GET)),
        ),
        ("<Redirect/>", Redirect(HERE, Follow(None, POST))),
    ],
)
def test_read_as_meant(body: str, verb: Verb) -> None:
    assert one(body) == verb


_NOT, _MONO, _DUAL = None, RecordingChannels.MONO, RecordingChannels.DUAL


@pytest.mark.parametrize(
    ("value", "channels", "ringing"),
    [
        ("do-not-record", _NOT, False),
        ("false", _NOT, False),
        ("true", _MONO, False),
        ("record-from-answer", _MONO, False),
        ("record-from-ringing", _MONO, True),
        ("record-from-answer-dual", _DUAL, False),
        ("record-from-ringing-dual", _DUAL, True),
    ],
)
def test_dial_record(value: str, channels: RecordingChannels | None, ringing: bool) -> None:
    dial = one(f'<Dial record="{value}">1</Dial>')
    assert isinstance(dial, Dial)
    assert dial.record_ringing is ringing
    if channels is None:
        assert dial.record is None
    else:
        assert dial.record == RecordingRequest(
            channels, RecordingTrack.BOTH, Trim.DO_NOT_TRIM, None
        )


def test_dial_recording_options() -> None:
    dial = one(
        '<Dial record="record-from-answer" recordingTrack="outbound" trim="trim-silence"'
        ' recordingStatusCallback="cb" recordingStatusCallbackEvent="absent">1</Dial>'
    )
    assert isinstance(dial, Dial)
    assert dial.record == RecordingRequest(
        RecordingChannels.MONO,
        RecordingTrack.OUTBOUND,
        Trim.TRIM_SILENCE,
        Callback("https://app.example/voice/cb", POST, frozenset({CallbackEvent.ABSENT})),
    )


# What is wrong, and goes on


@pytest.mark.parametrize(
    ("body", "like"),
    [
        ('<Say loop="often">a</Say>', "<Say>a</Say>"),
        ('<Say loop="-1">a</Say>', "<Say>a</Say>"),
        ('<Say loop="">a</Say>', "<Say>a</Say>"),
        ('<Say loop="1001">a</Say>', '<Say loop="1000">a</Say>'),
        ('<Say loop="٣">a</Say>', "<Say>a</Say>"),
        ('<Say Voice="man">a</Say>', "<Say>a</Say>"),
        ('<Pause length="1.5"/>', "<Pause/>"),
        (f'<Pause length="{MAX_SECONDS + 1}"/>', f'<Pause length="{MAX_SECONDS}"/>'),
        ('<Gather timeout="auto"/>', "<Gather/>"),
        ('<Gather numDigits="0"/>', "<Gather/>"),
        ('<Gather finishOnKey="x"/>', "<Gather/>"),
        ('<Gather method="PUT"/>', "<Gather/>"),
        ('<Gather input="speech"/>', "<Gather/>"),
        ('<Gather input="dtmf speech"/>', "<Gather/>"),
        ('<Gather hints="a, b"/>', "<Gather/>"),
        ('<Gather actionOnEmptyResult="yes"/>', "<Gather/>"),
        ("<Gather><Dial>1</Dial></Gather>", "<Gather/>"),
        ('<Record timeout="0"/>', "<Record/>"),
        ('<Record maxLength="x"/>', "<Record/>"),
        ('<Record trim="Trim-Silence"/>', "<Record/>"),
        ('<Record playBeep="1"/>', "<Record/>"),
        ('<Record transcribe="true"/>', "<Record/>"),
        ('<Record recordingStatusCallback="ftp://x/"/>', "<Record/>"),
        ('<Dial record="yes">1</Dial>', "<Dial>1</Dial>"),
        ('<Dial timeout="0">1</Dial>', "<Dial>1</Dial>"),
        ('<Dial timeout="601">1</Dial>', '<Dial timeout="600">1</Dial>'),
        ('<Dial timeLimit="long">1</Dial>', "<Dial>1</Dial>"),
        ('<Dial recordingTrack="all">1</Dial>', "<Dial>1</Dial>"),
        ('<Dial sequential="true">1</Dial>', "<Dial>1</Dial>"),
        ('<Dial statusCallbackEvent="answered">1</Dial>', "<Dial>1</Dial>"),
        ('<Dial><Number url="/w">1</Number></Dial>', "<Dial><Number>1</Number></Dial>"),
        ('<Dial><Number sendDigits="x">1</Number></Dial>', "<Dial><Number>1</Number></Dial>"),
        ('<Dial><Sip codecs="OPUS">sip:a@b</Sip></Dial>', "<Dial><Sip>sip:a@b</Sip></Dial>"),
        ("<Dial><Sip>a@b</Sip><Number>1</Number></Dial>", "<Dial><Number>1</Number></Dial>"),
        ("<Dial>2<Number>1</Number></Dial>", "<Dial><Number>1</Number></Dial>"),
        ('<Reject reason="BUSY"/>', "<Reject/>"),
        ('<Hangup now="true"/>', "<Hangup/>"),
        ("<Hangup><Say>a</Say></Hangup>", "<Hangup/>"),
        ("<Reject><Say>a</Say></Reject>", "<Reject/>"),
        ("<Redirect>/a<Say>a</Say></Redirect>", "<Redirect>/a</Redirect>"),
        ("<Pause><Say>a</Say></Pause>", "<Pause/>"),
        ("<Record><Say>a</Say></Record>", "<Record/>"),
        ("<Play>/a<Say>a</Say></Play>", "<Play>/a</Play>"),
        ("<Dial><Number>1<b/></Number></Dial>", "<Dial><Number>1</Number></Dial>"),
        ("<Dial><Sip>sip:a@b<b/></Sip></Dial>", "<Dial><Sip>sip:a@b</Sip></Dial>"),
        (
            '<Start><Recording channels="stereo"/></Start>',
            "<Start><Recording/></Start>",
        ),
        ("<Start><Recording/><Recording/></Start>", "<Start><Recording/></Start>"),
        ("<Play>ftp://a.example/b</Play>", '<Play digits=""/>'),
        ("<Play>file:///etc/passwd</Play>", '<Play digits=""/>'),
    ],
)
def test_unreadable_is_the_default_and_a_warning(body: str, like: str) -> None:
    def plain(verb: Verb) -> str:
        return repr(verb).replace(repr(verb.place), "")

    wrong, right = document(body), document(like)
    assert len(wrong.warnings) == 1
    places = [verb.place for verb in wrong.verbs]
    assert places == [HERE]
    assert [plain(verb) for verb in wrong.verbs] == [plain(verb) for verb in right.verbs]


def test_events_that_nobody_knows_are_left_out() -> None:
    record = one(
        '<Record recordingStatusCallback="/c" recordingStatusCallbackEvent="absent failed"/>', 1
    )
    assert isinstance(record, Record)
    assert record.request.callback is not None
    assert record.request.callback.events == {CallbackEvent.ABSENT}
    assert record.request.callback.method is CallbackMethod.POST


def test_no_event_that_anybody_knows_is_the_usual_one() -> None:
    found = document('<Record recordingStatusCallback="/c" recordingStatusCallbackEvent="x"/>')
    (record,) = found.verbs
    assert isinstance(record, Record)
    assert record.request.callback == Callback("https://app.example/c")
    assert "taken as 'completed'" in found.warnings[0].message


def test_there_is_nobody_to_call() -> None:
    dial = one("<Dial/>", 1)
    assert isinstance(dial, Dial)
    assert dial.targets == ()


def test_ten_are_called_at_once() -> None:
    dial = one("<Dial>" + "<Number>1</Number>" * 11 + "</Dial>", 1)
    assert isinstance(dial, Dial)
    assert len(dial.targets) == 10


def test_speech_markup_is_spoken_plain() -> None:
    say = one(
        '<Say>Hi<break time="1s"/>there<sub alias="for example">e.g.</sub>'
        "<p>you</p><sub>two</sub></Say>",
        1,
    )
    assert isinstance(say, Say)
    assert say.text == "Hi there for example you two"


def test_too_much_text_is_cut() -> None:
    say = one(f"<Say>{'a' * 5000}</Say>", 1)
    assert isinstance(say, Say)
    assert len(say.text) == 4096


def test_relative_addresses_need_a_base() -> None:
    found = read("<Response><Play>/a.mp3</Play></Response>", None)
    assert found.verbs == (Play(HERE, None),)
    assert [note.code for note in found.warnings] == [Code.BAD_URL]
    with pytest.raises(DocumentError):
        read('<Response><Gather action="/x"/></Response>', None)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://",
        "http://a.example:0/",
        "http://a.example:x/",
        "http://[::1/",
        "https://a.example/a b",
        "https://a.example/" + "a" * 5000,
    ],
)
@pytest.mark.parametrize(
    "body", ['<Gather action="{}"/>', '<Record action="{}"/>', "<Redirect>{}</Redirect>"]
)
def test_an_action_that_leads_nowhere_is_no_document(body: str, url: str) -> None:
    with pytest.raises(DocumentError) as caught:
        document(body.format(url))
    assert caught.value.code is Code.BAD_URL
    assert (caught.value.line, caught.value.column) == (1, 11)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("<Enqueue>a</Enqueue>", "<Enqueue>"),
        ("<say>a</say>", "<say>"),
        ("<x:Say>a</x:Say>", "<x:Say>"),
        ("<Dial><Conference>a</Conference></Dial>", "<Dial><Conference>"),
        ("<Dial><Client>a</Client></Dial>", "<Dial><Client>"),
        ('<Start><Stream url="wss://a"/></Start>', "<Start><Stream>"),
        ("<Stop><Stream/></Stop>", "<Stop><Stream>"),
        ("<Start/>", "<Start> with nothing in it"),
    ],
)
def test_verbs_we_do_not_have(body: str, what: str) -> None:
    verb = one(body)
    assert isinstance(verb, Unsupported)
    assert verb.what == what


def test_warnings_are_bounded() -> None:
    found = document('<Say a="1">a</Say>' * 500)
    assert len(found.warnings) == MAX_WARNINGS + 1
    assert found.warnings[-1].message == f"and {500 - MAX_WARNINGS} more warnings"


def test_namespaces_and_comments_are_no_matter() -> None:
    text = (
        '<Response xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:noNamespaceSchemaLocation="x.xsd"><!-- a --> <Hangup xmlns=""/> </Response>'
    )
    found = read(text, None)
    assert [type(verb) for verb in found.verbs] == [Hangup]
    assert found.warnings == ()


def test_text_between_verbs_is_warned_of() -> None:
    assert len(document("hello<Hangup/>").warnings) == 1


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(
        document('<Dial><Sip username="u" password="secret">sip:a@b</Sip></Dial>')
    )
