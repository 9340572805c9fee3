"""Recording metadata (RFC 7865): the XML in which a recording client says who is heard where.

Read: RFC 7865, the drafts before it (``id`` and ``session`` attributes, ``send`` and ``recv``
inside ``participant``) and what was built on them (a ``recording_metadata`` root, ``aor`` as an
element). Names are compared without regard to case, ``_`` and ``-``; namespaces are not required
to be right; what is unknown is kept raw. Written: RFC 7865.

The XML is a stranger's: any document type declaration or entity is refused, nothing external is
ever looked up, and size, depth and number of elements are bounded.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar
from xml.parsers import expat

from callreel.base.errors import PeerError

NAMESPACE = "urn:ietf:params:xml:ns:recording:1"
MAX_METADATA_BYTES = 256 * 1024
MAX_ELEMENTS = 4096
MAX_DEPTH = 32

_JUNK_AFTER_ROOT = 9  # XML_ERROR_JUNK_AFTER_DOC_ELEMENT
_ROOTS = frozenset({"recording", "recordingmetadata", "rsmetadata"})
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BARE_AMPERSAND = re.compile(rb"&(?!#[0-9]+;|#x[0-9A-Fa-f]+;|[A-Za-z][A-Za-z0-9]*;)")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_Item = TypeVar("_Item")


class DataMode(Enum):
    """Whether a document tells everything or only what has changed (RFC 7865 §6.1.1)."""

    COMPLETE = "complete"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class NameID:
    """One way to name a participant (RFC 7865 §6.5.1)."""

    aor: str
    """Address of record as written: a ``sip:`` or ``tel:`` URI; may be empty."""
    name: str = ""
    """Display name, or empty."""


@dataclass(frozen=True, slots=True)
class Group:
    """Sessions that belong together (RFC 7865 §6.2)."""

    id: str
    """As written."""
    associate_time: datetime | None = None
    """UTC."""
    disassociate_time: datetime | None = None
    """UTC."""
    extensions: tuple[str, ...] = ()
    """Elements that are not RFC 7865's, each as XML."""


@dataclass(frozen=True, slots=True)
class Session:
    """A communication session: the call that is being recorded (RFC 7865 §6.3)."""

    id: str
    """As written; ``session-1`` and so on where it has none."""
    sip_session_ids: tuple[str, ...] = ()
    """Session-ID, or Call-ID, of the recorded call's SIP dialogs."""
    group_id: str = ""
    """The group it belongs to, or empty."""
    reason: str = ""
    """Why it ended, or empty."""
    start_time: datetime | None = None
    """UTC."""
    stop_time: datetime | None = None
    """UTC."""
    extensions: tuple[str, ...] = ()
    """Elements that are not RFC 7865's, each as XML."""


@dataclass(frozen=True, slots=True)
class Participant:
    """A party of a recorded call (RFC 7865 §6.5)."""

    id: str
    """As written; the first AoR, or ``participant-1`` and so on, where it has none."""
    name_ids: tuple[NameID, ...] = ()
    """Its names, in order."""
    extensions: tuple[str, ...] = ()
    """Elements that are not RFC 7865's, each as XML."""

    @property
    def aor(self) -> str:
        """The first address of record, or empty."""
        return next((name_id.aor for name_id in self.name_ids if name_id.aor), "")

    @property
    def name(self) -> str:
        """The first display name, or empty."""
        return next((name_id.name for name_id in self.name_ids if name_id.name), "")


@dataclass(frozen=True, slots=True)
class Stream:
    """A media stream: what one m-line of the SDP carries (RFC 7865 §6.6)."""

    id: str
    """As written; its label, or ``stream-1`` and so on, where it has none."""
    session_id: str = ""
    """The session it belongs to, or empty."""
    label: str = ""
    """The ``a=label`` of its m-line (RFC 4574), or empty."""
    extensions: tuple[str, ...] = ()
    """Elements that are not RFC 7865's, each as XML."""


@dataclass(frozen=True, slots=True)
class SessionRecordingAssoc:
    """When a session was being recorded (RFC 7865 §6.4)."""

    session_id: str
    """Of the session."""
    associate_time: datetime | None = None
    """UTC."""
    disassociate_time: datetime | None = None
    """UTC; None while it goes on."""


