"""The verb table, on paper: what each verb does, waits for, and hands on."""

from __future__ import annotations

import pytest

from callreel.calls.model import CallStatus, Dialect, RecordingSource, Trim
from callreel.calls.voice import Digits, Silence, Target
from callreel.cxml.actions import (
    Answer,
    Audio,
    Connect,
    EndCall,
    Fetch,
    HangUpOther,
    Listen,
    Play,
    Reject,
    Ring,
    RingTarget,
    Severity,
    Speech,
    StartRecording,
    StopPlaying,
    StopRecording,
    Tell,
)
from callreel.cxml.codes import Code
from callreel.cxml.events import (
    Digit,
    FellSilent,
    HungUp,
    Instructed,
    OtherEnded,
    PlayDone,
    PlayFailed,
    RecordingFailed,
    RecordingStopped,
    TargetAnswered,
    TargetFailed,
    TargetRinging,
)
from callreel.cxml.interpreter import MAX_DOCUMENTS, MAX_IDLE_DOCUMENTS
from callreel.cxml.recording import BEEP
from tests.cxml.driver import GET, POST, URL, PaperCall, fields, response

HELLO = Speech("Hello", "", "")


# Documents


def test_the_first_document_is_asked_for_as_told() -> None:
    call = PaperCall()
    (fetch,) = call.receive(Instructed(URL, GET))
    assert fetch == Fetch(1, URL, GET, ())
    assert call.fetched(fetch, "<Hangup/>") == [EndCall("<Hangup>")]
    assert call.interpreter.is_over


def test_a_document_that_is_given_needs_no_program() -> None:
    call = PaperCall()
    (play,) = call.receive(Instructed(document=response("<Say>Hello</Say>")))
    assert play == Play("play-1", (HELLO,))
    assert call.played([play]) == [EndCall("the document is at its end")]


def test_a_given_document_is_text_whatever_it_says_of_its_bytes() -> None:
    call = PaperCall()
    text = "<?xml version='1.0' encoding='ISO-8859-1'?><Response><Say>Grüße</Say></Response>"
    (play,) = call.receive(Instructed(document=text))
    assert play == Play("play-1", (Speech("Grüße", "", ""),))
    assert call.restart() == [Play("play-2", (Speech("Grüße", "", ""),))]


def test_an_empty_document_ends_the_call() -> None:
    assert PaperCall("").actions == [EndCall("the document is at its end")]


def test_no_instructions_at_all() -> None:
    (end,) = PaperCall().receive(Instructed())
    assert isinstance(end, EndCall)


def test_redirect() -> None:
    call = PaperCall('<Redirect method="GET">next</Redirect><Say>never</Say>')
    fetch = call.only(Fetch, call.actions)
    assert (fetch.url, fetch.method) == ("https://app.example/voice/next", GET)


def test_what_is_relative_is_relative_to_where_the_document_came_from() -> None:
    call = PaperCall()
    (fetch,) = call.receive(Instructed(URL))
    assert isinstance(fetch, Fetch)
    actions = call.fetched(fetch, "<Redirect>x</Redirect>", url="https://other.example/a/b")
    assert call.only(Fetch, actions).url == "https://other.example/a/x"


def test_no_answer_and_no_fallback() -> None:
    call = PaperCall()
    (fetch,) = call.receive(Instructed(URL.replace("//", "//user:secret@")))
    assert isinstance(fetch, Fetch)
    (end,) = call.fetch_failed(fetch)
    assert isinstance(end, EndCall)
    assert call.codes(Severity.ERROR) == [11200]
    assert "secret" not in repr((call.notes, end))


@pytest.mark.parametrize("broken", ["<Say>", "</Response><Response>", "<Enqueue/>", None])
def test_the_fallback_is_asked_once(broken: str | None) -> None:
    call = PaperCall()
    instructed = Instructed(URL, POST, "https://b.example/", GET)
    (fetch,) = call.receive(instructed)
    assert isinstance(fetch, Fetch)
    (again,) = call.fetch_failed(fetch) if broken is None else call.fetched(fetch, broken)
    assert isinstance(again, Fetch)
    assert (again.url, again.method) == ("https://b.example/", GET)
    code = {None: "11200", "<Enqueue/>": "12200"}.get(broken, "12100")
    assert fields(again) == {"ErrorCode": code, "ErrorUrl": URL}
    (end,) = call.fetch_failed(again) if broken is None else call.fetched(again, broken)
    assert isinstance(end, EndCall)


