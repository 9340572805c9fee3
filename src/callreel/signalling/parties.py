"""Who is on a recorded call, and in which stream each is heard.

From the SIPREC metadata; where it says nothing, from the SIP headers and the order of the m-lines
(design, *Signalling*: be tolerant).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callreel.calls.model import CallDirection, Participant, Track
from callreel.wire.siprec import metadata as siprec

_URI = re.compile(
    r"(?P<scheme>sips?|tel):(?P<rest>[^>\s]*)", re.IGNORECASE
)  # as it stands in an AoR or a From
_NUMBER = re.compile(r"\+?[0-9*#().\-]{2,32}")


@dataclass(frozen=True, slots=True)
class Heard:
    """A stream and who is heard in it."""

    number: int
    """Index of its m-line."""
    label: str
    """SDP label, or empty."""


@dataclass(frozen=True, slots=True)
class Parties:
    """What a session says of its parties."""

    from_: str
    """The caller, as the API shows it."""
    to: str
    """The callee, as the API shows it."""
    caller_name: str | None
    """Display name of the caller."""
    direction: CallDirection
    """Who called whom, seen from our side."""
    participants: tuple[Participant, ...]
    """The parties, the caller first."""
    tracks: Mapping[int, Track]
    """By m-line: the track it is mixed into."""
    heard: Mapping[int, str]
    """By m-line: the AoR that is heard in it, or empty."""


def shown_address(uri: str) -> str:
    """A URI as the API shows it: the number where it is one, else the URI without parameters.

    >>> shown_address("sip:+15550100@sbc.example;user=phone")
    '+15550100'
    >>> shown_address("sip:alice@example.com:5070;transport=tcp")
    'sip:alice@example.com'
    """
    uri = one_line(uri)
    match = _URI.search(uri)
    if match is None:
        return uri[:256]
    rest = match["rest"].partition(";")[0].partition("?")[0]
    user, at, host = rest.rpartition("@")
    if match["scheme"].lower() == "tel" or (at and _NUMBER.fullmatch(user)):
        return re.sub(r"[().\-]", "", user or rest)[:256]
    host = re.sub(r":\d+$", "", host)
    return f"{match['scheme'].lower()}:{user}{at}{host}"[:256]


def is_ours(aor: str, our_side: str | None) -> bool:
    """Whether an AoR is of our side: equal to it, of its domain, or its number."""
    if not our_side or not aor:
        return False
    shown = shown_address(aor).lower()
    wanted = shown_address(our_side).lower()
    return shown == wanted or shown.endswith("@" + our_side.lower().lstrip("@"))


def find_parties(
    streams: Sequence[Heard],
    metadata: siprec.Recording | None,
    *,
    sip_from: str,
    sip_to: str,
    our_side: str | None,
) -> Parties:
    """Put metadata, headers and m-lines together.

    The first stream's party is the caller and its track ``inbound``, unless ``our_side`` names
    who is ours: then the other side is ``inbound``.
    """
    by_label = {} if metadata is None else siprec.participants_by_label(metadata)
    people: dict[str, siprec.Participant] = {}
    heard: dict[int, str] = {}
    for stream in streams:
        person = by_label.get(stream.label)
        heard[stream.number] = "" if person is None else person.id
        if person is not None:
            people.setdefault(person.id, person)
    if metadata is not None:
        for person in metadata.participants:
            people.setdefault(person.id, person)
    tracks = _tracks(streams, heard, people, our_side)
    in_order = list(people.values())
    caller = _aor(in_order[0]) if in_order else ""
    callee = next((_aor(one) for one in in_order[1:] if _aor(one)), "")
    caller_is_ours = is_ours(caller or sip_from, our_side)
    track_of = {id_: tracks[number] for number, id_ in reversed(heard.items()) if id_}
    return Parties(
        from_=shown_address(caller or sip_from),
        to=shown_address(callee or sip_to),
        caller_name=(_name(in_order[0]) if in_order else "") or None,
        direction=CallDirection.OUTBOUND_DIAL if caller_is_ours else CallDirection.INBOUND,
        participants=tuple(
            Participant(_aor(one), _name(one), track_of.get(one.id)) for one in in_order[:32]
        ),
        tracks=tracks,
        heard={number: _aor(people[id_]) if id_ else "" for number, id_ in heard.items()},
    )


def _tracks(
    streams: Sequence[Heard],
    heard: Mapping[int, str],
    people: Mapping[str, siprec.Participant],
    our_side: str | None,
) -> dict[int, Track]:
    named = [one for one in people.values() if is_ours(_aor(one), our_side)]
    tracks: dict[int, Track] = {}
    first = heard[streams[0].number] if streams else ""
    for index, stream in enumerate(streams):
        person = heard[stream.number]
        if named and person:
            ours = is_ours(_aor(people[person]), our_side)
            tracks[stream.number] = Track.OUTBOUND if ours else Track.INBOUND
        elif index == 0 or (person and person == first):
            tracks[stream.number] = Track.INBOUND
        else:
            tracks[stream.number] = Track.OUTBOUND
    return tracks


def _aor(person: siprec.Participant) -> str:
    return one_line(next((one.aor for one in person.name_ids if one.aor), ""))[:512]


def _name(person: siprec.Participant) -> str:
    return one_line(next((one.name for one in person.name_ids if one.name), ""))[:256]


def one_line(text: str) -> str:
    """Without line breaks and the like: names end up in logs, one event a line."""
    return "".join(char if char.isprintable() else " " for char in text).strip()