@dataclass(frozen=True, slots=True)
class ParticipantSessionAssoc:
    """When a participant was in a session (RFC 7865 §6.7)."""

    participant_id: str
    """Of the participant."""
    session_id: str = ""
    """Of the session, or empty."""
    associate_time: datetime | None = None
    """UTC."""
    disassociate_time: datetime | None = None
    """UTC; None while it goes on."""


@dataclass(frozen=True, slots=True)
class ParticipantStreamAssoc:
    """Which streams a participant sends and receives (RFC 7865 §6.8)."""

    participant_id: str
    """Of the participant."""
    send: tuple[str, ...] = ()
    """Streams in which it is heard, by id."""
    recv: tuple[str, ...] = ()
    """Streams that it hears, by id."""
    associate_time: datetime | None = None
    """UTC."""
    disassociate_time: datetime | None = None
    """UTC; None while it goes on."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One metadata document (RFC 7865 §6.1), or what :func:`merge` made of several."""

    data_mode: DataMode = DataMode.COMPLETE
    """Complete where the document does not say."""
    groups: tuple[Group, ...] = ()
    """In order of the document, as all below."""
    sessions: tuple[Session, ...] = ()
    """The recorded calls."""
    participants: tuple[Participant, ...] = ()
    """The parties."""
    streams: tuple[Stream, ...] = ()
    """The media."""
    session_recording_assocs: tuple[SessionRecordingAssoc, ...] = ()
    """When each session was recorded."""
    participant_session_assocs: tuple[ParticipantSessionAssoc, ...] = ()
    """Who was in which session when."""
    participant_stream_assocs: tuple[ParticipantStreamAssoc, ...] = ()
    """Who is heard in which stream."""
    extensions: tuple[str, ...] = ()
    """Elements of the root that are not RFC 7865's, each as XML."""


def parse(body: bytes) -> Recording:
    """Read a metadata document.

    Raises PeerError: 413 where it is too large, 400 where it is no XML, holds a document type
    declaration or entities, or is not recording metadata.
    """
    if len(body) > MAX_METADATA_BYTES:
        raise PeerError(f"metadata of {len(body)} bytes; at most {MAX_METADATA_BYTES}", status=413)
    if not body.startswith(_UTF_16_MARKS):  # there, a NUL is half a character
        body = body.strip(b"\x00 \t\r\n")
    root = _tree(body)
    if _key(root.tag) not in _ROOTS:
        raise PeerError(f"not recording metadata: its root is {root.tag[:64]!r}")
    return _Reader(root).recording()


def serialize(recording: Recording) -> bytes:
    """Write a document as RFC 7865 §10 has it: UTF-8, with its XML declaration."""
    root = ET.Element("recording", {"xmlns": NAMESPACE})
    _child(root, "datamode", recording.data_mode.value)
    for group in recording.groups:
        element = _child(root, "group", group_id=group.id)
        _times(element, group)
        _extend(element, group.extensions)
    for session in recording.sessions:
        element = _child(root, "session", session_id=session.id)
        for sip_session_id in session.sip_session_ids:
            _child(element, "sipSessionID", sip_session_id)
        if session.reason:
            _child(element, "reason", session.reason)
        if session.group_id:
            _child(element, "group-ref", session.group_id)
        _time(element, "start-time", session.start_time)
        _time(element, "stop-time", session.stop_time)
        _extend(element, session.extensions)
    for participant in recording.participants:
        element = _child(root, "participant", participant_id=participant.id)
        for name_id in participant.name_ids:
            named = _child(element, "nameID", aor=name_id.aor)
            if name_id.name:
                _child(named, "name", name_id.name)
        _extend(element, participant.extensions)
    for stream in recording.streams:
        element = _child(root, "stream", stream_id=stream.id)
        if stream.session_id:
            element.set("session_id", _clean(stream.session_id))
        if stream.label:
            _child(element, "label", stream.label)
        _extend(element, stream.extensions)
    for session_assoc in recording.session_recording_assocs:
        element = _child(root, "sessionrecordingassoc", session_id=session_assoc.session_id)
        _times(element, session_assoc)
    for member in recording.participant_session_assocs:
        element = _child(root, "participantsessionassoc", participant_id=member.participant_id)
        if member.session_id:
            element.set("session_id", _clean(member.session_id))
        _times(element, member)
    for flow in recording.participant_stream_assocs:
        element = _child(root, "participantstreamassoc", participant_id=flow.participant_id)
        for stream_id in flow.send:
            _child(element, "send", stream_id)
        for stream_id in flow.recv:
            _child(element, "recv", stream_id)
        _times(element, flow)
    _extend(root, recording.extensions)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, "unicode")}\n'.encode()


