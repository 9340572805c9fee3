"""SRTP of a stream in a media worker: the contexts of its keys, and crossing from leg to leg.

Where two legs share keys, packets pass as they are, and none of this is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from callreel.calls.media import Srtp, Stream
from callreel.capture.protocol import key_from_json, key_to_json
from callreel.wire.sdes import Key
from callreel.wire.srtp import Protector, Refusal, Unprotector

MAX_KEYS = 4
"""Keys of one peer that are remembered: what is on its way when it changes them still counts."""


@dataclass(slots=True)
class Protection:
    """What a stream receives and sends with. Empty while it is plain RTP."""

    receivers: list[Unprotector] = field(default_factory=list)
    """Of the peer's keys, the newest first."""
    sender: Protector | None = None
    """Of ours."""

    def rekey(self, srtp: Srtp | None) -> None:
        """From now on these keys hold. A context goes on where its key does."""
        if srtp is None:
            self.receivers, self.sender = [], None
            return
        known = [one for one in self.receivers if one.key == srtp.receive]
        others = [one for one in self.receivers if one.key != srtp.receive]
        self.receivers = [*(known or [Unprotector(srtp.receive)]), *others][:MAX_KEYS]
        if self.sender is None or self.sender.key != srtp.send:
            self.sender = Protector(srtp.send)

    def to_json(self) -> dict[str, Any]:
        """What a successor needs, besides the keys that hold now: former keys, and how far our
        sending got. Where the peer's got is found out again."""
        sender = self.sender
        if sender is None:
            return {}
        sender.moved = False
        return {
            "former": [key_to_json(one.key) for one in self.receivers[1:]],
            "progress": {str(ssrc): halves for ssrc, halves in sender.progress.items()},
            "rtcp": sender.rtcp_index,
        }

    @classmethod
    def from_json(cls, srtp: Srtp | None, value: Mapping[str, Any]) -> Protection:
        """Reads what ``to_json`` made. Raises ``ValueError``, ``TypeError`` or ``KeyError``."""
        made = cls()
        made.rekey(srtp)
        if made.sender is not None and value:
            made.receivers += [Unprotector(key_from_json(one)) for one in value["former"]]
            made.sender = Protector(
                made.sender.key,
                {int(ssrc): int(halves) for ssrc, halves in value["progress"].items()},
                int(value["rtcp"]),
            )
        return made


@dataclass(frozen=True, slots=True)
class Crossing:
    """From one leg to another that does not share its keys: undone, done again, or either."""

    receivers: list[Unprotector]
    """Of the leg that it comes from; none if that is plain."""
    sender: Protector | None
    """Of the leg that it goes to; None if that is plain."""

    def rtp(self, data: bytes) -> bytes | Refusal | None:
        """A packet as it goes on; why it is not taken; None if it cannot be sent."""
        taken: bytes | Refusal = data
        for receiver in self.receivers:
            taken = receiver.rtp(data)
            if taken is not Refusal.UNAUTHENTIC:
                break
        if isinstance(taken, Refusal) or self.sender is None:
            return taken
        return self.sender.rtp(taken)

    def rtcp(self, data: bytes) -> bytes | Refusal | None:
        """The same for RTCP."""
        taken: bytes | Refusal = data
        for receiver in self.receivers:
            taken = receiver.rtcp(data)
            if taken is not Refusal.UNAUTHENTIC:
                break
        if isinstance(taken, Refusal) or self.sender is None:
            return taken
        return self.sender.rtcp(taken)


def crosses(stream: Stream, across: Stream) -> bool:
    """Whether what comes from one must be undone or done again for the other."""
    if stream.srtp is None or across.srtp is None:
        return stream.srtp is not across.srtp
    received: Key = stream.srtp.receive
    return received != across.srtp.send
