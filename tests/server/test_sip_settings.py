"""The tables of the TOML file: each mistake is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from callreel.base.errors import UsageError
from callreel.server.problems import SettingsRefused
from callreel.server.settings import Settings, load_settings

SOUND = """\
[[peers]]
name = "pbx"
addresses = ["192.0.2.10"]

[[trunks]]
name = "carrier"
uri = "sip:sip.carrier.example"

[[users]]
name = "anna"
password = "12345678"
number = "+15550111"

[[routes]]
prefix = "+"
from = ["pbx", "users"]
to = ["trunk:carrier", "sip:{number}@192.0.2.1;transport=tcp"]
"""


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CALLREEL_{name.upper()}", raising=False)


def refused(folder: Path, text: str) -> list[tuple[int | None, str, str]]:
    """Line, setting and message of each problem."""
    config = folder / "callreel.toml"
    config.write_text(text)
    with pytest.raises(SettingsRefused) as error:
        load_settings(config, {})
    for one in error.value.problems:
        assert f"  {config}, line {one.line}: {one.setting}" in str(error.value)
    return [(one.line, one.setting, one.message) for one in error.value.problems]


def test_sound(tmp_path: Path) -> None:
    (tmp_path / "callreel.toml").write_text(SOUND)
    settings = load_settings(tmp_path / "callreel.toml", {})
    assert settings.routes[0].from_ == ["pbx", "users"]


@pytest.mark.parametrize(
    ("before", "after", "line", "setting", "says"),
    [
        ('"192.0.2.10"', '"pbx.example"', 3, "peers.0.addresses", "not an IP address or network"),
        ('name = "pbx"', 'name = "my pbx"', 2, "peers.0.name", "match pattern"),
        ('name = "pbx"', 'name = "users"', 2, "peers.0.name", "may be called 'users'"),
        ('name = "carrier"', 'name = "pbx"', 6, "trunks.0.name", "two of the name 'pbx'"),
        ('"sip:sip.carrier', '"tel:sip.carrier', 7, "trunks.0.uri", "no SIP URI"),
        ('uri = "sip:', 'register = true\nuri = "sip:', 5, "trunks.0", "needs username"),
        ('uri = "sip:', 'username = "u"\nuri = "sip:', 5, "trunks.0", "belong together"),
        ('uri = "sip:', 'uri_ = "sip:', 5, "trunks.0.uri", "required"),
        ("12345678", "1234567", 11, "users.0.password", "at least 8"),
        ('number = "+15', 'numer = "+15', 12, "users.0.numer", "not permitted"),
        ('prefix = "+"\n', "", 14, "routes.0", "want either prefix or user"),
        ('prefix = "+"', 'prefix = "+"\nuser = "x"', 14, "routes.0", "want either"),
        ('"pbx", "users"', '"pbx", "sbc"', 16, "routes.0.from", "no peer, trunk or user 'sbc'"),
        ('"trunk:carrier"', '"trunk:spare"', 17, "routes.0.to", "there is no 'trunk:spare'"),
        ('"trunk:carrier"', '"trunk:pbx"', 17, "routes.0.to", "there is no 'trunk:pbx'"),
        ('"trunk:carrier"', '"user:ben"', 17, "routes.0.to", "there is no 'user:ben'"),
        ('"trunk:carrier"', '"carrier"', 17, "routes.0.to", "no target"),
        ('"sip:{number}@192', '"sip:{number}@a b@192', 17, "routes.0.to", "no SIP URI"),
        ('to = ["trunk', 'ring_seconds = 0\nto = ["trunk', 17, "routes.0.ring_seconds", "greater"),
        ('to = ["trunk', 'ring = "later"\nto = ["trunk', 17, "routes.0.ring", "'in-order'"),
        ("[[peers]]", 'sips = "x"\n[[peers]]', 1, "sips", "HOST:PORT"),
        ("[[peers]]", 'dns_servers = ["ns"]\n[[peers]]', 1, "dns_servers", "not an IP address"),
        ("[[peers]]", 'public_address = "ns"\n[[peers]]', 1, "public_address", "not an IP"),
        ("[[peers]]", "max_calls = -1\n[[peers]]", 1, "max_calls", "greater"),
        ("[[peers]]", 'sip_realm = "a\\"b"\n[[peers]]', 1, "sip_realm", "match pattern"),
        ("[[peers]]", 'sip_tls_client_ca = "x"\n[[peers]]', 1, "sip_tls_client_ca", "sips is set"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, before: str, after: str, line: int, setting: str, says: str
) -> None:
    assert before in SOUND
    found = refused(tmp_path, SOUND.replace(before, after, 1))
    found_line, found_setting, message = found[0]
    assert found_line == line
    assert found_setting.startswith(setting)
    assert says in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    more = '[[users]]\nname = "anna"\npassword = "87654321"\nnumber = "x"\n'
    more += '[[users]]\nname = "x"\npassword = "87654321"\n'
    more += '[[routes]]\nuser = "x"\nto = ["user:y", "trunk:z"]\nfrom = ["w"]\n'
    assert refused(tmp_path, SOUND + more) == [
        (19, "users.1.name", "two of the name 'anna': every user needs its own"),
        (23, "users.2.name", "'anna' is called by 'x' already"),
        (28, "routes.1.from", "there is no peer, trunk or user 'w'"),
        (27, "routes.1.to", "there is no 'user:y'"),
        (27, "routes.1.to", "there is no 'trunk:z'"),
    ]


def test_what_is_not_toml_has_a_line_too(tmp_path: Path) -> None:
    assert [one[0] for one in refused_toml(tmp_path, b"sip = 1\n[[peers\n")] == [2]
    assert [one[0] for one in refused_toml(tmp_path, b"sip = 1\nhttp")] == [2]
    assert [one[0] for one in refused_toml(tmp_path, b'# a\n# b\nsip = "\xff"\n')] == [3]


def refused_toml(folder: Path, text: bytes) -> list[tuple[int | None, str]]:
    (folder / "callreel.toml").write_bytes(text)
    with pytest.raises(SettingsRefused, match="not TOML") as error:
        load_settings(folder / "callreel.toml", {})
    return [(one.line, one.message) for one in error.value.problems]


def test_a_mistake_elsewhere_has_no_line_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "callreel.toml").write_text('sip = "127.0.0.1:5060"\n')
    with pytest.raises(SettingsRefused) as error:
        load_settings(tmp_path / "callreel.toml", {"sip": "nowhere"})
    assert "line" not in str(error.value)
    monkeypatch.setenv("CALLREEL_SIP", "nowhere")
    with pytest.raises(UsageError, match=r"sip: 'nowhere' is not HOST:PORT"):
        load_settings(tmp_path / "callreel.toml", {})


def test_name_servers() -> None:
    settings = Settings(dns_servers=["192.0.2.53", "127.0.0.1:5353", "2001:db8::1", "[::1]:54"])
    assert settings.name_servers == [
        ("192.0.2.53", 53),
        ("127.0.0.1", 5353),
        ("2001:db8::1", 53),
        ("::1", 54),
    ]
    assert Settings(sips="[::]:5061").sips_address == ("::", 5061)
    assert Settings().sips_address is None
