"""Reads a document: XML to verbs. Content types are not trusted; the bytes tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from callreel.calls.model import RecordingChannels, RecordingRequest, RecordingTrack, Trim
from callreel.cxml import verbs
from callreel.cxml.actions import Note
from callreel.cxml.addresses import resolve
from callreel.cxml.attributes import MAX_SECONDS, Attributes, Warnings
from callreel.cxml.codes import Code
from callreel.cxml.markup import DocumentError, Element, parse
from callreel.cxml.verbs import MAX_TARGETS, Place, Verb

MAX_SAID_CHARS = 4096
"""How much text one ``Say`` may have: the vendors' limit."""
MAX_RING_SECONDS = 600
"""How long a ``Dial`` may ring: the vendors' limit."""

_AMD = (
    "machineDetection",
    "amdStatusCallback",
    "amdStatusCallbackMethod",
    "machineDetectionTimeout",
    "machineDetectionSpeechThreshold",
    "machineDetectionSpeechEndThreshold",
    "machineDetectionSilenceTimeout",
)
_GATHER_HAS_NOT = frozenset(
    {
        "speechTimeout",
        "maxSpeechTime",
        "profanityFilter",
        "partialResultCallback",
        "partialResultCallbackMethod",
        "language",
        "hints",
        "bargeIn",
        "debug",
        "speechModel",
        "enhanced",
    }
)
_DIAL_HAS_NOT = frozenset(
    {
        "ringTone",
        "recordingConfigurationId",
        "recordingStorageUrl",
        "recordingStorageUrlMethod",
        "sequential",
        "referUrl",
        "referMethod",
        "events",
        "passports",
        "callReason",
    }
)
_NUMBER_HAS_NOT = frozenset({"url", "method", "byoc", *_AMD})
_SIP_HAS_NOT = frozenset({"url", "method", "codecs", "sessionTimeout", *_AMD})
_RECORD_HAS_NOT = frozenset(
    {
        "transcribe",
        "transcribeCallback",
        "recordingConfigurationId",
        "storageUrl",
        "storageUrlMethod",
    }
)
_RECORDING_HAS_NOT = frozenset({"recordingConfigurationId"})
_SIP_SCHEMES = ("sip:", "sips:")
_WRITTEN_IN_NUMBERS = str.maketrans("", "", " \t\r\n-.()\u00a0")


class DialRecord(Enum):
    """The values of ``record`` of a ``Dial``."""

    DO_NOT_RECORD = "do-not-record"
    FALSE = "false"
    TRUE = "true"
    FROM_ANSWER = "record-from-answer"
    FROM_RINGING = "record-from-ringing"
    FROM_ANSWER_DUAL = "record-from-answer-dual"
    FROM_RINGING_DUAL = "record-from-ringing-dual"


class RejectReason(Enum):
    """The values of ``reason`` of a ``Reject``."""

    REJECTED = "rejected"
    BUSY = "busy"


@dataclass(frozen=True, slots=True)
class Document:
    """What a program wants done."""

    verbs: tuple[Verb, ...]
    """In order."""
    warnings: tuple[Note, ...]
    """What is not as it should be in it."""


def read(document: bytes | str, url: str | None) -> Document:
    """Verbs of a document that came from ``url``, to which its addresses are relative.

    Raises :class:`DocumentError` for what cannot be gone by at all: no XML, too large, another
    root, an ``action`` that leads nowhere. What is merely wrong is a warning, or a verb
    (:class:`callreel.cxml.verbs.Unsupported`) that ends the call when it is reached.
    """
    root = parse(document)
    if root.name != "Response":
        raise DocumentError(
            Code.BAD_ROOT,
            f"the root element is <{root.name:.40}>, not <Response>",
            line=root.line,
            column=root.column,
        )
    return _Reader(url).document(root)