def merge(old: Recording | None, new: Recording) -> Recording:
    """What is known after ``new`` has come (RFC 7865 §6.1.1).

    A complete document replaces everything. A partial one changes what it names: an object is met
    by its id and keeps what the new one leaves out; the associations of a participant with streams
    are replaced as a whole, since a stream that is no longer listed is no longer sent. Nobody is
    ever forgotten: a participant that left is still the one who was heard.
    """
    if old is None or new.data_mode is DataMode.COMPLETE:
        return new
    return Recording(
        data_mode=DataMode.COMPLETE,
        groups=_update(old.groups, new.groups, lambda item: item.id, _merge_group),
        sessions=_update(old.sessions, new.sessions, lambda item: item.id, _merge_session),
        participants=_update(
            old.participants, new.participants, lambda item: item.id, _merge_participant
        ),
        streams=_update(old.streams, new.streams, lambda item: item.id, _merge_stream),
        session_recording_assocs=_update(
            old.session_recording_assocs,
            new.session_recording_assocs,
            lambda item: item.session_id,
            lambda before, after: replace(
                after, associate_time=after.associate_time or before.associate_time
            ),
        ),
        participant_session_assocs=_merge_members(
            old.participant_session_assocs, new.participant_session_assocs
        ),
        participant_stream_assocs=_merge_flows(
            old.participant_stream_assocs, new.participant_stream_assocs
        ),
        extensions=new.extensions or old.extensions,
    )


def participants_by_label(recording: Recording) -> dict[str, Participant]:
    """Who is heard in the stream of each SDP label, where the metadata says so.

    One who still sends goes before one who has left; among several, the first of the document.
    """
    labels = {stream.id: stream.label for stream in recording.streams if stream.label}
    known = frozenset(labels.values())
    people = {participant.id: participant for participant in recording.participants}
    heard: dict[str, Participant] = {}
    flows = recording.participant_stream_assocs
    for flow in sorted(flows, key=lambda flow: flow.disassociate_time is not None):
        participant = people.get(flow.participant_id)
        if participant is None:
            continue
        for stream_id in flow.send:
            # Some name the label itself instead of the stream's id.
            label = labels.get(stream_id, stream_id if stream_id in known else "")
            if label:
                heard.setdefault(label, participant)
    return heard


# Reading


def _tree(body: bytes) -> ET.Element:
    """The elements of a document, repaired where senders are known to be sloppy."""
    attempts: list[tuple[bytes, str | None]] = [(body, None)]
    try:
        body.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "iso-8859-1"
    # A name with an umlaut or a bare ampersand must not cost the whole recording.
    attempts += [(body, encoding), (_BARE_AMPERSAND.sub(b"&amp;", body), encoding)]
    first: Exception | None = None
    for document, forced in attempts:
        builder = _Builder(forced)
        try:
            return builder.build(document)
        except (expat.ExpatError, ValueError, LookupError) as error:
            first = first or error
    raise PeerError(f"the metadata is no XML: {first!s:.200}")


