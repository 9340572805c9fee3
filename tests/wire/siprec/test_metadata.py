"""Recording metadata: hostile XML, partial updates, round trips."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from callreel.base.errors import PeerError
from callreel.wire.siprec.metadata import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    MAX_METADATA_BYTES,
    DataMode,
    Group,
    NameID,
    Participant,
    ParticipantSessionAssoc,
    ParticipantStreamAssoc,
    Recording,
    Session,
    SessionRecordingAssoc,
    Stream,
    merge,
    parse,
    participants_by_label,
    serialize,
)

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


def refused(error: PeerError) -> None:
    """With a status that says what was wrong."""
    assert error.status in (400, 413)


def wrap(inner: str) -> bytes:
    return f"<recording xmlns='urn:ietf:params:xml:ns:recording:1'>{inner}</recording>".encode()


LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE recording [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>
<recording><datamode>&c;</datamode></recording>"""


@pytest.mark.parametrize(
    "body",
    [
        LAUGHS.encode(),
        LAUGHS.encode("utf-16"),
        b'<!DOCTYPE recording SYSTEM "file:///etc/passwd"><recording/>',
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "http://192.0.2.1/">]><recording>&x;</recording>',
        b'<!DOCTYPE r [<!ENTITY % p SYSTEM "http://192.0.2.1/"> %p;]><recording/>',
        b"<!DOCTYPE recording><recording/>",
    ],
)
def test_document_types_and_entities_are_refused(body: bytes) -> None:
    with pytest.raises(PeerError, match="document type"):
        parse(body)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"v=0\r\n", 400),
        (b"<html/>", 400),
        (b"<recording>", 400),
        (b"<recording>&undefined;</recording>", 400),
        (b'<?xml version="1.0" encoding="klingon"?><recording>\xff', 400),
        (b"<recording" + b" " * MAX_METADATA_BYTES + b"/>", 413),
        (wrap("<x>" * MAX_DEPTH + "</x>" * MAX_DEPTH), 413),
        (wrap("<x/>" * MAX_ELEMENTS), 413),
    ],
)
def test_what_is_no_metadata_or_too_much_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(PeerError) as caught:
        parse(body)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b'<?xml version="1.0"?><recording>{}</recording>', "utf-8"),
        (b'<?xml version="1.0"?><recording>{}</recording>', "iso-8859-1"),
        (b'<?xml version="1.0" encoding="UTF-8"?><recording>{}</recording>', "iso-8859-1"),
        (b'<?xml version="1.0" encoding="iso-8859-1"?><recording>{}</recording>', "iso-8859-1"),
        (b"\xef\xbb\xbf<recording>{}</recording>", "utf-8"),
        (b'<?xml version="1.0" encoding="klingon"?><recording>{}</recording>', "utf-8"),
        (b'<?xml version="1.0" encoding="klingon"?><recording>{}</recording>', "iso-8859-1"),
        (b"\r\n<recording>{}</recording>\r\n\x00", "utf-8"),
        (b"<recording>{}</recording>\r\n--boundary--", "utf-8"),
    ],
)
def test_sloppy_documents_are_read(body: bytes, encoding: str) -> None:
    inner = "<participant><nameID aor='sip:a@b'><name>Jürgen</name></nameID></participant>"
    recording = parse(body.replace(b"{}", inner.encode(encoding)))
    assert recording.participants[0].name == "Jürgen"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read(encoding: str) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    document = '<recording><participant id="p" aor="sip:ann@x"/></recording>'
    found = parse(f"{mark}{document}".encode(encoding))
    assert [one.id for one in found.participants] == ["p"]


def test_bare_ampersands_and_undeclared_prefixes_are_read() -> None:
    recording = parse(
        wrap(
            "<participant><nameID aor='sip:a@b;x=1&y=2'><name>A & B &lt;</name></nameID>"
            "<apkt:ucid>1</apkt:ucid></participant>"
        )
    )
    participant = recording.participants[0]
    assert (participant.aor, participant.name) == ("sip:a@b;x=1&y=2", "A & B <")
    assert participant.extensions == ("<apkt:ucid>1</apkt:ucid>",)