class _Reader:
    """Turns elements into verbs, with the warnings they deserve."""

    def __init__(self, base: str | None) -> None:
        self._base = base
        self._warnings = Warnings()
        self._read: dict[str, Callable[[Element], Verb]] = {
            "Say": self._say,
            "Play": self._play,
            "Pause": self._pause,
            "Gather": self._gather,
            "Dial": self._dial,
            "Record": self._record,
            "Start": self._start,
            "Stop": self._stop,
            "Hangup": self._hangup,
            "Reject": self._reject,
            "Redirect": self._redirect,
        }

    def document(self, root: Element) -> Document:
        if root.text:
            self._warnings.add(root, "text between the verbs is ignored")
        found: list[Verb] = []
        for element in root.children:
            read = self._read.get(element.name)
            if read is None:
                found.append(verbs.Unsupported(_place(element), f"<{element.name:.40}>"))
            else:
                found.append(read(element))
        return Document(tuple(found), self._warnings.notes())

    def _attributes(self, element: Element) -> Attributes:
        return Attributes(element, self._base, self._warnings)

    def _no_children(self, element: Element) -> None:
        for child in element.children:
            self._warnings.add(child, f"does not belong in <{element.name}> and is ignored")

    # What is played

    def _say(self, element: Element) -> verbs.Say:
        attributes = self._attributes(element)
        loop = attributes.whole("loop", 1, least=0, most=verbs.FOREVER)
        voice, language = attributes.text("voice"), attributes.text("language")
        attributes.finish()
        if element.children:
            self._warnings.add(element, "speech markup in it is spoken as plain text")
        text = " ".join(_spoken(element).split())
        if not text:
            self._warnings.add(element, "there is nothing to say")
        if len(text) > MAX_SAID_CHARS:
            self._warnings.add(element, f"only the first {MAX_SAID_CHARS} characters are said")
            text = text[:MAX_SAID_CHARS]
        return verbs.Say(_place(element), text, voice[:80], language[:40], loop or verbs.FOREVER)

    def _play(self, element: Element) -> verbs.Play:
        attributes = self._attributes(element)
        loop = attributes.whole("loop", 1, least=0, most=verbs.FOREVER)
        digits = attributes.digits("digits")
        attributes.finish()
        self._no_children(element)
        url = resolve(self._base, element.text) if element.text else None
        if element.text and url is None:
            self._warnings.add(element, "this is no http or https address", Code.BAD_URL)
        elif not element.text and not digits:
            self._warnings.add(element, "there is nothing to play")
        return verbs.Play(_place(element), url, digits, loop or verbs.FOREVER)

    def _pause(self, element: Element) -> verbs.Pause:
        attributes = self._attributes(element)
        length = attributes.whole("length", 1, least=0)
        attributes.finish()
        self._no_children(element)
        return verbs.Pause(_place(element), length)

    # What is heard

    def _gather(self, element: Element) -> verbs.Gather:
        attributes = self._attributes(element)
        wanted = attributes.text("input").split() or ["dtmf"]
        if wanted != ["dtmf"]:
            self._warnings.add(element, "speech is not recognised; only keys are taken in")
        num_digits = attributes.whole("numDigits", 0, most=1000)
        gather = verbs.Gather(
            _place(element),
            follow=attributes.follow(),
            finish_on_key=attributes.finish_on_key("#"),
            num_digits=num_digits or None,
            timeout_s=attributes.whole("timeout", 5, least=0),
            action_on_empty_result=attributes.flag("actionOnEmptyResult", False),
            prompts=self._prompts(element),
        )
        attributes.finish(unsupported=_GATHER_HAS_NOT)
        return gather

    def _prompts(self, gather: Element) -> tuple[verbs.Prompt, ...]:
        found: list[verbs.Prompt] = []
        for child in gather.children:
            match child.name:
                case "Say":
                    found.append(self._say(child))
                case "Play":
                    found.append(self._play(child))
                case "Pause":
                    found.append(self._pause(child))
                case _:
                    self._warnings.add(child, "does not belong in <Gather> and is ignored")
        return tuple(found)

    def _record(self, element: Element) -> verbs.Record:
        attributes = self._attributes(element)
        trim = attributes.choice("trim", Trim, Trim.TRIM_SILENCE)
        length = attributes.whole("maxLength", 3600, least=0) or 3600
        record = verbs.Record(
            _place(element),
            follow=attributes.follow(),
            # A message is what the party says; what is played meanwhile is no part of it.
            request=RecordingRequest(
                track=RecordingTrack.INBOUND, trim=trim, callback=attributes.recording_callback()
            ),
            max_length_s=length,
            timeout_s=attributes.whole("timeout", 5),
            finish_on_key=attributes.finish_on_key("1234567890*#"),
            play_beep=attributes.flag("playBeep", True),
        )
        attributes.finish(unsupported=_RECORD_HAS_NOT)
        self._no_children(element)
        return record

    # Whom to call

    def _dial(self, element: Element) -> Verb:
        targets: list[verbs.Number | verbs.Sip] = []
        for child in element.children:
            if child.name == "Number":
                targets += self._number(child)
            elif child.name == "Sip":
                targets += self._sip(child)
            else:
                return verbs.Unsupported(_place(child), f"<Dial><{child.name:.40}>")
        text = element.text
        if text and element.children:
            self._warnings.add(element, "the text is ignored beside the elements")
        elif text.lower().startswith(_SIP_SCHEMES):
            targets.append(verbs.Sip(text))
        elif number := text.translate(_WRITTEN_IN_NUMBERS):
            targets.append(verbs.Number(number))
        if not targets:
            self._warnings.add(element, "there is nobody to call")
        if len(targets) > MAX_TARGETS:
            self._warnings.add(element, f"only the first {MAX_TARGETS} are called")
        attributes = self._attributes(element)
        follow = attributes.follow()
        record, ringing = self._dial_recording(attributes)
        dial = verbs.Dial(
            _place(element),
            targets=tuple(targets[:MAX_TARGETS]),
            follow=None if follow.url is None else follow,
            timeout_s=attributes.whole("timeout", 30, most=MAX_RING_SECONDS),
            time_limit_s=attributes.whole("timeLimit", 14400, most=MAX_SECONDS),
            caller_id=attributes.text("callerId")[:256] or None,
            caller_name=attributes.text("callerName")[:70] or None,
            answer_on_bridge=attributes.flag("answerOnBridge", False),
            hangup_on_star=attributes.flag("hangupOnStar", False),
            record=record,
            record_ringing=ringing,
        )
        attributes.finish(unsupported=_DIAL_HAS_NOT)
        return dial

    def _dial_recording(self, attributes: Attributes) -> tuple[RecordingRequest | None, bool]:
        wanted = attributes.choice("record", DialRecord, DialRecord.DO_NOT_RECORD)
        track = attributes.choice("recordingTrack", RecordingTrack, RecordingTrack.BOTH)
        trim = attributes.choice("trim", Trim, Trim.DO_NOT_TRIM)
        callback = attributes.recording_callback()
        if wanted in (DialRecord.DO_NOT_RECORD, DialRecord.FALSE):
            return None, False
        dual = wanted in (DialRecord.FROM_ANSWER_DUAL, DialRecord.FROM_RINGING_DUAL)
        channels = RecordingChannels.DUAL if dual else RecordingChannels.MONO
        ringing = wanted in (DialRecord.FROM_RINGING, DialRecord.FROM_RINGING_DUAL)
        return RecordingRequest(channels, track, trim, callback), ringing

    def _number(self, element: Element) -> list[verbs.Number | verbs.Sip]:
        attributes = self._attributes(element)
        number = element.text.translate(_WRITTEN_IN_NUMBERS)
        digits, callback = attributes.digits("sendDigits"), attributes.status_callback()
        attributes.finish(unsupported=_NUMBER_HAS_NOT)
        self._no_children(element)
        if not number:
            self._warnings.add(element, "there is no number in it")
            return []
        return [verbs.Number(number, digits, callback)]

    def _sip(self, element: Element) -> list[verbs.Number | verbs.Sip]:
        attributes = self._attributes(element)
        sip = verbs.Sip(
            element.text,
            attributes.text("username"),
            attributes.text("password"),
            attributes.status_callback(),
        )
        attributes.finish(unsupported=_SIP_HAS_NOT)
        self._no_children(element)
        if not sip.uri.lower().startswith(_SIP_SCHEMES):
            self._warnings.add(element, "this is no SIP address")
            return []
        return [sip]

    # Recordings beside the verbs

    def _start(self, element: Element) -> Verb:
        recording = self._only_recording(element)
        if isinstance(recording, verbs.Unsupported):
            return recording
        attributes = self._attributes(recording)
        name = attributes.text("name")[:80]
        request = RecordingRequest(
            attributes.choice("channels", RecordingChannels, RecordingChannels.DUAL),
            attributes.choice("track", RecordingTrack, RecordingTrack.BOTH),
            attributes.choice("trim", Trim, Trim.TRIM_SILENCE),
            attributes.recording_callback(),
        )
        attributes.finish(unsupported=_RECORDING_HAS_NOT)
        return verbs.StartRecording(_place(element), request, name)

    def _stop(self, element: Element) -> Verb:
        recording = self._only_recording(element)
        if isinstance(recording, verbs.Unsupported):
            return recording
        attributes = self._attributes(recording)
        name = attributes.text("name")[:80]
        attributes.finish()
        return verbs.StopRecording(_place(element), name)

    def _only_recording(self, element: Element) -> Element | verbs.Unsupported:
        """The one ``Recording`` in a ``Start`` or ``Stop``; several are not to be had."""
        self._attributes(element).finish(unsupported=frozenset({"action", "method"}))
        for child in element.children:
            if child.name != "Recording":
                what = f"<{element.name}><{child.name:.40}>"
                return verbs.Unsupported(_place(child), what)
        if not element.children:
            return verbs.Unsupported(_place(element), f"<{element.name}> with nothing in it")
        for child in element.children[1:]:
            self._warnings.add(child, f"one in a <{element.name}> is enough; this one is ignored")
        return element.children[0]

    # The call itself

    def _hangup(self, element: Element) -> verbs.Hangup:
        self._attributes(element).finish()
        self._no_children(element)
        return verbs.Hangup(_place(element))

    def _reject(self, element: Element) -> verbs.Reject:
        attributes = self._attributes(element)
        reason = attributes.choice("reason", RejectReason, RejectReason.REJECTED)
        attributes.finish()
        self._no_children(element)
        return verbs.Reject(_place(element), reason is RejectReason.BUSY)

    def _redirect(self, element: Element) -> verbs.Redirect:
        attributes = self._attributes(element)
        follow = attributes.follow(url=element.text)
        attributes.finish()
        self._no_children(element)
        return verbs.Redirect(_place(element), follow)


def _place(element: Element) -> Place:
    return Place(element.line, element.column)


def _spoken(element: Element) -> str:
    """All text in it; of speech markup only what is to be heard."""
    if element.name == "sub" and element.attributes.get("alias"):
        return element.attributes["alias"]
    parts: list[str] = []
    for item in element.content:
        parts.append(item if isinstance(item, str) else f" {_spoken(item)} ")
    return "".join(parts)
