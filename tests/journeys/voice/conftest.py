"""One server and one program for all of these; phones of their own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from tests.journeys.api import Api
from tests.journeys.voice.program import Fields, Program
from tests.journeys.voice.studio import TOKEN, TWILIO, Studio


@pytest.fixture(scope="session")
def program() -> Iterator[Program]:
    with Program(TOKEN) as program:

        def dialled(fields: Fields) -> object:
            page = program.pages[f"/numbers/{fields['To']}"]
            return page(fields) if callable(page) else page

        program.pages["/dialled"] = dialled
        yield program


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, program: Program) -> Iterator[OwnServer]:
    folder = tmp_path_factory.mktemp("voice")
    config = folder / "callreel.toml"
    config.write_text(
        f"""
[[accounts]]
voice_url = "{program.url("/dialled")}"
voice_method = "GET"
voice_fallback_url = "{program.url("/fallback")}"
status_callback = "{program.url("/inbound")}"
"""
    )
    with OwnServer(folder, TWILIO, TOKEN, ("--config", str(config))) as server:
        yield server
    assert "Traceback" not in server.log, server.log


@pytest.fixture
async def studio(server: OwnServer, program: Program, tmp_path: Path) -> AsyncIterator[Studio]:
    api = Api(server)
    program.asked.clear()
    studio = Studio(server, api, program, tmp_path)
    yield studio
    await studio.close()
    api.http.close()
