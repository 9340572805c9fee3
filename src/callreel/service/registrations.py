"""Registrations survive the process: kept before they are confirmed to the phone."""

from __future__ import annotations

from collections.abc import Mapping

from callreel.store import registrations
from callreel.store.database import Database


class RegistrationService:
    """What signalling keeps of registered users."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, states: Mapping[str, str | None]) -> None:
        """Keep what is known of each user, in one transaction; None forgets the user."""
        async with self._database.begin() as connection:
            for user, state in states.items():
                if state is None:
                    await registrations.remove(connection, user)
                else:
                    await registrations.save(connection, user, state)

    async def every(self) -> Mapping[str, str]:
        """What is kept, by user."""
        async with self._database.read() as connection:
            return await registrations.every(connection)