def test_cdata_comments_and_instructions_do_no_harm() -> None:
    recording = parse(
        wrap(
            "<!-- c --><?pi x?><participant><nameID aor='sip:a@b'>"
            "<name><![CDATA[<A>]]></name></nameID></participant>"
        )
    )
    assert recording.participants[0].name == "<A>"


def test_missing_ids_are_made_up_the_same_way_every_time() -> None:
    recording = parse(
        wrap(
            "<session/><participant/><participant><nameID aor='sip:a@b'/></participant>"
            "<stream/><stream><label>7</label></stream><group/>"
        )
    )
    assert [item.id for item in recording.participants] == ["participant-1", "sip:a@b"]
    assert [item.id for item in recording.streams] == ["stream-1", "7"]
    assert (recording.sessions[0].id, recording.groups[0].id) == ("session-1", "group-1")


def two(mode: DataMode = DataMode.COMPLETE) -> Recording:
    return Recording(
        data_mode=mode,
        sessions=(Session("s", ("call-id",), start_time=NOON),),
        participants=(
            Participant("p1", (NameID("sip:a@b", "Ann"),)),
            Participant("p2", (NameID("sip:c@d"),)),
        ),
        streams=(Stream("m1", "s", "1"), Stream("m2", "s", "2")),
        participant_session_assocs=(
            ParticipantSessionAssoc("p1", "s", NOON),
            ParticipantSessionAssoc("p2", "s", NOON),
        ),
        participant_stream_assocs=(
            ParticipantStreamAssoc("p1", ("m1",), ("m2",), NOON),
            ParticipantStreamAssoc("p2", ("m2",), ("m1",), NOON),
        ),
    )


def heard(recording: Recording) -> dict[str, str]:
    return {label: who.id for label, who in participants_by_label(recording).items()}


def test_who_is_heard() -> None:
    assert heard(two()) == {"1": "p1", "2": "p2"}


def test_a_complete_document_replaces_everything() -> None:
    new = Recording(participants=(Participant("p9"),))
    assert merge(two(), new) is new
    assert merge(None, new) is new


def test_a_partial_document_changes_what_it_names() -> None:
    changed = parse(
        wrap(
            "<datamode>partial</datamode><session session_id='s'><reason>moved</reason></session>"
            "<participant participant_id='p1'/>"
            "<participant participant_id='p3'><nameID aor='sip:e@f'/></participant>"
            "<stream stream_id='m3' session_id='s'><label>3</label></stream>"
            "<participantstreamassoc participant_id='p3'><send>m3</send></participantstreamassoc>"
        )
    )
    merged = merge(two(), changed)
    assert merged.data_mode is DataMode.COMPLETE
    assert merged.sessions == (Session("s", ("call-id",), "", "moved", NOON),)
    assert merged.participants[0].name == "Ann"
    assert heard(merged) == {"1": "p1", "2": "p2", "3": "p3"}


def test_hold_takes_a_stream_away() -> None:
    held = parse(
        wrap(
            "<datamode>partial</datamode><participantstreamassoc participant_id='p1'>"
            "<recv>m2</recv></participantstreamassoc>"
        )
    )
    merged = merge(two(), held)
    assert heard(merged) == {"2": "p2"}
    assert merged.participant_stream_assocs[-1].associate_time == NOON


def test_one_who_left_is_still_the_one_who_was_heard_until_another_takes_the_stream() -> None:
    left = parse(
        wrap(
            "<datamode>partial</datamode><participantstreamassoc participant_id='p1'>"
            "<disassociate-time>2026-05-06T12:05:00Z</disassociate-time></participantstreamassoc>"
            "<participantsessionassoc participant_id='p1'>"
            "<disassociate-time>2026-05-06T12:05:00Z</disassociate-time></participantsessionassoc>"
        )
    )
    after = merge(two(), left)
    assert heard(after) == {"1": "p1", "2": "p2"}
    end = NOON + timedelta(minutes=5)
    assert after.participant_session_assocs[0] == ParticipantSessionAssoc("p1", "s", NOON, end)
    successor = parse(
        wrap(
            "<datamode>partial</datamode><participant participant_id='p3'/>"
            "<participantstreamassoc participant_id='p3'><send>m1</send></participantstreamassoc>"
        )
    )
    assert heard(merge(after, successor)) == {"1": "p3", "2": "p2"}