class _Builder:
    """Expat, with everything that reaches outside the document refused.

    Namespaces are not resolved: prefixes that nobody declared are common.
    """

    def __init__(self, encoding: str | None) -> None:
        self._tree = ET.TreeBuilder()
        self._depth = 0
        self._elements = 0
        self._root: ET.Element | None = None
        parser = expat.ParserCreate(encoding)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._tree.data
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse
        parser.UnparsedEntityDeclHandler = self._refuse
        self._parser = parser

    def build(self, document: bytes) -> ET.Element:
        try:
            self._parser.Parse(document, True)
        except expat.ExpatError as error:
            if error.code != _JUNK_AFTER_ROOT or self._root is None:
                raise
        if self._root is None:
            raise ValueError("no root element")
        return self._root

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise PeerError("the metadata is too deep or has too many elements", status=413)
        self._tree.start(tag, attributes)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        element = self._tree.end(tag)
        if self._depth == 0:
            self._root = element

    def _refuse(self, *_: object) -> int:
        raise PeerError("the metadata holds a document type declaration or an entity")


def _key(name: str) -> str:
    """A name for comparison: no prefix, no case, no ``_`` and ``-``."""
    return name.rpartition(":")[2].lower().replace("_", "").replace("-", "")


class _Reader:
    """Turns the elements under a root into values."""

    def __init__(self, root: ET.Element) -> None:
        self._root = root
        self._prefix = root.tag.rpartition(":")[0]
        self._declared = {
            name: uri for name, uri in root.attrib.items() if name.startswith("xmlns:")
        }

    def recording(self) -> Recording:
        mode = DataMode.COMPLETE
        groups: list[Group] = []
        sessions: list[Session] = []
        participants: list[Participant] = []
        streams: list[Stream] = []
        recorded: list[SessionRecordingAssoc] = []
        members: list[ParticipantSessionAssoc] = []
        flows: list[ParticipantStreamAssoc] = []
        extensions: list[str] = []
        for element in self._root:
            match self._own(element):
                case "datamode":
                    partial = _content(element).lower() == DataMode.PARTIAL.value
                    mode = DataMode.PARTIAL if partial else DataMode.COMPLETE
                case "group":
                    groups.append(self._group(element, len(groups)))
                case "session":
                    sessions.append(self._session(element, len(sessions)))
                case "participant":
                    participant = self._participant(element, len(participants))
                    participants.append(participant)
                    self._inline(element, participant.id, members, flows)
                case "stream":
                    streams.append(self._stream(element, len(streams)))
                case "sessionrecordingassoc":
                    recorded.append(
                        SessionRecordingAssoc(
                            _attribute(element, "sessionid", "session", "id"), *self._span(element)
                        )
                    )
                case "participantsessionassoc":
                    members.append(
                        ParticipantSessionAssoc(
                            _attribute(element, "participantid", "participant", "id"),
                            _attribute(element, "sessionid", "session"),
                            *self._span(element),
                        )
                    )
                case "participantstreamassoc":
                    participant_id = _attribute(element, "participantid", "participant", "id")
                    flows.append(self._flow(element, participant_id))
                case _:
                    extensions.append(self._raw(element))
        return Recording(
            data_mode=mode,
            groups=tuple(groups),
            sessions=tuple(sessions),
            participants=tuple(participants),
            streams=tuple(streams),
            session_recording_assocs=tuple(recorded),
            participant_session_assocs=tuple(members),
            participant_stream_assocs=tuple(flows),
            extensions=tuple(extensions),
        )

    def _group(self, element: ET.Element, index: int) -> Group:
        return Group(
            _attribute(element, "groupid", "id") or f"group-{index + 1}",
            *self._span(element),
            self._rest(element, "associatetime", "disassociatetime"),
        )

    def _session(self, element: ET.Element, index: int) -> Session:
        return Session(
            id=_attribute(element, "sessionid", "id") or f"session-{index + 1}",
            sip_session_ids=self._texts(element, "sipsessionid"),
            group_id=self._text(element, "groupref") or _attribute(element, "group", "groupid"),
            reason=self._text(element, "reason"),
            start_time=self._when(element, "starttime") or self._when(element, "associatetime"),
            stop_time=self._when(element, "stoptime") or self._when(element, "disassociatetime"),
            extensions=self._rest(
                element,
                "sipsessionid",
                "groupref",
                "reason",
                "starttime",
                "stoptime",
                "associatetime",
                "disassociatetime",
            ),
        )

    def _participant(self, element: ET.Element, index: int) -> Participant:
        names = []
        for child in self._children(element, "nameid"):
            aor = _attribute(child, "aor", "uri") or self._text(child, "aor")
            names.append(NameID(aor, self._text(child, "name")))
        # Before the RFC: the AoR, and perhaps a name, as elements of their own.
        for aor in self._texts(element, "aor"):
            names.append(NameID(aor, self._text(element, "name")))
        aor = next((name_id.aor for name_id in names if name_id.aor), "")
        return Participant(
            id=_attribute(element, "participantid", "id") or aor or f"participant-{index + 1}",
            name_ids=tuple(names),
            extensions=self._rest(
                element,
                "nameid",
                "aor",
                "name",
                "send",
                "recv",
                "associatetime",
                "disassociatetime",
            ),
        )

    def _inline(
        self,
        element: ET.Element,
        participant_id: str,
        members: list[ParticipantSessionAssoc],
        flows: list[ParticipantStreamAssoc],
    ) -> None:
        """Associations that the drafts had inside the participant."""
        session_id = _attribute(element, "session", "sessionid")
        if session_id:
            members.append(
                ParticipantSessionAssoc(participant_id, session_id, *self._span(element))
            )
        flow = self._flow(element, participant_id)
        if flow.send or flow.recv:
            flows.append(flow)

    def _stream(self, element: ET.Element, index: int) -> Stream:
        label = self._text(element, "label") or _attribute(element, "label")
        return Stream(
            id=_attribute(element, "streamid", "id") or label or f"stream-{index + 1}",
            session_id=_attribute(element, "sessionid", "session"),
            label=label,
            extensions=self._rest(element, "label"),
        )

    def _flow(self, element: ET.Element, participant_id: str) -> ParticipantStreamAssoc:
        return ParticipantStreamAssoc(
            participant_id,
            self._streams(element, "send"),
            self._streams(element, "recv"),
            *self._span(element),
        )

    def _streams(self, element: ET.Element, name: str) -> tuple[str, ...]:
        """Stream ids of ``send`` or ``recv``: as text, as ``id`` elements, or as an attribute."""
        outer = _attribute(element, "streamid", "stream")
        found: list[str] = []
        for child in self._children(element, name):
            text = _content(child)
            if text.lower() == "true" and outer:
                found.append(outer)
            elif text:
                found.append(text)
            else:
                found += self._texts(child, "id") or self._texts(child, "streamid")
                given = _attribute(child, "streamid", "id")
                found += [given] if given else []
        return tuple(found)

    def _own(self, element: ET.Element) -> str:
        """The comparable name, or empty for an element of a foreign namespace."""
        return _key(element.tag) if element.tag.rpartition(":")[0] in ("", self._prefix) else ""

    def _children(self, element: ET.Element, name: str) -> list[ET.Element]:
        return [child for child in element if self._own(child) == name]

    def _texts(self, element: ET.Element, name: str) -> tuple[str, ...]:
        contents = (_content(child) for child in self._children(element, name))
        return tuple(content for content in contents if content)

    def _text(self, element: ET.Element, name: str) -> str:
        return next(iter(self._texts(element, name)), "")

    def _when(self, element: ET.Element, name: str) -> datetime | None:
        return _parse_time(self._text(element, name))

    def _span(self, element: ET.Element) -> tuple[datetime | None, datetime | None]:
        return self._when(element, "associatetime"), self._when(element, "disassociatetime")

    def _rest(self, element: ET.Element, *known: str) -> tuple[str, ...]:
        return tuple(self._raw(child) for child in element if self._own(child) not in known)

    def _raw(self, element: ET.Element) -> str:
        """An element as XML that stands alone: with the prefixes declared at the root."""
        tail, element.tail = element.tail, None
        text = ET.tostring(element, "unicode")
        missing = {
            name: uri
            for name, uri in self._declared.items()
            if name not in element.attrib and f"{name[6:]}:" in text
        }
        if missing:
            element.attrib.update(missing)
            text = ET.tostring(element, "unicode")
        element.tail = tail
        return text


