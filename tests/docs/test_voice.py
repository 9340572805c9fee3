"""The tutorial on calls that programs make, word for word, against a server on other ports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.testing.ears import read_wav, tone_spans
from tests.docs.test_first_call import ROOT, SID, commands
from tests.ports import free_port_pair

TOKEN = "a-token-of-tests"


def test_the_voice_page_does_what_it_says(tmp_path: Path) -> None:
    for program in ("curl", "espeak-ng"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    steps = commands(ROOT / "docs/voice.md")
    assert steps[0] == "make serve"
    (phone,) = [step for step in steps if "phone answer" in step]
    port = free_port_pair()
    ours = f"{sys.executable} -m callreel"
    with OwnServer(tmp_path, SID, TOKEN) as server:
        script = "\n".join(step for step in steps[1:] if step != phone)
        for there, here in (
            ("…the AccountSid…", SID),
            ("…the token…", TOKEN),
            ("http://127.0.0.1:8080", server.http_url),
            ("127.0.0.1:5070", f"127.0.0.1:{port}"),
            (".venv/bin/callreel calls show $CALL", f"{ours} calls show $CALL --data data"),
        ):
            assert there in script
            script = script.replace(there, here)
        assert "…" not in script
        answering = subprocess.Popen(
            [*ours.split(), *phone.replace("5070", str(port)).split()[1:]],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
        )
        try:
            assert answering.stdout is not None
            assert str(port).encode() in answering.stdout.readline()
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
        finally:
            answering.terminate()
            answering.communicate()
        assert ran.returncode == 0, ran.stderr
    assert '"source": "RecordVerb"' in ran.stdout
    assert '"source": "OutBoundApi"' in ran.stdout
    assert "not-there" in ran.stdout, "the story says why it ended"
    rate_hz, samples = read_wav(tmp_path / "heard.wav")
    assert samples.any(), "the greeting"
    assert tone_spans(samples[:, 0], rate_hz, 1000), "the beep"