def test_the_fallback_stands_in_for_later_documents_too() -> None:
    call = PaperCall("<Say>Hello</Say><Redirect>/2</Redirect>", fallback_url="https://b.example/")
    fetch = call.only(Fetch, call.played(call.actions))
    again = call.only(Fetch, call.fetch_failed(fetch))
    assert again.url == "https://b.example/"
    later = call.only(Fetch, call.fetched(again, "<Redirect>/3</Redirect>"))
    assert call.only(Fetch, call.fetch_failed(later)).url == "https://b.example/"


def test_an_old_answer_is_nothing() -> None:
    call = PaperCall()
    (old,) = call.receive(Instructed(URL))
    (new,) = call.receive(Instructed("https://other.example/"))
    assert isinstance(old, Fetch)
    assert isinstance(new, Fetch)
    assert call.fetched(old, "<Hangup/>") == []
    assert call.fetch_failed(old) == []
    assert call.fetched(new, "<Hangup/>") == [EndCall("<Hangup>")]


@pytest.mark.parametrize("body", ["<Redirect/>", "<Redirect>/x</Redirect>", '<Pause length="0"/>'])
def test_documents_that_loop_for_ever(body: str) -> None:
    call = PaperCall(body + "<Redirect/>")
    actions, asked = call.actions, 1
    while isinstance(actions[0], Fetch):
        asked += 1
        actions = call.fetched(actions[0], body + "<Redirect/>")
    assert isinstance(actions[0], EndCall)
    assert asked == MAX_IDLE_DOCUMENTS
    assert call.codes(Severity.ERROR) == [Code.TOO_MANY_DOCUMENTS]


def test_a_given_document_that_loops_for_ever() -> None:
    call = PaperCall()
    (end,) = call.receive(Instructed(document=response("<Redirect/>")))
    assert isinstance(end, EndCall)


def test_waiting_in_a_loop_is_no_endless_loop_but_there_is_an_end() -> None:
    call = PaperCall("<Pause/><Redirect/>")
    for _ in range(2, MAX_DOCUMENTS + 1):
        (fetch,) = call.elapse(1)
        assert isinstance(fetch, Fetch)
        call.fetched(fetch, "<Pause/><Redirect/>")
        call.notes.clear()
    assert isinstance(call.elapse(1)[0], EndCall)


def test_the_story_has_verbs_warnings_and_their_places() -> None:
    call = PaperCall('<Say loop="x">Hello</Say>')
    told = [(note.severity, note.code, note.line, note.column) for note in call.notes]
    assert told == [
        (Severity.INFO, None, None, None),
        (Severity.WARNING, 12200, 2, 11),
        (Severity.INFO, None, 2, 11),
    ]


def test_a_verb_we_do_not_have_ends_the_call_when_it_is_reached() -> None:
    call = PaperCall("<Say>Hello</Say><Enqueue>a</Enqueue><Say>never</Say>")
    (end,) = call.played(call.actions)
    assert isinstance(end, EndCall)
    assert call.codes(Severity.ERROR) == [12200]


# Answering


@pytest.mark.parametrize(
    "body",
    [
        "<Say>a</Say>",
        "<Play>/a</Play>",
        "<Gather/>",
        "<Record/>",
        "<Dial>1</Dial>",
        "<Start><Recording/></Start><Pause/>",
    ],
)
def test_verbs_that_answer(body: str) -> None:
    call = PaperCall(body, answered=False)
    assert call.actions[0] == Answer()
    assert Answer() not in PaperCall(body, answered=True).actions


def test_a_leading_pause_delays_the_answer() -> None:
    call = PaperCall('<Pause length="3"/><Say>a</Say>', answered=False)
    assert call.actions == []
    assert call.elapse(2.9) == []
    assert call.elapse(0.2)[0] == Answer()


@pytest.mark.parametrize(
    ("body", "busy"), [("<Reject/>", False), ('<Reject reason="busy"/>', True)]
)
def test_reject(body: str, busy: bool) -> None:
    assert PaperCall(body, answered=False).actions == [Reject(busy), EndCall("<Reject>")]
    assert PaperCall(body, answered=True).actions == [EndCall("<Reject>")]


def test_hangup_and_redirect_do_not_answer() -> None:
    assert PaperCall("<Hangup/>", answered=False).actions == [EndCall("<Hangup>")]
    assert isinstance(PaperCall("<Redirect/>", answered=False).actions[0], Fetch)