def _attribute(element: ET.Element, *names: str) -> str:
    values = {_key(name): value.strip() for name, value in element.attrib.items()}
    return next((values[name] for name in names if values.get(name)), "")


def _content(element: ET.Element) -> str:
    return (element.text or "").strip()


def _parse_time(text: str) -> datetime | None:
    """A time as senders write it, RFC 3339 or nearly; without a zone it is taken for UTC."""
    try:
        moment = datetime.fromisoformat(text.upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# Writing


def _clean(text: str) -> str:
    return _NOT_XML.sub("", text)


def _child(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    cleaned = {name: _clean(value) for name, value in attributes.items()}
    element = ET.SubElement(parent, tag, cleaned)
    if text:
        element.text = _clean(text)
    return element


def _time(parent: ET.Element, tag: str, moment: datetime | None) -> None:
    if moment is not None:
        _child(parent, tag, moment.astimezone(UTC).isoformat().replace("+00:00", "Z"))


def _times(
    element: ET.Element,
    item: Group | SessionRecordingAssoc | ParticipantSessionAssoc | ParticipantStreamAssoc,
) -> None:
    _time(element, "associate-time", item.associate_time)
    _time(element, "disassociate-time", item.disassociate_time)


def _extend(parent: ET.Element, extensions: Iterable[str]) -> None:
    for text in extensions:
        parent.append(_Builder("utf-8").build(text.encode()))


# Merging


def _update(
    old: Sequence[_Item],
    new: Sequence[_Item],
    key: Callable[[_Item], str],
    combine: Callable[[_Item, _Item], _Item],
) -> tuple[_Item, ...]:
    merged = {key(item): item for item in old}
    for item in new:
        before = merged.get(key(item))
        merged[key(item)] = item if before is None else combine(before, item)
    return tuple(merged.values())


def _merge_group(old: Group, new: Group) -> Group:
    return Group(
        new.id,
        new.associate_time or old.associate_time,
        new.disassociate_time or old.disassociate_time,
        new.extensions or old.extensions,
    )


def _merge_session(old: Session, new: Session) -> Session:
    return Session(
        id=new.id,
        sip_session_ids=new.sip_session_ids or old.sip_session_ids,
        group_id=new.group_id or old.group_id,
        reason=new.reason or old.reason,
        start_time=new.start_time or old.start_time,
        stop_time=new.stop_time or old.stop_time,
        extensions=new.extensions or old.extensions,
    )


def _merge_participant(old: Participant, new: Participant) -> Participant:
    return Participant(new.id, new.name_ids or old.name_ids, new.extensions or old.extensions)


def _merge_stream(old: Stream, new: Stream) -> Stream:
    return Stream(
        new.id,
        new.session_id or old.session_id,
        new.label or old.label,
        new.extensions or old.extensions,
    )


def _merge_members(
    old: Sequence[ParticipantSessionAssoc], new: Sequence[ParticipantSessionAssoc]
) -> tuple[ParticipantSessionAssoc, ...]:
    merged = {(item.participant_id, item.session_id): item for item in old}
    for item in new:
        # A departure often leaves the session out: it is the one that the participant was in.
        known = [key for key in merged if key[0] == item.participant_id]
        key = (item.participant_id, item.session_id)
        if not item.session_id and known:
            key = known[-1]
        before = merged.get(key)
        merged[key] = replace(
            item,
            session_id=key[1],
            associate_time=item.associate_time or (before.associate_time if before else None),
        )
    return tuple(merged.values())


def _merge_flows(
    old: Sequence[ParticipantStreamAssoc], new: Sequence[ParticipantStreamAssoc]
) -> tuple[ParticipantStreamAssoc, ...]:
    named = {item.participant_id for item in new}
    before: dict[str, ParticipantStreamAssoc] = {}
    for item in old:
        before.setdefault(item.participant_id, item)
    merged = [item for item in old if item.participant_id not in named]
    for item in new:
        earlier = before.get(item.participant_id)
        if earlier is not None:
            item = replace(
                item,
                associate_time=item.associate_time or earlier.associate_time,
                # One who leaves says so with a time alone: keep what it was heard in.
                send=item.send or (earlier.send if item.disassociate_time else ()),
                recv=item.recv or (earlier.recv if item.disassociate_time else ()),
            )
        merged.append(item)
    return tuple(merged)
