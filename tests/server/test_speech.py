"""Speech and audio as a server has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from callreel.delivery.exchange import Exchange
from callreel.prompts.espeak import Espeak
from callreel.prompts.piper import Piper
from callreel.server.datadir import DataDir
from callreel.server.settings import Settings
from callreel.server.speech import engines_of, prompts_of, signing_keys
from callreel.server.system import SystemClock
from callreel.store import accounts
from callreel.store.database import Database
from callreel.store.seal import Seal
from tests.store.samples import ACCOUNT, OTHER


def test_engines_come_in_the_order_in_which_they_are_asked() -> None:
    voice = [Path("/srv/voices/de.onnx")]
    wanted: list[tuple[dict[str, object], list[type]]] = [
        ({}, [Espeak]),
        ({"piper_voices": voice}, [Piper, Espeak]),
        ({"speech_engine": "espeak", "piper_voices": voice}, [Espeak]),
        ({"speech_engine": "piper"}, [Piper]),
        ({"speech_engine": "none", "piper_voices": voice}, []),
    ]
    for given, engines in wanted:
        settings = Settings.model_validate(given)
        assert [type(one) for one in engines_of(settings)] == engines


async def test_requests_are_signed_with_the_accounts_key(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", Seal(b"k" * 32))
    database.migrate()
    async with database.begin() as connection:
        await accounts.add(connection, database.seal, ACCOUNT)
        await accounts.add(connection, database.seal, OTHER)
    key = signing_keys(database)
    assert [await key(one.id) for one in (ACCOUNT, OTHER)] == ["a-token", "b-key"]
    assert await key("0" * 32) is None
    await database.close()


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs espeak-ng (Debian's package of that name)"
)
async def test_a_prompt_lies_in_the_data_folder(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    data.prepare()

    async def key(_: str) -> str | None:
        return None

    async with Exchange() as exchange:
        prompts = prompts_of(Settings(data=data.root), data, exchange, key, SystemClock())
        path = await prompts.say("hello", language="", voice="")
        await prompts.close()
    assert path.parent == data.prompts
    assert path.stat().st_size > 4000