# Say, Play, Pause


def test_verbs_in_order() -> None:
    call = PaperCall('<Say voice="v" language="de-DE">Hello</Say><Play>/a</Play><Hangup/>')
    assert call.actions == [Play("play-2", (Speech("Hello", "de-DE", "v"),))]
    actions = call.played(call.actions)
    assert actions == [Play("play-3", (Audio("https://app.example/a"),))]
    assert call.played(actions) == [EndCall("<Hangup>")]


def test_nothing_to_say_or_play_is_nothing() -> None:
    assert PaperCall("<Say/><Play/><Hangup/>").actions == [EndCall("<Hangup>")]


def test_loop() -> None:
    call = PaperCall('<Say loop="40">Hello</Say>')
    counted, actions = 0, call.actions
    while isinstance(actions[0], Play):
        assert set(actions[0].sounds) == {HELLO}
        counted += len(actions[0].sounds)
        actions = call.played(actions)
    assert counted == 40


def test_play_digits() -> None:
    call = PaperCall('<Play digits="ww12"/>')
    assert call.actions == [Play("play-2", (Digits("ww12"),))]


def test_what_cannot_be_played_is_told_and_passed_over() -> None:
    call = PaperCall('<Play loop="5">/a</Play><Hangup/>')
    assert call.receive(PlayFailed("play-2", "404")) == [EndCall("<Hangup>")]
    assert call.codes(Severity.ERROR) == [11200]


def test_what_was_not_asked_for_is_nothing() -> None:
    call = PaperCall("<Say>Hello</Say>")
    assert call.receive(PlayDone("play-1")) == []
    assert call.receive(PlayFailed("play-3", "")) == []
    assert call.receive(Digit("1")) == []
    assert call.receive(FellSilent(True)) == []
    assert call.receive(RecordingStopped("recording-1", 5)) == []
    assert call.receive(OtherEnded("target-1", 5)) == []
    assert call.elapse(100_000) == []


def test_pause() -> None:
    call = PaperCall('<Pause length="7"/>')
    assert call.elapse(6.9) == []
    assert call.elapse(0.1) == [EndCall("the document is at its end")]


# Gather


def gather(attributes: str = "", inside: str = "") -> str:
    return f"<Gather {attributes}>{inside}</Gather><Hangup/>"


def test_gather_without_a_key_goes_on() -> None:
    call = PaperCall(gather(inside="<Say>Hello</Say>"))
    assert call.elapse(60) == [], "time runs from the end of what is said"
    assert call.played(call.actions) == []
    assert call.elapse(4.9) == []
    assert call.elapse(0.1) == [EndCall("<Hangup>")]


def test_gather_waits_for_each_key_and_asks_the_same_document() -> None:
    call = PaperCall(gather('timeout="3"'))
    assert call.elapse(2.9) == []
    assert call.receive(Digit("1")) == []
    assert call.elapse(2.9) == []
    assert call.receive(Digit("*")) == []
    (fetch,) = call.elapse(3)
    assert isinstance(fetch, Fetch)
    assert (fetch.url, fetch.method, fields(fetch)) == (URL, POST, {"Digits": "1*"})


def test_a_key_cuts_the_prompts_off() -> None:
    call = PaperCall(gather('action="/k" method="GET" numDigits="2"', "<Say>Hello</Say>"))
    assert call.receive(Digit("4")) == [StopPlaying()]
    (fetch,) = call.receive(Digit("2"))
    assert isinstance(fetch, Fetch)
    assert (fetch.url, fetch.method) == ("https://app.example/k", GET)
    assert fields(fetch) == {"Digits": "42"}


def test_what_ends_a_gather_is_not_told() -> None:
    call = PaperCall(gather('finishOnKey="*#"'))
    call.receive(Digit("9"))
    (fetch,) = call.receive(Digit("*"))
    assert isinstance(fetch, Fetch)
    assert fields(fetch) == {"Digits": "9"}


def test_no_key_ends_a_gather_where_none_is_to() -> None:
    call = PaperCall(gather('finishOnKey=""'))
    assert call.receive(Digit("#")) == []
    (fetch,) = call.elapse(5)
    assert isinstance(fetch, Fetch)
    assert fields(fetch) == {"Digits": "#"}


def test_the_ending_key_alone_is_no_input() -> None:
    assert PaperCall(gather()).receive(Digit("#")) == [EndCall("<Hangup>")]


