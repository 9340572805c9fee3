"""Engines that speak: the real espeak-ng, and programs that behave as they should not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import numpy as np
import pytest
import uvloop

from callreel.calls.voice import PROMPT_RATE_HZ, SpeechError
from callreel.prompts.engine import MAX_TEXT_CHARACTERS
from callreel.prompts.espeak import Espeak
from callreel.prompts.piper import Piper
from callreel.prompts.program import run
from callreel.prompts.sampling import resampled

espeak_needed = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs espeak-ng (Debian's package of that name)"
)


@espeak_needed
async def test_a_sentence_is_spoken() -> None:
    engine = Espeak()
    voice = await engine.choose("en-US", "man")
    assert voice == "en-us+m3"
    said = await engine.speak("Please leave a message after the tone.", voice)
    seconds = len(said.samples) / said.rate_hz
    assert 1.5 < seconds < 5
    assert np.abs(said.samples.astype(int)).max() > 3000
    assert (await engine.version())[0].isdigit()


@espeak_needed
async def test_voices_and_languages_are_heard() -> None:
    """The same words take another course in another language, and another pitch."""
    engine = Espeak()
    heard = {}
    for language, voice in (("en-US", "man"), ("en-US", "woman"), ("de-DE", ""), ("", "Polly.Mia")):
        chosen = await engine.choose(language, voice)
        heard[chosen] = (await engine.speak("Radio nine", chosen)).samples.tobytes()
    assert set(heard) == {"en-us+m3", "en-us+f2", "de+f2", "es-419+f2"}
    assert len(set(heard.values())) == 4


VENDORS = """
    da-DK de-DE en-AU en-CA en-GB en-IN en-US ca-ES es-ES es-MX fi-FI fr-CA fr-FR it-IT ja-JP ko-KR
    nb-NO nl-NL pl-PL pt-BR pt-PT ru-RU sv-SE zh-CN zh-HK zh-TW
""".split()  # noqa: SIM905


@espeak_needed
async def test_every_vendors_language_that_is_documented_is_spoken() -> None:
    engine = Espeak()
    for tag in VENDORS:
        assert await engine.choose(tag, "alice")


@espeak_needed
async def test_an_unknown_language_says_which_there_are() -> None:
    with pytest.raises(SpeechError, match=r"'tlx-XX'.*\bde\b.*\ben-us\b"):
        await Espeak().choose("tlx-XX", "")


@espeak_needed
@pytest.mark.parametrize(
    "text",
    ["--help", "-v de; touch /tmp/x", "$(id) `id` <b>&amp;</b>", "\\x00", "世界 🎉", "a" * 4096],
)
async def test_a_text_is_spoken_whatever_it_says(text: str) -> None:
    said = await Espeak().speak(text, "en-us+f2")
    assert len(said.samples) > 1000


@espeak_needed
async def test_the_longest_text_is_within_bounds() -> None:
    text = ("nine hundred and ninety nine thousand. " * 200)[:MAX_TEXT_CHARACTERS]
    said = await Espeak().speak(text, "en-us+f2")
    assert 60 < len(said.samples) / said.rate_hz < 900


async def test_without_the_program_it_says_what_to_install() -> None:
    with pytest.raises(SpeechError, match="install the program espeak-ng"):
        await Espeak(program="no-such-program").choose("en-US", "")


def a_program(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


async def _misbehaving(tmp_path: Path) -> None:
    endless = a_program(
        tmp_path, "endless", "import sys\nwhile True: sys.stdout.buffer.write(b'x' * 9999)"
    )
    with pytest.raises(SpeechError, match="endless said too much"):
        await run([str(endless)], timeout_s=30, max_bytes=100_000)
    silent = a_program(tmp_path, "silent", "import time\ntime.sleep(1000)")
    with pytest.raises(SpeechError, match="silent did not end within"):
        await run([str(silent)], b"x" * 1_000_000, timeout_s=0.3, max_bytes=100)
    deaf = a_program(tmp_path, "deaf", "import sys\nsys.exit('no: ' + 'x' * 99999)")
    done = await run([str(deaf)], b"x" * 1_000_000, timeout_s=30, max_bytes=100)
    assert (done.status, done.output, done.complaint[:4]) == (1, b"", "no: ")
    assert len(done.complaint) <= 2000
    with pytest.raises(SpeechError, match="cannot be run"):
        await run([str(tmp_path)], timeout_s=30, max_bytes=100)


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return "Z (" not in Path(f"/proc/{pid}/status").read_text()
    return False


async def _with_children(tmp_path: Path) -> None:
    """A program that waits for one that it has started: both are gone once it is given up."""
    told = tmp_path / "pid"
    parent = a_program(
        tmp_path,
        "parent",
        "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])\n"
        f"from pathlib import Path\nPath({str(told)!r}).write_text(str(child.pid))\nchild.wait()",
    )
    task = asyncio.create_task(run([str(parent)], timeout_s=60, max_bytes=100))
    async with asyncio.timeout(30):
        while not (told.exists() and told.read_text()):
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(30):
        while _is_alive(int(told.read_text())):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("case", [_misbehaving, _with_children])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_programs_that_misbehave_are_ended(
    tmp_path: Path,
    case: Callable[[Path], Coroutine[None, None, None]],
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """On the loop of the server, too, which closes pipes in its own way."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(case(tmp_path))


