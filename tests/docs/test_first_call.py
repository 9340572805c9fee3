"""The tutorial, word for word: its own commands, against a server on other ports."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.testing.ears import read_wav, tone_spans

ROOT = Path(__file__).parents[2]
SID = "b3877c40-da60-4998-90ad-b792e98472af"


def commands(page: Path) -> list[str]:
    """What follows a ``$`` in the page's console blocks, continuation lines joined.

    A here-document is taken as it stands, to its end.
    """
    found: list[str] = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        until = None
        for line in block.splitlines():
            if until is not None:
                found[-1] += "\n" + line
                until = None if line == until else until
            elif line.startswith("$ "):
                found.append(line[2:])
                here = re.search(r"<<'(\w+)'$", line)
                until = here and here[1]
            elif line.startswith("    ") and found:
                found[-1] += "\n" + line
    return found


def test_the_first_call_page_does_what_it_says(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    steps = commands(ROOT / "docs/first-call.md")
    assert steps[0] == "make serve"
    (phone,) = [step for step in steps if "phone siprec" in step]
    rest = [step for step in steps[1:] if step != phone]
    with OwnServer(tmp_path, SID, "a-token-of-tests") as server:
        script = "\n".join(rest)
        script = script.replace("…the AccountSid…", SID).replace("…the token…", "a-token-of-tests")
        script = script.replace("http://127.0.0.1:8080", server.http_url)
        assert "…" not in script
        call = phone.replace("sip:127.0.0.1:5060", server.sip_uri)
        call = call.replace(".venv/bin/callreel", f"{sys.executable} -m callreel")
        caller = subprocess.Popen(call.split(), cwd=tmp_path, stdout=subprocess.PIPE)
        try:
            assert caller.stdout is not None
            assert b"session up" in caller.stdout.readline()
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        finally:
            caller.terminate()
            caller.communicate()
        assert ran.returncode == 0, ran.stderr
    assert '"clean": true' in ran.stdout
    rate_hz, samples = read_wav(tmp_path / "call.wav")
    assert abs(len(samples) / rate_hz - 5) < 0.5
    assert tone_spans(samples[:, 0], rate_hz, 440)
    assert tone_spans(samples[:, 1], rate_hz, 880)
    assert (tmp_path / "call.mp3").stat().st_size > 10_000
