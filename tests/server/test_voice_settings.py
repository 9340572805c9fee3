"""What answers what is dialled: the tables, and each mistake in them with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from callreel.calls.model import CallbackMethod, CallCallback
from callreel.calls.steering import Instructions
from callreel.server.dialling import dialplan
from callreel.server.problems import SettingsRefused
from callreel.server.settings import Settings, load_settings
from callreel.server.voice import doors_of
from callreel.service.voice.doors import Door
from tests.service.conftest import House, house as service_house

SOUND = """\
[[trunks]]
name = "carrier"
uri = "sip:sip.carrier.example"

[[accounts]]
voice_url = "https://example.com/voice"
voice_method = "GET"
trunk = "carrier"

[[numbers]]
number = "+1 (555) 010-0"
voice_url = "https://example.com/sales"
voice_fallback_url = "https://example.com/sorry"
status_callback = "https://example.com/told"

[[numbers]]
number = "closed"
document = "@closed.xml"
"""
CLOSED = "<Response><Say>We are closed.</Say></Response>"
house = service_house


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CALLREEL_{name.upper()}", raising=False)


def loaded(folder: Path, text: str) -> Settings:
    (folder / "closed.xml").write_text(CLOSED)
    config = folder / "callreel.toml"
    config.write_text(text.replace("@closed.xml", str(folder / "closed.xml")))
    return load_settings(config, {})


async def test_what_is_configured_answers(tmp_path: Path, house: House) -> None:
    settings = loaded(tmp_path, SOUND)
    doors = await doors_of(settings, house.account, house.accounts)
    mine = house.account.id
    assert doors.find(mine, "+15550100", exactly=True) == Door(
        Instructions("https://example.com/sales", fallback_url="https://example.com/sorry"),
        CallCallback("https://example.com/told"),
    )
    assert doors.find(mine, "closed") == Door(Instructions(document=CLOSED))
    anything = Door(Instructions("https://example.com/voice", CallbackMethod.GET))
    assert doors.find(mine, "+15550199") == anything
    assert doors.find(mine, "+15550199", exactly=True) is None
    assert doors.find("0" * 32, "+15550100") is None, "another account's call"
    plan = dialplan(settings, {}, house.account)
    assert plan.account_trunks == {mine: "carrier"}


@pytest.mark.parametrize(
    ("before", "after", "line", "setting", "says"),
    [
        ('"https://example.com/voice"', '"/voice"', 6, "accounts.0.voice_url", "no absolute"),
        ('"https://example.com/voice"', '"ftp://x/"', 6, "accounts.0.voice_url", "no absolute"),
        ('"https://example.com/voice"', '"http://a b/"', 6, "accounts.0.voice_url", "no absolute"),
        ('"GET"', '"PUT"', 7, "accounts.0.voice_method", "'GET' or 'POST'"),
        ('trunk = "carrier"', 'trunk = "other"', 8, "accounts.0.trunk", "no trunk 'other'"),
        ("trunk = ", "trnk = ", 8, "accounts.0.trnk", "not permitted"),
        ('number = "+1', 'no = "+1', 10, "numbers.0", "required"),
        ('"+1 (555) 010-0"', '"closed"', 17, "numbers.1.number", "two for 'closed'"),
        ("@closed.xml", "@closed.xmlx", 18, "numbers.1.document", "cannot read"),
        (
            'voice_url = "https://example.com/sales"\n',
            "",
            10,
            "numbers.0",
            "fall back from",
        ),
        ('document = "@closed.xml"', "", 16, "numbers.1", "either voice_url or document"),
        (
            'document = "@closed.xml"',
            'document = "@closed.xml"\nvoice_url = "http://x/"',
            16,
            "numbers.1",
            "either voice_url or document",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, before: str, after: str, line: int, setting: str, says: str
) -> None:
    assert before in SOUND
    with pytest.raises(SettingsRefused) as error:
        loaded(tmp_path, SOUND.replace(before, after, 1))
    found = error.value.problems[0]
    assert (found.line, found.setting.startswith(setting)) == (line, True), found
    assert says in found.message


def test_two_of_an_account_and_a_document_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="two for the same account"):
        loaded(tmp_path, '[[accounts]]\n[[accounts]]\nvoice_url = "http://x/"\n')
    (tmp_path / "large.xml").write_text("x" * 65_537)
    with pytest.raises(SettingsRefused, match="larger than"):
        loaded(tmp_path, f'[[numbers]]\nnumber = "1"\ndocument = "{tmp_path}/large.xml"\n')
    (tmp_path / "latin.xml").write_bytes(b"\xe9")
    with pytest.raises(SettingsRefused, match="not UTF-8"):
        loaded(tmp_path, f'[[numbers]]\nnumber = "1"\ndocument = "{tmp_path}/latin.xml"\n')