def test_written_for_people_and_other_recorders() -> None:
    text = serialize(two()).decode()
    assert text.startswith(
        '<?xml version="1.0" encoding="UTF-8"?>\n<recording xmlns="urn:ietf:params'
    )
    assert '<participant participant_id="p1"><nameID aor="sip:a@b"><name>Ann</name>' in text
    assert '<stream stream_id="m1" session_id="s"><label>1</label></stream>' in text
    assert "<associate-time>2026-05-06T12:00:00Z</associate-time>" in text


def test_markup_and_control_characters_cannot_break_out() -> None:
    evil = Participant("p", (NameID('sip:a@b"/><x>', "</name>\x00\x0b&"),))
    (again,) = parse(serialize(Recording(participants=(evil,)))).participants
    assert again.name_ids == (NameID('sip:a@b"/><x>', "</name>&"),)


WORDS = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co", "Z")), min_size=1, max_size=12
)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
EXTENSIONS = st.lists(
    st.sampled_from(["<x>1</x>", '<a:b xmlns:a="urn:a"><a:c d="e" /></a:b>', "<y />"]), max_size=2
).map(tuple)
OPTIONAL = st.just("") | WORDS
RECORDINGS = st.builds(
    Recording,
    st.sampled_from(DataMode),
    st.lists(st.builds(Group, WORDS, TIMES, TIMES, EXTENSIONS), max_size=2).map(tuple),
    st.lists(
        st.builds(
            Session,
            WORDS,
            st.lists(WORDS, max_size=2).map(tuple),
            OPTIONAL,
            OPTIONAL,
            TIMES,
            TIMES,
            EXTENSIONS,
        ),
        max_size=2,
    ).map(tuple),
    st.lists(
        st.builds(
            Participant,
            WORDS,
            st.lists(st.builds(NameID, OPTIONAL, OPTIONAL), max_size=2).map(tuple),
            EXTENSIONS,
        ),
        max_size=3,
    ).map(tuple),
    st.lists(st.builds(Stream, WORDS, OPTIONAL, OPTIONAL, EXTENSIONS), max_size=3).map(tuple),
    st.lists(st.builds(SessionRecordingAssoc, WORDS, TIMES, TIMES), max_size=2).map(tuple),
    st.lists(st.builds(ParticipantSessionAssoc, WORDS, OPTIONAL, TIMES, TIMES), max_size=2).map(
        tuple
    ),
    st.lists(
        st.builds(
            ParticipantStreamAssoc,
            WORDS,
            st.lists(WORDS, max_size=2).map(tuple),
            st.lists(WORDS, max_size=2).map(tuple),
            TIMES,
            TIMES,
        ),
        max_size=2,
    ).map(tuple),
    EXTENSIONS,
)


@given(RECORDINGS)
def test_round_trip(recording: Recording) -> None:
    assert parse(serialize(recording)) == recording


@given(RECORDINGS, RECORDINGS)
def test_merging_twice_is_merging_once(old: Recording, new: Recording) -> None:
    once = merge(old, new)
    assert participants_by_label(merge(once, new)) == participants_by_label(once)


TOKENS = st.sampled_from(
    ["<", ">", "/", "recording", "participant", "&", " ", "&amp;", "<!--", "]]>", "<![CDATA["]
) | st.sampled_from(
    ["<recording>", "</recording>", "<send>", "</send>", "<!DOCTYPE", "xmlns:a='b'", "a:", "id='1'"]
)


@given(st.binary(max_size=200) | st.lists(TOKENS, max_size=40).map(lambda t: "".join(t).encode()))
def test_arbitrary_bytes_are_read_or_refused(body: bytes) -> None:
    for document in (body, b"<recording>" + body + b"</recording>"):
        try:
            recording = parse(document)
        except PeerError as error:
            refused(error)
        else:
            participants_by_label(recording)
            assert parse(serialize(recording)) == recording