def test_action_on_empty_result() -> None:
    (fetch,) = PaperCall(gather('actionOnEmptyResult="true"')).elapse(5)
    assert isinstance(fetch, Fetch)
    assert fields(fetch) == {"Digits": ""}


def test_prompts_of_a_gather_are_one_after_the_other() -> None:
    inside = '<Say loop="2">Hello</Say><Pause length="2"/><Play>/a</Play>'
    call = PaperCall(gather(inside=inside))
    play = call.only(Play, call.actions)
    assert play.sounds == (HELLO, HELLO, Silence(2000), Audio("https://app.example/a"))


def test_keys_are_still_taken_where_a_prompt_cannot_be_had() -> None:
    call = PaperCall(gather('numDigits="1"', "<Play>/a</Play>"))
    play = call.only(Play, call.actions)
    assert call.receive(PlayFailed(play.play_id, "404")) == []
    (fetch,) = call.receive(Digit("1"))
    assert isinstance(fetch, Fetch)


def test_letters_are_no_input() -> None:
    call = PaperCall(gather('numDigits="1"', "<Say>Hello</Say>"))
    assert call.receive(Digit("A")) == []


def test_a_given_document_is_begun_anew_by_gather() -> None:
    call = PaperCall()
    call.receive(Instructed(document=response('<Gather numDigits="1"><Say>Hello</Say></Gather>')))
    call.now += 1
    stop, play = call.receive(Digit("1"))
    assert (stop, isinstance(play, Play)) == (StopPlaying(), True)


# Record


def record(attributes: str = "") -> str:
    return f'<Record action="/r" {attributes}/><Hangup/>'


def test_record_beeps_and_listens() -> None:
    call = PaperCall(record())
    assert call.actions == [Play("play-2", (BEEP,))]
    actions = call.played(call.actions)
    start, listen = call.recording_started(actions)
    assert start.source is RecordingSource.RECORD_VERB
    assert start.request.trim is Trim.TRIM_SILENCE
    assert listen == [Listen(5000)]


def recording(
    attributes: str = "", dialect: Dialect = Dialect.TWILIO
) -> tuple[PaperCall, StartRecording]:
    call = PaperCall(record(f'playBeep="false" {attributes}'), dialect=dialect)
    start, _ = call.recording_started(call.actions)
    return call, start


def told(call: PaperCall, start: StartRecording) -> dict[str, str]:
    fetch = call.only(Fetch, call.recording_stopped(start))
    assert fetch.url == "https://app.example/r"
    return fields(fetch)


def test_record_ends_on_a_key() -> None:
    call, start = recording()
    assert call.receive(Digit("5")) == [Listen(None), StopRecording(start.key)]
    assert told(call, start) == {
        "RecordingUrl": "https://callreel.example/RE1",
        "RecordingSid": "RE1",
        "RecordingDuration": "7",
        "Digits": "5",
    }


def test_record_takes_other_keys_for_sounds() -> None:
    call, start = recording('finishOnKey="#"')
    assert call.receive(Digit("5")) == []
    assert call.receive(Digit("#")) != []
    assert told(call, start)["Digits"] == "#"


def test_record_ends_by_silence() -> None:
    call, start = recording('timeout="9"')
    assert call.receive(FellSilent(spoke=True)) == [Listen(None), StopRecording(start.key)]
    assert told(call, start)["Digits"] == ""


def test_record_ends_at_its_length() -> None:
    call, start = recording('maxLength="20"')
    assert call.elapse(19.9) == []
    assert call.elapse(0.1) == [Listen(None), StopRecording(start.key)]
    assert told(call, start)["Digits"] == ""


def test_the_longest_message_unless_it_is_said() -> None:
    call, _start = recording()
    assert call.elapse(3599) == []
    assert call.elapse(1) != []


def test_nothing_said_is_no_recording_at_twilio() -> None:
    call, start = recording()
    call.receive(FellSilent(spoke=False))
    assert call.recording_stopped(start) == [EndCall("<Hangup>")]


def test_nothing_said_is_told_at_signalwire() -> None:
    call, start = recording(dialect=Dialect.SIGNALWIRE)
    call.receive(FellSilent(spoke=False))
    assert told(call, start)["RecordingDuration"] == "0"


