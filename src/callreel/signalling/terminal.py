"""A call that ends here as a value that changes: its one leg, whom it is connected with, and what
is kept of it for a restart."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from callreel.base.errors import PeerError
from callreel.signalling.bridge import Source
from callreel.signalling.leg import Leg
from callreel.signalling.own_description import narrowed
from callreel.signalling.user_agent import IncomingRequest

KIND = "terminal"
"""Says of a stored session that it is one of these."""


@dataclass(slots=True, eq=False)
class Terminal:
    """A call whose media is played and heard here."""

    account_id: str
    """Whose it is."""
    leg: Leg
    """The party. While it is being dialled it has no dialog."""
    incoming: IncomingRequest | None = None
    """The INVITE of a call that came in, of this process."""
    source: Source | None = None
    """Who it came from."""
    answered: bool = False
    """Whether it was answered, by whichever side."""
    other: Terminal | None = None
    """Whom it is connected with."""
    search: asyncio.Task[Leg] | None = None
    """The search for somebody who answers, while it is dialled."""
    decided: asyncio.Future[PeerError | None] | None = None
    """What becomes of a call that came in: None once it was answered, else its refusal."""
    reason: str = ""
    """Why it is to end, where it was ended while it was dialled."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One step of setting up or changing at a time."""
    ended: bool = False
    """Whether it is over: nothing more is to be done for it."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its row says so too."""

    @property
    def call_id(self) -> str:
        """Its call, 32 hex digits."""
        return self.leg.call_id

    def to_json(self) -> str:
        """All that a new process needs to go on with it: kept with its call."""
        state = {"kind": KIND, "account": self.account_id, "leg": self.leg.to_dict()}
        return json.dumps(state)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Terminal:
        """What :meth:`to_json` wrote, parsed.

        Raises ``PeerError``, ``ValueError``, ``KeyError`` or ``TypeError`` for anything else.
        """
        leg = Leg.from_dict(state["leg"])
        if leg.audio is not None and leg.our_media is not None:
            leg.audio = narrowed(leg.audio, leg.our_media.codecs)
        return cls(state["account"], leg, answered=True)
