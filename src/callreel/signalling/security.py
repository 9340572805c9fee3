"""Whether a leg is SRTP, and with which keys (SDES, RFC 4568).

Which key holds in which direction is told by the last descriptions of both sides, and by nothing
else: of the lines with the tag that both have, each side's own says what it sends with.

Where both legs of a bridged call are SRTP, what one offers is offered to the other as it came, and
the answer's key comes back: then both legs share their keys, and the media worker passes packets
as they are. Not so in the middle of a call: packets that are protected with a key that a new
party is to be given have rolled over before it came, and that it cannot know (RFC 4568 §6.4.1).
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from callreel.calls.media import Srtp
from callreel.signalling.refusal import Refused
from callreel.wire import sdp
from callreel.wire.sdes import Crypto, Key, Suite, is_secure, usable
from callreel.wire.sip.flow import Flow, Transport

log = logging.getLogger(__name__)

OFFERED = (Suite.AES_CM_128_HMAC_SHA1_80, Suite.AEAD_AES_256_GCM, Suite.AEAD_AES_128_GCM)
"""What we offer of our own, in this order: what everybody has comes first."""

NewKey = Callable[[Suite], Key]
"""Makes a key that nobody has had."""


class SrtpPolicy(enum.Enum):
    """What a peer, trunk or user is to speak."""

    NEVER = "never"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(slots=True)
class KeyExchange:
    """How keys may travel: RFC 4568 §7 wants the signalling that they are in to be protected."""

    over_clear: bool = True
    """Whether over UDP and TCP too. May be changed at any time."""
    _told: set[str] = field(default_factory=set)

    def policy(self, wanted: SrtpPolicy, flow: Flow) -> SrtpPolicy:
        """What holds for somebody at the other end of a flow. Raises ``Refused`` (488)."""
        if self.over_clear or flow.transport is Transport.TLS:
            return wanted
        if wanted is SrtpPolicy.REQUIRED:
            raise Refused(488, "SRTP is required, and its keys are exchanged over TLS alone")
        return SrtpPolicy.NEVER

    def note(self, who: str, flow: Flow | None) -> None:
        """Somebody's keys travel over this flow: say so where others can read them."""
        if flow is None or flow.transport is Transport.TLS or who in self._told:
            return
        self._told.add(who)
        log.warning(
            "%s: keys of SRTP over %s can be read on the way; use TLS for SIP",
            who,
            flow.transport.value,
        )


def refusal_of(media: sdp.Media, policy: SrtpPolicy) -> str | None:
    """Why an audio stream cannot be taken for what protects it; None if it can."""
    protocol = media.protocol.upper()
    if is_secure(protocol):
        if policy is SrtpPolicy.NEVER:
            return f"{media.protocol} is not taken"
        if not usable(media.attributes):
            return f"{media.protocol} without a crypto attribute that can be used"
        return None
    if protocol not in ("RTP/AVP", "RTP/AVPF"):
        return f"{media.kind} over {media.protocol}"
    return "SRTP is required" if policy is SrtpPolicy.REQUIRED else None


def lines_of(media: sdp.Media) -> tuple[Crypto, ...]:
    """The usable lines of a stream, none where it is plain."""
    return usable(media.attributes) if is_secure(media.protocol) else ()


def agreed(ours: Sequence[Crypto], theirs: Sequence[Crypto]) -> tuple[Crypto, Crypto] | None:
    """What holds between two sides: our line, and theirs."""
    by_tag = {one.tag: one for one in theirs}
    for mine in ours:
        other = by_tag.get(mine.tag)
        if other is not None and other.key.suite is mine.key.suite:
            return mine, other
    return None


def keys_of(ours: sdp.Media | None, theirs: sdp.Media) -> Srtp | None:
    """The keys of a stream, by both sides' last descriptions of it; None where it is plain, or
    where we have not said anything yet.

    Raises ``Refused`` (488) where these do not fit together.
    """
    if ours is None or not ours.port:
        return None
    if is_secure(ours.protocol) != is_secure(theirs.protocol):
        raise Refused(488, f"{theirs.protocol} is no answer to {ours.protocol}")
    if not is_secure(theirs.protocol):
        return None
    pair = agreed(lines_of(ours), lines_of(theirs))
    if pair is None:
        raise Refused(488, "no crypto attribute in common")
    return Srtp(receive=pair[1].key, send=pair[0].key)


def first_lines(passed: Sequence[Crypto], new_key: NewKey) -> tuple[Crypto, ...]:
    """What a leg that is to be SRTP is offered at first: what the other leg offered, and what else
    we can do."""
    suites = {one.key.suite for one in passed}
    tags = {one.tag for one in passed}
    free = (tag for tag in range(1, 1000) if tag not in tags)
    ours = [Crypto(next(free), new_key(one)) for one in OFFERED if one not in suites]
    return (*passed, *ours)


def later_lines(
    ours: sdp.Media,
    theirs: sdp.Media,
    across: Srtp | None,
    passed: Sequence[Crypto],
    new_key: NewKey,
) -> tuple[Crypto, ...]:
    """What a leg is offered in the middle of a call.

    ``ours`` and ``theirs`` are what it was told and what it said last, ``across`` the keys of the
    other leg until now, ``passed`` what that offers. Keys that are passed through go on being so;
    else ours stay as they are.
    """
    if not is_secure(ours.protocol):
        return ()
    pair = agreed(lines_of(ours), lines_of(theirs))
    if pair is None:
        return first_lines((), new_key)
    if passed and across is not None and pair[0].key == across.receive:
        return tuple(passed)
    return (pair[0],)


def lines_of_our_own(
    ours: sdp.Media, theirs: sdp.Media, before: Sequence[Key], new_key: NewKey
) -> tuple[Crypto, ...]:
    """What a leg is offered when somebody else speaks to it from now on: a key of ours.

    ``before`` are those that hold on it until now: one of them goes on. One that was passed on to
    it does not: whoever made it is gone, and with it what it has been used for.
    """
    if not is_secure(ours.protocol):
        return ()
    pair = agreed(lines_of(ours), lines_of(theirs))
    if pair is None:
        return first_lines((), new_key)
    if pair[0].key in before:
        return (pair[0],)
    return (Crypto(pair[0].tag, new_key(pair[0].key.suite)),)


def answer_line(
    offered: sdp.Media,
    onward: sdp.Media | None,
    answered: sdp.Media | None,
    *,
    before: Sequence[Key],
    new_key: NewKey,
) -> Crypto | None:
    """What a leg's offer is answered with; None where it is plain.

    ``onward`` and ``answered`` are what the other leg was offered for it, and answered: where that
    took a line of the offer as it came, its key is passed back. ``before`` are keys of our own that
    hold on this leg until now: one of them goes on if it can.
    """
    theirs = lines_of(offered)
    if not theirs:
        return None
    if onward is not None and answered is not None:
        pair = agreed(lines_of(onward), lines_of(answered))
        if pair is not None and pair[0] in theirs:
            return Crypto(pair[0].tag, pair[1].key, pair[1].lifetime)
    chosen = theirs[0]
    suite = chosen.key.suite
    kept = next((one for one in before if one.suite is suite), None)
    return Crypto(chosen.tag, kept or new_key(suite))