def test_silence_is_kept_where_it_is_not_trimmed() -> None:
    call, start = recording('trim="do-not-trim"')
    call.receive(FellSilent(spoke=False))
    assert told(call, start)["RecordingDuration"] == "7"


def test_no_audio_at_all_is_no_recording() -> None:
    call, start = recording('trim="do-not-trim"')
    call.receive(Digit("1"))
    assert call.receive(RecordingStopped(start.key, 4, empty=True)) == [EndCall("<Hangup>")]


def test_a_recording_that_the_api_stopped_ends_the_verb() -> None:
    call, start = recording()
    listen, fetch = call.recording_stopped(start)
    assert listen == Listen(None)
    assert isinstance(fetch, Fetch)


def test_a_recording_that_does_not_start() -> None:
    call = PaperCall(record('playBeep="false"'))
    start = call.only(StartRecording, call.actions)
    assert call.receive(RecordingFailed(start.key, "disk full")) == [EndCall("<Hangup>")]
    assert call.codes(Severity.ERROR) == [None]


def test_a_recording_whose_end_is_not_told_holds_nobody_up() -> None:
    call, _start = recording()
    call.receive(Digit("1"))
    assert call.elapse(9) == []
    (fetch,) = call.elapse(1)
    assert isinstance(fetch, Fetch)


def test_hanging_up_during_record_keeps_the_message() -> None:
    call, start = recording()
    assert call.receive(HungUp()) == [Listen(None), StopRecording(start.key)]
    tell, end = call.recording_stopped(start)
    assert isinstance(tell, Tell)
    assert tell.url == "https://app.example/r"
    assert dict(tell.fields)["Digits"] == "hangup"
    assert isinstance(end, EndCall)


def test_hanging_up_before_the_recording_runs() -> None:
    call = PaperCall(record('playBeep="false"'))
    start = call.only(StartRecording, call.actions)
    assert call.receive(HungUp()) == [StopRecording(start.key)]
    assert isinstance(call.receive(RecordingFailed(start.key, "gone"))[0], EndCall)


def test_the_story_tells_who_hung_up() -> None:
    call = PaperCall("<Pause/>")
    call.receive(HungUp("the session timer expired"))
    assert call.notes[-1].message == "the session timer expired"


def test_hanging_up_during_the_beep() -> None:
    call = PaperCall(record())
    assert call.receive(HungUp("bye")) == [StopPlaying(), EndCall("the party hung up")]


# Dial


def dial(
    attributes: str = "", inside: str = "<Number>1</Number>", *, answered: bool = True
) -> PaperCall:
    return PaperCall(f"<Dial {attributes}>{inside}</Dial><Hangup/>", answered=answered)


def ring(call: PaperCall) -> Ring:
    return call.only(Ring, call.actions)


TWO = '<Number sendDigits="w1">1</Number><Sip username="u" password="p">sip:b@c</Sip>'


def test_dial_rings_all_at_once() -> None:
    call = dial('timeout="12" callerId="+15" callerName="Ada"', TWO)
    assert call.actions == [
        Ring(
            (
                RingTarget("target-2", Target("1"), "w1"),
                RingTarget("target-3", Target("sip:b@c", "u", "p")),
            ),
            12,
            "+15",
            "Ada",
        )
    ]
    assert ring(dial()).ring_seconds == 30


def test_the_first_to_answer_wins() -> None:
    call = dial('action="/d"', TWO)
    first, second = (target.target_id for target in ring(call).targets)
    assert call.receive(TargetRinging(first)) == []
    assert call.receive(TargetAnswered(second, "CA2")) == [HangUpOther(first), Connect(second)]
    assert call.receive(TargetAnswered(first, "CA1")) == [HangUpOther(first)]
    assert call.receive(TargetFailed(first, CallStatus.CANCELED)) == []
    fetch = call.only(Fetch, call.receive(OtherEnded(second, 42)))
    assert fetch.url == "https://app.example/d"
    assert fields(fetch) == {
        "DialCallStatus": "completed",
        "DialCallSid": "CA2",
        "DialCallDuration": "42",
        "DialBridged": "true",
    }


def test_without_an_action_the_next_verb_follows() -> None:
    call = dial()
    (target,) = ring(call).targets
    call.receive(TargetAnswered(target.target_id, "CA2"))
    assert call.receive(OtherEnded(target.target_id, 1)) == [EndCall("<Hangup>")]
    call = dial()
    (target,) = ring(call).targets
    assert call.receive(TargetFailed(target.target_id, CallStatus.BUSY)) == [EndCall("<Hangup>")]


