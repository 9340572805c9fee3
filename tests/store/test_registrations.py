"""What is kept of registered users, on both engines."""

from __future__ import annotations

from callreel.service.registrations import RegistrationService
from callreel.store.database import Database


async def test_bindings_are_kept_changed_and_forgotten(database: Database) -> None:
    service = RegistrationService(database)
    assert await service.every() == {}
    await service.keep({"alice": "one", "bob": "two"})
    await service.keep({"alice": "three", "bob": None, "nobody": None})
    assert await service.every() == {"alice": "three"}
