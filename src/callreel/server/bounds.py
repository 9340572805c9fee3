"""What outside parties can fill, how much of it there is, and how much there may be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from starlette.types import ASGIApp

from callreel.calls.model import DeliveryState
from callreel.server.http import Bounded
from callreel.service.room import Backlog
from callreel.signalling.user_agent import UserAgent
from callreel.store import deliveries
from callreel.store.database import Database

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0


class Bounds:
    """HTTP requests, SIP transactions and connections, and the outbox."""

    def __init__(self, agent: UserAgent, backlog: Backlog) -> None:
        self._agent = agent
        self._backlog = backlog
        self._http: Bounded | None = None

    def over(self, app: ASGIApp, most: int) -> ASGIApp:
        """The application, with so many requests at once."""
        self._http = Bounded(app, most)
        return self._http

    @property
    def most_requests(self) -> int:
        """HTTP requests at once; may be changed at any time."""
        return 0 if self._http is None else self._http.most

    @most_requests.setter
    def most_requests(self, most: int) -> None:
        if self._http is not None:
            self._http.most = most

    def used(self) -> Mapping[str, float]:
        """How much there is of each now, and of what was refused so far."""
        http = self._http
        return {
            "http_requests": 0 if http is None else http.under_way,
            "http_requests_refused": 0 if http is None else http.refused,
            "sip_transactions": len(self._agent.endpoint),
            "sip_connections": self._agent.connections,
            "webhooks_owed": self._backlog.owed,
        }

    async def watch(self, database: Database) -> None:
        """Keep count of the webhooks that are owed, until cancelled."""
        was_full = False
        while True:
            try:
                async with database.read() as connection:
                    found = await deliveries.counts(connection)
                self._backlog.owed = found.get(DeliveryState.PENDING, 0)
            except Exception as error:
                log.error("the webhooks owed cannot be counted now: %s", error)
            if self._backlog.is_full and not was_full:
                log.error("%d webhooks are owed: no more are taken on", self._backlog.owed)
            was_full = self._backlog.is_full
            await asyncio.sleep(_LOOK_EVERY_S)
