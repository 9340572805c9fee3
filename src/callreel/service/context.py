"""What every use case needs at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from callreel.base.clock import Clock
from callreel.base.ids import IdSource
from callreel.calls.media import MediaPlane
from callreel.service.room import Backlog, Room
from callreel.store.database import Database


@dataclass(frozen=True, slots=True)
class Context:
    """The database and the outside world, handed to each service."""

    database: Database
    """Where state lives."""
    media: MediaPlane
    """The media workers."""
    clock: Clock
    """The time."""
    ids: IdSource
    """New identifiers and secrets."""
    public_url: str
    """Absolute URL at which clients reach this server, without a slash at the end."""
    delivery_owed: Callable[[], None]
    """To be called after a transaction that owes a webhook."""
    room: Room = field(default_factory=Room)
    """How full the disk is."""
    backlog: Backlog = field(default_factory=Backlog)
    """How many webhooks are owed."""