BUSY, NO_ANSWER = CallStatus.BUSY, CallStatus.NO_ANSWER
FAILED, CANCELED = CallStatus.FAILED, CallStatus.CANCELED


@pytest.mark.parametrize(
    ("one", "other", "best"),
    [
        (BUSY, NO_ANSWER, "busy"),
        (NO_ANSWER, BUSY, "busy"),
        (FAILED, NO_ANSWER, "no-answer"),
        (CANCELED, FAILED, "failed"),
        (CANCELED, CANCELED, "canceled"),
    ],
)
def test_nobody_answers(one: CallStatus, other: CallStatus, best: str) -> None:
    call = dial('action="/d"', TWO)
    first, second = (target.target_id for target in ring(call).targets)
    assert call.receive(TargetFailed(first, one, "why", 486, "CA1")) == []
    fetch = call.only(Fetch, call.receive(TargetFailed(second, other, "why", 486, "CA2")))
    sid = "CA1" if one.value == best else "CA2"
    assert fields(fetch) == {
        "DialCallStatus": best,
        "DialCallSid": sid,
        "DialSipResponseCode": "486",
        "DialBridged": "false",
    }


def test_nobody_to_call() -> None:
    call = dial('action="/d"', "")
    assert fields(call.only(Fetch, call.actions))["DialCallStatus"] == "failed"


def test_who_rings_for_ever_is_given_up() -> None:
    call = dial('timeout="10" action="/d"')
    (target,) = ring(call).targets
    call.receive(TargetRinging(target.target_id, "CA2"))
    assert call.elapse(14.9) == []
    hang_up, fetch = call.elapse(0.2)
    assert hang_up == HangUpOther(target.target_id)
    assert isinstance(fetch, Fetch)
    assert fields(fetch)["DialCallStatus"] == "no-answer"
    assert fields(fetch)["DialCallSid"] == "CA2"


def connected(attributes: str = "", *, answered: bool = True) -> tuple[PaperCall, str]:
    call = dial(attributes, answered=answered)
    target = ring(call).targets[0].target_id
    call.actions = call.receive(TargetAnswered(target, "CA2"))
    return call, target


def test_the_time_limit() -> None:
    call, target = connected('timeLimit="60" action="/d"')
    assert call.elapse(59.9) == []
    hang_up, fetch = call.elapse(0.2)
    assert hang_up == HangUpOther(target)
    assert isinstance(fetch, Fetch)
    assert fields(fetch)["DialCallDuration"] == "60"
    call, target = connected()
    assert call.elapse(14399) == []
    assert call.elapse(1)[0] == HangUpOther(target)


def test_hangup_on_star() -> None:
    call, target = connected('hangupOnStar="true"')
    assert call.receive(Digit("1")) == []
    assert call.receive(Digit("*")) == [HangUpOther(target), EndCall("<Hangup>")]
    call, _ = connected()
    assert call.receive(Digit("*")) == []


def test_answer_on_bridge() -> None:
    call, target = connected('answerOnBridge="true"', answered=False)
    assert call.actions == [Answer(), Connect(target)]
    call, target = connected(answered=False)
    assert call.actions == [Connect(target)]


def test_dial_records_from_the_answer_on() -> None:
    call, target = connected('record="record-from-answer" action="/d"')
    start, connect = call.actions
    assert isinstance(start, StartRecording)
    assert start.source is RecordingSource.DIAL_VERB
    assert connect == Connect(target), "what is said first is on the recording"
    call.recording_started([start])
    assert call.receive(OtherEnded(target, 42)) == [StopRecording(start.key)]
    told = fields(call.only(Fetch, call.recording_stopped(start, 43)))
    assert told["RecordingUrl"] == "https://callreel.example/RE1"
    assert told["RecordingSid"] == "RE1"
    assert told["RecordingDuration"] == "43"
    assert told["DialCallStatus"] == "completed"


def test_dial_records_from_the_ringing_on() -> None:
    call = dial('record="record-from-ringing"', answered=False)
    assert [type(action) for action in call.actions] == [Answer, StartRecording, Ring]


def test_a_call_that_is_not_answered_cannot_be_recorded_yet() -> None:
    call, _ = connected('record="record-from-ringing" answerOnBridge="true"', answered=False)
    assert [type(action) for action in call.actions] == [Answer, StartRecording, Connect]