async def test_an_espeak_that_fails_says_how(tmp_path: Path) -> None:
    broken = a_program(tmp_path, "espeak-ng", "import sys\nsys.exit('no data here')")
    with pytest.raises(SpeechError, match="no data here"):
        await Espeak(program=str(broken)).choose("en-US", "")
    mute = a_program(tmp_path, "mute", "")
    with pytest.raises(SpeechError, match="said nothing"):
        await Espeak(program=str(mute)).speak("hello", "en-us")


# Piper, as far as it can be tried without a model of some 60 MB: the program is one of ours that
# is called as Piper is, and answers as it does.

PIPER = """
import sys
text = sys.stdin.read()
assert sys.argv[1:] == ["--model", {model!r}, "--output-raw"], sys.argv
assert text == "Guten Tag\\n", text
sys.stdout.buffer.write(b"\\x10\\x20" * 22050 + b"\\0")
"""


def a_voice(folder: Path, name: str, language: object = "de_DE", rate: object = 22050) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(b"a model")
    described = {"audio": {"sample_rate": rate}, "language": {"code": language}}
    path.with_name(path.name + ".json").write_text(json.dumps(described))
    return path


async def test_piper_is_called_with_the_voice_of_the_language(tmp_path: Path) -> None:
    german = a_voice(tmp_path, "de_DE-thorsten-medium")
    english = a_voice(tmp_path, "en_US-lessac-medium", "en_US")
    program = a_program(tmp_path, "piper", PIPER.format(model=str(german)))
    engine = Piper([english, german], [str(program)])
    voice = await engine.choose("de-AT", "Polly.Hans")
    assert "thorsten" in voice
    said = await engine.speak("Guten Tag", voice)
    assert (said.rate_hz, len(said.samples)) == (22050, 22050)
    assert "lessac" in await engine.choose("", "")
    with pytest.raises(SpeechError, match=r"'fr-FR'.*de-de, en-us"):
        await engine.choose("fr-FR", "")


async def test_piper_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    voice = a_voice(tmp_path, "v")
    with pytest.raises(SpeechError, match="pip install piper-tts"):
        await Piper([voice]).choose("de-DE", "")
    run_as = [str(a_program(tmp_path, "anything", ""))]
    with pytest.raises(SpeechError, match="piper_voices"):
        await Piper([], run_as).choose("de-DE", "")
    with pytest.raises(SpeechError, match="cannot be read"):
        await Piper([tmp_path / "none.onnx"], run_as).choose("de-DE", "")
    for bad in (a_voice(tmp_path, "a", rate="x"), a_voice(tmp_path, "b", rate=1)):
        with pytest.raises(SpeechError, match=r"onnx\.json"):
            await Piper([bad], run_as).choose("de-DE", "")
    with pytest.raises(SpeechError, match="Piper failed"):
        engine = Piper([voice], run_as)
        await engine.speak("hello", await engine.choose("de-DE", ""))


# Samples


def test_the_pitch_stays_where_it_is() -> None:
    seconds, pitch = 2, 700
    for rate in (8000, 16000, 22050, 44100):
        time = np.arange(seconds * rate) / rate
        tone = (np.sin(2 * np.pi * pitch * time) * 12000).astype(np.int16)
        samples = np.frombuffer(resampled(tone, rate), "<i2")
        assert abs(len(samples) - seconds * PROMPT_RATE_HZ) < 40
        spectrum = np.abs(np.fft.rfft(samples[:PROMPT_RATE_HZ]))
        assert abs(int(spectrum.argmax()) - pitch) <= 1
    assert resampled(np.zeros(0, np.int16), 22050) == b""
