from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import BaseModel

from callreel.base.errors import MachineError, UsageError
from callreel.server.datadir import DataDir
from callreel.server.settings import Settings, load_settings
from callreel.server.sip_settings import (
    PeerSettings,
    RecordPolicy,
    RouteSettings,
    TrunkSettings,
    UserSettings,
)
from callreel.server.voice_settings import AccountSettings, NumberSettings

DOCS = Path(__file__).parents[2] / "docs/settings.md"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CALLREEL_{name.upper()}", raising=False)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"| `{name}` |" in DOCS.read_text().partition("## Peers")[0]


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("Peers", PeerSettings),
        ("Trunks", TrunkSettings),
        ("Users", UserSettings),
        ("Routes", RouteSettings),
        ("Accounts", AccountSettings),
        ("Numbers", NumberSettings),
    ],
)
def test_every_key_of_a_table_is_documented(heading: str, model: type[BaseModel]) -> None:
    section = DOCS.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    documented = {key.strip(" `") for row in rows for key in row.split(",")}
    assert documented == {field.alias or name for name, field in model.model_fields.items()}


def test_a_first_run_needs_nothing() -> None:
    settings = load_settings(None, {})
    assert settings.http_address == ("127.0.0.1", 8080)
    assert settings.sip_address == ("127.0.0.1", 5060)
    assert settings.port_range == (10000, 32767)
    assert settings.media_auth == "required"
    assert settings.worker_count >= 1


def test_command_line_over_environment_over_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "callreel.toml"
    config.write_text(
        'http = "127.0.0.1:1"\nsip = "127.0.0.1:2"\nmedia_auth = "public"\n'
        '[[peers]]\nname = "sbc"\naddresses = ["192.0.2.0/24"]\nrecord = "dual"\n'
    )
    monkeypatch.setenv("CALLREEL_SIP", "127.0.0.1:22")
    monkeypatch.setenv("CALLREEL_HTTP", "127.0.0.1:11")
    settings = load_settings(config, {"http": "127.0.0.1:111", "data": None})
    assert settings.http == "127.0.0.1:111"
    assert settings.sip == "127.0.0.1:22"
    assert settings.media_auth == "public"
    (peer,) = settings.peers
    assert peer.record is RecordPolicy.DUAL


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('http = "nowhere"', "http"),
        ('rtp_ports = "100-90"', "rtp_ports"),
        ("colour = 1", "colour"),
        ('media_auth = "maybe"', "media_auth"),
        ('public_url = "example.com"', "public_url"),
        ('[[peers]]\nname = "x"\naddresses = ["host.example"]', "addresses"),
        ('[[peers]]\nname = "x"\naddresses = []', "addresses"),
        ("not toml at all", "TOML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "callreel.toml"
    config.write_text(text)
    with pytest.raises(UsageError, match=says):
        load_settings(config, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_settings(tmp_path / "none.toml", {})


def test_the_key_is_private_and_stays(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    key = data.prepare()
    assert stat.S_IMODE(data.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.root.stat().st_mode) == 0o700
    assert data.prepare() == key
    assert len(key) == 32


def test_a_lost_key_is_not_replaced_while_a_database_needs_it(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    data.prepare()
    data.database.touch()
    data.key_file.unlink()
    with pytest.raises(MachineError, match="backup"):
        data.prepare()
    data.key_file.write_bytes(b"short")
    with pytest.raises(MachineError, match="32 bytes"):
        data.prepare()


def test_journals_on_a_filesystem_that_is_not_mounted_are_missed(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    data.prepare()
    data.prepare()
    data.journals.rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="mounted"):
        data.prepare()


def test_two_servers_cannot_share_a_folder(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.lock()
    with pytest.raises(UsageError, match="another"):
        data.lock()


def test_an_unusable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="--data"):
        DataDir(tmp_path / "file" / "data").prepare()


def test_scratch_is_emptied_folders_and_all(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "data")
    data.prepare()
    (data.scratch / "a.wav.part").write_bytes(b"x")
    (data.scratch / "tmp").mkdir()
    (data.scratch / "tmp/out.mp3").write_bytes(b"x")
    data.empty_scratch()
    assert list(data.scratch.iterdir()) == []