def test_a_recording_of_dial_that_does_not_start_holds_nobody_up() -> None:
    call, target = connected('record="true" action="/d"')
    start = call.only(StartRecording, call.actions)
    assert call.receive(RecordingFailed(start.key, "disk full")) == []
    fetch = call.only(Fetch, call.receive(OtherEnded(target, 42)))
    assert "RecordingSid" not in fields(fetch)


def test_hanging_up_while_it_rings() -> None:
    call = dial('action="/d"', TWO)
    first, second = (target.target_id for target in ring(call).targets)
    *undone, tell, end = call.receive(HungUp())
    assert undone == [HangUpOther(first), HangUpOther(second)]
    assert isinstance(tell, Tell)
    assert dict(tell.fields)["DialCallStatus"] == "canceled"
    assert isinstance(end, EndCall)


def test_hanging_up_while_connected() -> None:
    call, target = connected('action="/d" record="true"')
    start, _ = call.recording_started(call.actions)
    call.now += 9
    assert call.receive(HungUp()) == [HangUpOther(target), StopRecording(start.key)]
    tell, end = call.recording_stopped(start)
    assert isinstance(tell, Tell)
    assert dict(tell.fields)["DialCallDuration"] == "9"
    assert isinstance(end, EndCall)


# Start, Stop


def test_start_records_from_there_on() -> None:
    call = PaperCall("<Start><Recording/></Start><Say>Hello</Say>", answered=False)
    answer, start, play = call.actions
    assert answer == Answer()
    assert isinstance(start, StartRecording)
    assert start.source is RecordingSource.START_CALL_RECORDING_DOCUMENT
    assert isinstance(play, Play), "what is said is on the recording"
    call.recording_started([start])
    *_, stop, end = call.played([play])
    assert stop == StopRecording(start.key)
    assert isinstance(end, EndCall)


def test_it_outlasts_its_document_and_stop_ends_it() -> None:
    call = PaperCall("<Start><Recording/></Start><Redirect>/2</Redirect>")
    start, _ = call.recording_started(call.actions)
    actions = call.fetched(
        call.only(Fetch, call.actions), "<Stop><Recording/></Stop><Pause/><Hangup/>"
    )
    assert actions == [StopRecording(start.key)]
    assert call.elapse(1) == [EndCall("<Hangup>")]


def test_stop_by_name() -> None:
    body = (
        '<Start><Recording name="a"/></Start><Stop><Recording name="b"/></Stop><Pause/>'
        '<Stop><Recording name="a"/></Stop><Pause/>'
    )
    call = PaperCall(body)
    start = call.only(StartRecording, call.actions)
    assert call.codes(Severity.WARNING) == [None]
    assert call.elapse(1) == [StopRecording(start.key)]


def test_there_is_one_recording_of_a_document_at_a_time() -> None:
    call = PaperCall("<Start><Recording/></Start><Start><Recording/></Start><Pause/>")
    assert len(call.actions) == 1
    assert call.codes(Severity.WARNING) == [None]


def test_one_that_is_asked_to_stop_makes_room_for_the_next() -> None:
    stop, start = "<Stop><Recording/></Stop>", "<Start><Recording/></Start>"
    call = PaperCall(start + stop + start + stop + stop + "<Pause/>")
    kinds = [StartRecording, StopRecording, StartRecording, StopRecording]
    assert [type(action) for action in call.actions] == kinds
    assert call.codes(Severity.WARNING) == [None]


# Hanging up, redirecting, everywhere

BUSY_WITH = [
    ("<Say>Hello</Say>", [StopPlaying()]),
    ("<Pause/>", []),
    ("<Gather/>", []),
    ("<Gather><Say>Hello</Say></Gather>", [StopPlaying()]),
    ("<Record/>", [StopPlaying()]),
    ('<Record playBeep="false"/>', [StopRecording("recording-2")]),
    ("<Dial>1</Dial>", [HangUpOther("target-2")]),
    (
        '<Dial record="record-from-ringing">1</Dial>',
        [HangUpOther("target-3"), StopRecording("recording-2")],
    ),
    ("<Start><Recording/></Start><Redirect/>", [StopRecording("recording-2")]),
    ("<Redirect/>", []),
]


