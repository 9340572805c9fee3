"""``callreel phone call`` and ``phone answer`` as programs: what they print, how they exit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.phone.phones import spans

PROGRAM = (sys.executable, "-m", "callreel", "phone")


class Answering:
    """``phone answer`` under way."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "answer", "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.udp = self.line().split()[2]
        self.tcp = self.line().split()[2]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self) -> tuple[int, str]:
        """Exit status and what it said."""
        said, _ = self.process.communicate(timeout=10)
        return self.process.returncode, said


class Programs:
    def __init__(self) -> None:
        self.all: list[Answering] = []

    def answer(self, *options: str) -> Answering:
        one = Answering(*options)
        self.all.append(one)
        return one


@pytest.fixture
def programs() -> Iterator[Programs]:
    made = Programs()
    yield made
    for one in made.all:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def call(*options: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*PROGRAM, "call", *options], capture_output=True, text=True, timeout=20, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_call_between_two_programs(programs: Programs, tmp_path: Path) -> None:
    heard, heard_there = tmp_path / "heard.wav", tmp_path / "there.wav"
    peer = programs.answer("--once", "--play", "tone:700", "--record", str(heard_there))
    status, said, _ = call(
        *(peer.tcp, "--for", "0.9", "--play", "tone:500", "--record", str(heard)),
        *("--digits", "42", "--codec", "PCMA", "--from", "sip:me@127.0.0.1", "--json"),
    )
    assert status == 0
    (line,) = said.splitlines()
    summary = json.loads(line)
    assert (summary["ended_by"], summary["codec"], summary["answered"]) == ("us", "PCMA", True)
    assert summary["media"]["lost"] == 0
    assert summary["media"]["delay_ms"] is not None  # both are on this machine
    assert spans(heard, 700)
    assert spans(heard_there, 500)
    status, said = peer.end()
    assert status == 0
    assert "digits heard: 42" in said
    assert "ended by the peer" in said


def test_redirected_to_one_that_refuses(programs: Programs) -> None:
    busy = programs.answer("--once", "--status", "486")
    elsewhere = programs.answer("--once", "--redirect", busy.udp)
    status, said, _ = call(elsewhere.udp, "--follow")
    assert status == 1
    assert f"redirected 302 {busy.udp}" in said
    assert "not answered: 486 Busy Here" in said
    assert busy.end()[0] == elsewhere.end()[0] == 0  # it went as asked


def test_not_answered_in_time(programs: Programs) -> None:
    peer = programs.answer("--once", "--after", "20")
    status, said, _ = call(peer.udp, "--ring-timeout", "0.4")
    assert status == 1
    assert "not answered: 408 not answered within 0.4 s" in said
    status, said = peer.end()
    assert status == 1
    assert "cancelled by the peer" in said


def test_ctrl_c_while_it_rings_cancels(programs: Programs) -> None:
    peer = programs.answer("--once", "--after", "20")
    caller = subprocess.Popen([*PROGRAM, "call", peer.udp], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    while "ringing" not in caller.stdout.readline():
        pass
    caller.send_signal(signal.SIGINT)
    said, _ = caller.communicate(timeout=10)
    assert caller.returncode == 1
    assert "cancelled by us" in said
    assert "cancelled by the peer" in peer.end()[1]


def test_a_signal_on_a_call_hangs_up(programs: Programs) -> None:
    peer = programs.answer()
    caller = subprocess.Popen([*PROGRAM, "call", peer.udp], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    while "answered" not in caller.stdout.readline():
        pass
    peer.process.send_signal(signal.SIGTERM)
    said, _ = caller.communicate(timeout=10)
    assert caller.returncode == 0
    assert "ended by the peer" in said
    assert peer.end()[0] == 0


def test_two_calls_at_once_and_their_files(programs: Programs, tmp_path: Path) -> None:
    record = tmp_path / "heard.wav"
    peer = programs.answer("--calls", "2", "--for", "0.3", "--record", str(record))
    callers = [
        subprocess.Popen(
            [*PROGRAM, "call", peer.udp, "--play", tone], stdout=subprocess.PIPE, text=True
        )
        for tone in ("tone:500", "tone:900")
    ]
    for caller in callers:
        said, _ = caller.communicate(timeout=10)
        assert caller.returncode == 0
        assert "ended by the peer" in said
    assert peer.end()[0] == 0
    heard = [
        [bool(spans(path, hz)) for hz in (500, 900)] for path in (record, tmp_path / "heard-2.wav")
    ]
    assert sorted(heard) == [[False, True], [True, False]]


@pytest.mark.parametrize(
    "options",
    [
        ("call", "not a uri"),
        ("call", "tel:+15550100"),
        ("call", "sip:127.0.0.1:9", "--codec", "opus"),
        ("call", "sip:127.0.0.1:9", "--play", "tone:loud"),
        ("call", "sip:127.0.0.1:9", "--transport", "carrier-pigeon"),
        ("call", "sip:127.0.0.1:9", "--digits", "one"),
        ("call", "sip:127.0.0.1:9", "--resume-at", "3"),
        ("call", "sip:127.0.0.1:9", "--for", "-1"),
        ("call", "sip:127.0.0.1:9", "--record", "/nowhere/at/all.wav"),
        ("call", "sip:127.0.0.1:9", "--password", "p"),
        ("call", "sip:127.0.0.1:9", "--user", "a@b"),
        ("answer", "--listen", "nowhere"),
        ("answer", "--status", "200"),
        ("answer", "--status", "486", "--redirect", "sip:x@127.0.0.1"),
    ],
)
def test_bad_options(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    from callreel.base.errors import CallreelError
    from callreel.cli import app

    with pytest.raises(CallreelError) as caught:
        app(["phone", *options], standalone_mode=False)
    assert str(caught.value)
    assert "Traceback" not in capsys.readouterr().err


def test_the_exit_status_of_a_bad_option() -> None:
    status, _, said = call("sip:127.0.0.1:9", "--codec", "opus")
    assert status == 2
    assert said == "callreel: codec 'opus' is not one of PCMU, PCMA, or both by a comma\n"
