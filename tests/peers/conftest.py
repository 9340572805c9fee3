"""A server for the peers of one module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from tests.journeys.api import Api
from tests.peers.house import Guests, House, guests_of, open_house
from tests.peers.sipp import Legs, need_sipp

TWILIO_SID = "AC" + "12" * 16


@pytest.fixture(scope="module")
def sipp() -> str:
    return need_sipp()


@pytest.fixture(scope="module")
def server(sipp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    folder: Path = tmp_path_factory.mktemp("server")
    with OwnServer(folder, TWILIO_SID, "a-token-of-tests") as server:
        yield server


@pytest.fixture
def api(server: OwnServer) -> Iterator[Api]:
    api = Api(server)
    yield api
    api.http.close()


@pytest.fixture
async def legs() -> AsyncIterator[Legs]:
    legs = Legs(440, 880)
    yield legs
    await legs.close()


@pytest.fixture(scope="module")
def house(sipp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with open_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture
async def guests(house: House, tmp_path: Path) -> AsyncIterator[Guests]:
    async with guests_of(house, tmp_path) as guests:
        yield guests