@pytest.mark.parametrize(("body", "undone"), BUSY_WITH)
def test_hanging_up_stops_everything(body: str, undone: list[object]) -> None:
    call = PaperCall(body)
    actions = call.receive(HungUp("BYE")) + call.elapse(60)
    assert [action for action in actions if not isinstance(action, Tell)][:-1] == undone
    assert isinstance(actions[-1], EndCall)
    assert call.receive(HungUp()) == []
    assert call.receive(Instructed(URL)) == []


@pytest.mark.parametrize(("body", "undone"), BUSY_WITH)
def test_the_api_redirects_a_call_out_of_everything(body: str, undone: list[object]) -> None:
    call = PaperCall(body)
    *actions, fetch = call.receive(Instructed("https://other.example/"))
    if not body.startswith("<Start>"):
        assert actions == undone
    assert isinstance(fetch, Fetch)
    assert call.fetched(fetch, "<Pause/>") == []
    assert isinstance(call.elapse(1)[-1], EndCall)


def test_the_api_redirects_a_conversation() -> None:
    call, target = connected('record="true" action="/d"')
    start, _ = call.recording_started(call.actions)
    actions = call.receive(Instructed(document=response("<Say>Hello</Say>")))
    assert actions[:-1] == [HangUpOther(target), StopRecording(start.key)]
    assert isinstance(actions[-1], Play)
    assert call.receive(OtherEnded(target, 5)) == []
    assert call.recording_stopped(start) == []


# A successor


@pytest.mark.parametrize(
    ("body", "first"),
    [
        ("<Say>Hello</Say>", Play("play-3", (HELLO,))),
        ("<Gather><Say>Hello</Say></Gather>", Play("play-3", (HELLO,))),
        ("<Record/>", Play("play-3", (BEEP,))),
        ("<Dial>1</Dial>", Ring((RingTarget("target-3", Target("1")),), 30)),
        ("<Redirect>/2</Redirect>", Fetch(3, "https://app.example/2", POST)),
    ],
)
def test_the_verb_that_ran_begins_anew(body: str, first: object) -> None:
    call = PaperCall(body, answered=False)
    assert call.restart() == [first]


def test_a_message_that_was_being_recorded_is_closed_first() -> None:
    call = PaperCall('<Pause length="0"/><Record playBeep="false"/>')
    start, _ = call.recording_started(call.actions)
    stop, again = call.restart()
    assert stop == StopRecording(start.key)
    assert isinstance(again, StartRecording)
    assert again.key != start.key


def test_a_conversation_goes_on() -> None:
    call, target = connected('record="true" action="/d" timeLimit="60"')
    start, _ = call.recording_started(call.actions)
    call.elapse(50)
    assert call.restart() == []
    assert call.elapse(9) == []
    assert call.elapse(1) == [HangUpOther(target), StopRecording(start.key)]
    told = fields(call.only(Fetch, call.recording_stopped(start)))
    assert told["DialCallDuration"] == "60"
    assert told["RecordingSid"] == "RE1"


def test_a_recording_of_the_document_goes_on() -> None:
    call = PaperCall("<Start><Recording/></Start><Say>Hello</Say><Stop><Recording/></Stop><Pause/>")
    start, _ = call.recording_started(call.actions)
    assert call.played(call.restart()) == [StopRecording(start.key)]


def test_a_request_keeps_its_fields_and_fallback() -> None:
    call = PaperCall('<Gather numDigits="1"/>', fallback_url="https://b.example/")
    before = call.only(Fetch, call.receive(Digit("1")))
    after = call.only(Fetch, call.restart())
    assert (after.url, after.method, after.fields) == (before.url, before.method, before.fields)
    assert call.only(Fetch, call.fetch_failed(after)).url == "https://b.example/"


def test_a_given_document_and_what_follows() -> None:
    call = PaperCall()
    call.receive(Instructed(document=response("<Pause/><Say>Grüße</Say>")))
    assert call.restart() == []
    assert call.only(Play, call.elapse(1)).sounds == (Speech("Grüße", "", ""),)


def test_what_is_over_stays_over() -> None:
    call = PaperCall("<Hangup/>")
    assert call.restart() == []
    assert call.interpreter.is_over


def test_who_hung_up_stays_gone() -> None:
    call, start = recording()
    call.receive(HungUp())
    stop, end = call.restart()
    assert (stop, isinstance(end, EndCall)) == (StopRecording(start.key), True)


def test_before_anything_was_told() -> None:
    call = PaperCall()
    assert call.restart() == []
    assert isinstance(call.receive(Instructed(URL))[0], Fetch)
