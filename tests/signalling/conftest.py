"""Agents for the tests, closed after each; a name server; certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.signalling.agents import Agents
from tests.signalling.certificates import Authority
from tests.signalling.nameserver import NameServer


@pytest.fixture
async def agents() -> AsyncIterator[Agents]:
    made = Agents()
    yield made
    for agent in made.all:
        await agent.close()


@pytest.fixture
async def names() -> AsyncIterator[NameServer]:
    server = await NameServer.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder: Path = tmp_path_factory.mktemp("certificates")
    return Authority(folder)
