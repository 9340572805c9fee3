"""One suite, two engines."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from callreel.store.database import Database
from callreel.store.seal import Seal

POSTGRES = "CALLREEL_TEST_POSTGRES_URL"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A fresh database, migrated."""
    seal = Seal(b"k" * 32)
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'test.db'}", seal)
        database.migrate()
        yield database
        await database.close()
        return
    if POSTGRES not in os.environ:
        pytest.skip(f"{POSTGRES} names no PostgreSQL to test with")
    url = make_url(os.environ[POSTGRES]).set(drivername="postgresql+psycopg")
    name = f"callreel_{secrets.token_hex(8)}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    own = url.set(drivername="postgresql", database=name)
    database = Database(own.render_as_string(hide_password=False), seal)
    database.migrate()
    yield database
    await database.close()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()
