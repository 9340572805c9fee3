"""The examination of a machine: this one, and what other machines would be told."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from callreel.server.datadir import DataDir
from callreel.server.doctor.capacity import (
    RECORDED_MS,
    Machine,
    capacity_finding,
    limits_of,
)
from callreel.server.doctor.data import LITTLE_BYTES, TOO_LITTLE_BYTES, space_finding
from callreel.server.doctor.examination import CHECKS, examine
from callreel.server.doctor.finding import Finding, Verdict, ok
from callreel.server.doctor.machine import buffer_finding
from callreel.server.doctor.network import overlapping
from callreel.server.settings import Settings
from tests.capture.house import free_ports
from tests.cli.commands import callreel
from tests.ports import free_port_pair


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"CALLREEL_{name.upper()}", raising=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    http, sip = free_port_pair(), free_port_pair()
    low, high = free_ports(4)
    return Settings(
        data=tmp_path / "data",
        http=f"127.0.0.1:{http}",
        sip=f"127.0.0.1:{sip}",
        rtp_ports=f"{low}-{high}",
    )


def of(name: str, settings: Settings) -> list[Finding]:
    (check,) = [check for known, check in CHECKS if known == name]
    return list(check(settings))


def test_this_machine_is_fit_and_nothing_is_left_behind(settings: Settings, tmp_path: Path) -> None:
    found = list(examine(settings))
    assert [one for one in found if one.verdict is Verdict.FAIL] == []
    assert {one.name for one in found} == {name for name, _ in CHECKS}
    for one in found:
        assert one.text
        assert bool(one.advice) == (one.verdict is not Verdict.OK), one
    assert list(tmp_path.iterdir()) == []


def test_a_check_that_breaks_is_a_finding_and_the_rest_goes_on(settings: Settings) -> None:
    def broken(_: Settings) -> Iterator[Finding]:
        yield ok("half", "done")
        raise RuntimeError("oops")

    def whole(_: Settings) -> Iterator[Finding]:
        yield ok("whole", "done")

    found = list(examine(settings, [("half", broken), ("whole", whole)]))
    assert [(one.name, one.verdict) for one in found] == [
        ("half", Verdict.OK),
        ("half", Verdict.FAIL),
        ("whole", Verdict.OK),
    ]
    assert "oops" in found[1].text


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_that_somebody_has_is_told(settings: Settings, kind: socket.SocketKind) -> None:
    taken = settings.http_address if kind is socket.SOCK_STREAM else settings.sip_address
    setting = "http" if kind is socket.SOCK_STREAM else "sip"
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(taken)
        if kind is socket.SOCK_STREAM:
            other.listen()
        (failed,) = [one for one in of("ports", settings) if one.verdict is Verdict.FAIL]
    assert str(taken[1]) in failed.text
    assert failed.advice == f"choose another with {setting}"


def test_an_address_that_is_not_ours_is_told(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"http": "192.0.2.1:8080"})
    (failed,) = [one for one in of("ports", elsewhere) if one.verdict is Verdict.FAIL]
    assert "192.0.2.1" in failed.text


def test_a_running_server_has_its_ports(settings: Settings) -> None:
    data = DataDir(settings.data)
    data.prepare()
    lock = data.lock()
    try:
        with socket.create_server(settings.http_address):
            (found,) = of("ports", settings)
            assert (found.verdict, "running" in found.text) == (Verdict.OK, True)
    finally:
        os.close(lock)
    assert len(of("ports", settings)) == 3  # it is down: each port is tried


def test_media_ports_that_are_taken_are_counted(settings: Settings) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", settings.port_range[0]))
        found = of("media ports", settings)
    assert any("1 of them cannot be had" in one.text for one in found)


@pytest.mark.parametrize(
    ("ephemeral", "reserved", "found"),
    [
        ("32768\t60999\n", "\n", None),
        ("32768 60999", "", None),
        ("1024 65535", "", (10000, 32767)),
        ("30000 60999", "", (30000, 32767)),
        ("1024 20000", "", (10000, 20000)),
        ("1024 65535", "8080,10000-32767\n", None),
        ("1024 65535", "10000-29999,32767", (30000, 32766)),
    ],
)
def test_what_the_kernel_gives_away(
    ephemeral: str, reserved: str, found: tuple[int, int] | None
) -> None:
    assert overlapping(10000, 32767, ephemeral, reserved) == found


PLENTY = Machine(
    files=1 << 20,
    workers=8,
    ports=40_000,
    memory_bytes=64 << 30,
    udp_bytes=8 << 30,
    cores=100,
)


@pytest.mark.parametrize(
    ("changed", "verdict", "calls", "scarce"),
    [
        ({}, Verdict.OK, 10_000, "media ports"),
        ({"ports": 99}, Verdict.WARN, 24, "media ports"),
        ({"ports": 3}, Verdict.FAIL, 0, "media ports"),
        ({"files": 20_000}, Verdict.OK, 4936, "open files"),
        ({"files": 20_000, "workers": 1}, Verdict.OK, 3948, "open files"),
        ({"files": 1024}, Verdict.WARN, 192, "open files"),
        ({"files": 200}, Verdict.FAIL, 0, "open files"),
        ({"cores": 1}, Verdict.OK, int(700 / RECORDED_MS), "cores"),
        ({"memory_bytes": 1 << 20}, Verdict.WARN, 9, "free memory"),
        ({"memory_bytes": -1}, Verdict.FAIL, 0, "free memory"),
        ({"memory_bytes": None, "udp_bytes": 1 << 20}, Verdict.WARN, 24, "memory for UDP"),
    ],
)
def test_how_many_calls_a_machine_takes(
    changed: dict[str, int | None], verdict: Verdict, calls: int, scarce: str
) -> None:
    machine = replace(PLENTY, **changed)  # type: ignore[arg-type]
    scarcest = limits_of(machine)[0]
    assert scarcest.calls == calls
    assert scarce in scarcest.of
    found = capacity_finding(machine, 0)
    assert found.verdict is verdict
    assert found.text.startswith(f"about {calls} recorded calls at once")
    assert found.advice == (scarcest.advice if verdict is not Verdict.OK else "")


def test_more_calls_allowed_than_there_is_room_for() -> None:
    assert capacity_finding(PLENTY, 10_000).verdict is Verdict.OK
    assert capacity_finding(PLENTY, 10_001).verdict is Verdict.WARN


def test_what_buffers_and_space_mean() -> None:
    assert buffer_finding("SIP", 8 << 20, 8 << 20).verdict is Verdict.OK
    small = buffer_finding("SIP", 8 << 20, 212_992)
    assert (small.verdict, "net.core.rmem_max=8388608" in small.advice) == (Verdict.WARN, True)
    assert space_finding(TOO_LITTLE_BYTES - 1).verdict is Verdict.FAIL
    assert space_finding(LITTLE_BYTES - 1).verdict is Verdict.WARN
    assert space_finding(LITTLE_BYTES).verdict is Verdict.OK


def test_a_data_folder_that_cannot_be_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = settings.model_copy(update={"data": tmp_path / "file" / "data"})
    (found,) = of("data folder", wrong)
    assert (found.verdict, "--data" in found.advice) == (Verdict.FAIL, True)


def test_a_database_that_does_not_answer_is_told(settings: Settings) -> None:
    port = free_port_pair()
    url = f"postgresql://me:secret@127.0.0.1:{port}/none"
    (found,) = of("database", settings.model_copy(update={"database_url": url}))
    assert (found.verdict, "postgresql" in found.text) == (Verdict.FAIL, True)
    assert "secret" not in found.text
    DataDir(settings.data).prepare()
    DataDir(settings.data).database.touch()
    (found,) = of("database", settings)
    assert (found.verdict, found.text) == (Verdict.OK, "sqlite answers")


def test_speech_that_is_missing_is_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for engine, verdict in (("auto", Verdict.WARN), ("espeak", Verdict.FAIL)):
        (found,) = of("speech", settings.model_copy(update={"speech_engine": engine}))
        assert (found.verdict, "install the program espeak-ng" in found.text) == (verdict, True)
    (found,) = of("speech", settings.model_copy(update={"speech_engine": "piper"}))
    assert (found.verdict, "piper" in found.text) == (Verdict.FAIL, True)
    (found,) = of("speech", settings.model_copy(update={"speech_engine": "none"}))
    assert found.verdict is Verdict.OK


def test_an_engine_that_runs_and_says_nothing_is_told(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = tmp_path / "espeak-ng"
    mute.write_text(
        "#!/bin/sh\n"
        'case "$1" in --version) echo "eSpeak NG: 9.9  Data at: /x";;\n'
        '--voices) printf "Pty Language\\n 5 en-us\\n";;\n'
        '*) printf "RIFF....WAVEfmt ....................data....\\0\\0\\0\\0";; esac\n'
    )
    mute.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (found,) = of("speech", settings)
    assert (found.verdict, "nothing can be heard" in found.text) == (Verdict.WARN, True)


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs espeak-ng (Debian's package of that name)"
)
def test_speech_is_heard(settings: Settings) -> None:
    (found,) = of("speech", settings)
    assert (found.verdict, "speaks" in found.text) == (Verdict.OK, True)


def test_the_command_tells_and_its_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    http, sip = free_port_pair(), free_port_pair()
    low, high = free_ports(4)
    monkeypatch.setenv("CALLREEL_HTTP", f"127.0.0.1:{http}")
    monkeypatch.setenv("CALLREEL_SIP", f"127.0.0.1:{sip}")
    monkeypatch.setenv("CALLREEL_RTP_PORTS", f"{low}-{high}")
    data = tmp_path / "data"
    found = callreel("doctor", "--json", data=data).said
    assert {one["verdict"] for one in found} <= {"ok", "warn"}
    assert {"python", "ports", "speech"} <= {one["name"] for one in found}
    with socket.create_server(("127.0.0.1", http)):
        ran = callreel("doctor", data=data)
        quiet = callreel("doctor", "--quiet", data=data)
    assert ran.status == quiet.status == 1
    assert f"fail  ports: http: 127.0.0.1, port {http}, TCP: another program has it" in ran.out
    assert "      choose another with http\n" in ran.out
    assert "ok    python" in ran.out
    assert "ok " not in quiet.out
