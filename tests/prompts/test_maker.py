"""Prompts as a call asks for them: spoken, and fetched from real servers, also hostile ones."""

from __future__ import annotations

import asyncio
import errno
import io
import shutil
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest

from callreel.calls.voice import PROMPT_RATE_HZ, SpeechError
from callreel.delivery.downloads import Downloads
from callreel.delivery.exchange import Exchange
from callreel.prompts import maker
from callreel.prompts.cache import PromptCache
from callreel.prompts.decoder import decode
from callreel.prompts.engine import Spoken
from callreel.prompts.espeak import Espeak
from callreel.prompts.formats import AudioFormat
from callreel.prompts.maker import PromptMaker
from callreel.prompts.program import run
from callreel.testing.webhooks import Answer, WebhookReceiver
from tests.prompts.test_cache import HandClock

ACCOUNT = "ac" * 16
PITCH = 600


async def signing_key(_: str) -> str:
    return "a-key"


class Parrot:
    """An engine that says a text's length, for so many samples; counts how often."""

    name = "parrot"

    def __init__(self, language: str = "en", version: str = "1") -> None:
        self.spoken: list[str] = []
        self._language, self._version = language, version

    async def version(self) -> str:
        return self._version

    async def choose(self, language: str, voice: str) -> str:
        if language != self._language:
            raise SpeechError(f"only {self._language}")
        return f"{language}+{voice}"

    async def speak(self, text: str, voice: str) -> Spoken:
        self.spoken.append(text)
        await asyncio.sleep(0)
        return Spoken(np.full(len(text), 7, np.int16), PROMPT_RATE_HZ)


class Studio:
    """A maker over a folder, with its parts at hand."""

    def __init__(self, folder: Path, exchange: Exchange, clock: HandClock) -> None:
        self.folder, self.clock = folder, clock
        self._exchange = exchange
        (folder / "scratch").mkdir(exist_ok=True)
        self.makers: list[PromptMaker] = []

    def maker(self, *engines: Parrot | Espeak) -> PromptMaker:
        cache = PromptCache(self.folder / "prompts", max_bytes=200_000_000, clock=self.clock)
        downloads = Downloads(self._exchange, signing_key)
        made = PromptMaker(engines, downloads, cache, self.folder / "scratch", self.clock)
        self.makers.append(made)
        return made

    @property
    def left(self) -> list[str]:
        """What is on its way; and the prompts that are not whole."""
        parts = (self.folder / "prompts").glob("*.part")
        return [path.name for path in (*(self.folder / "scratch").iterdir(), *parts)]


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async with Exchange() as exchange:
        studio = Studio(tmp_path, exchange, HandClock())
        yield studio
        for made in studio.makers:
            await made.close()


@pytest.fixture
async def server() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as started:
        yield started


def tone(
    seconds: float, rate: int, channels: int = 1
) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    time = np.arange(round(seconds * rate)) / rate
    wave = (np.sin(2 * np.pi * PITCH * time) * 12000).astype(np.int16)
    return np.repeat(wave[:, None], channels, axis=1).reshape(1, -1)


def encoded(
    container: str, codec: str, seconds: float = 1.0, rate: int = 44100, layout: str = "stereo"
) -> bytes:
    """A tone in a file of FFmpeg's making."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as made:
        stream = made.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        samples = tone(seconds, rate, 2 if layout == "stereo" else 1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(
            stream.format, layout, rate, frame_size=stream.frame_size or 1024
        )
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            made.mux(stream.encode(piece))
        made.mux(stream.encode(None))
    return out.getvalue()


FILES = {
    "a.wav": ("audio/wav", encoded("wav", "pcm_s16le")),
    "24.wav": ("", encoded("wav", "pcm_s24le", rate=48000)),
    "ulaw.wav": ("audio/x-wav", encoded("wav", "pcm_mulaw", rate=8000, layout="mono")),
    "a.mp3": ("audio/mpeg", encoded("mp3", "libmp3lame")),
    "8k.mp3": ("text/html", encoded("mp3", "libmp3lame", rate=8000, layout="mono")),
    "a.aiff": ("audio/aiff", encoded("aiff", "pcm_s16be")),
    "a.flac": ("audio/flac", encoded("flac", "flac")),
    "a.ogg": ("audio/ogg", encoded("ogg", "libopus", rate=48000)),
    "a.au": ("audio/basic", encoded("au", "pcm_mulaw", rate=8000, layout="mono")),
    "a.ul": ("", encoded("mulaw", "pcm_mulaw", rate=8000, layout="mono")),
    "a": ("audio/x-mulaw", encoded("mulaw", "pcm_mulaw", rate=8000, layout="mono")),
    "a.alaw": ("", encoded("alaw", "pcm_alaw", rate=8000, layout="mono")),
}


def heard_pitch(path: Path) -> int:
    samples = np.frombuffer(path.read_bytes(), "<i2")[-PROMPT_RATE_HZ:]
    return int(np.abs(np.fft.rfft(samples)).argmax() * PROMPT_RATE_HZ / len(samples))


@pytest.mark.parametrize("name", FILES)
async def test_every_kind_of_audio_is_played(
    studio: Studio, server: WebhookReceiver, name: str
) -> None:
    content_type, body = FILES[name]
    server.default = Answer(200, (("Content-Type", content_type),), body)
    path = await studio.maker().fetch(ACCOUNT, f"{server.url}/{name}")
    assert path.is_absolute()
    assert abs(path.stat().st_size - 2 * PROMPT_RATE_HZ) < 2 * 1200  # MP3 pads its ends
    assert abs(heard_pitch(path) - PITCH) <= 2
    assert studio.left == []


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg, which encodes GSM")
async def test_gsm_as_it_comes_from_telephony(
    studio: Studio, server: WebhookReceiver, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        "ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"sine={PITCH}:r=8000:d=1", "-c:a", "libgsm",
        str(tmp_path / "a.gsm"),
    )  # fmt: skip
    assert await process.wait() == 0
    server.default = Answer(200, body=(tmp_path / "a.gsm").read_bytes())
    path = await studio.maker().fetch(ACCOUNT, f"{server.url}/a.gsm")
    assert abs(heard_pitch(path) - PITCH) <= 2


# What is hostile, or broken


async def refused(studio: Studio, url: str) -> str:
    with pytest.raises(SpeechError) as caught:
        await studio.maker().fetch(ACCOUNT, url)
    assert studio.left == []
    return str(caught.value)


NO_AUDIO = {
    "empty": b"",
    "a page": b"<!doctype html><html>404</html>",
    "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
    "a list of files": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "random": bytes(np.random.default_rng(1).integers(0, 128, 5000, np.uint8)),
}


@pytest.mark.parametrize("name", NO_AUDIO)
async def test_what_is_no_audio_is_refused_at_once(
    studio: Studio, server: WebhookReceiver, name: str
) -> None:
    server.default = Answer(200, (("Content-Type", "audio/mpeg"),), NO_AUDIO[name])
    said = await refused(studio, server.url)
    assert "no audio" in said or "nothing came" in said


DAMAGED = {
    "a header alone": FILES["a.wav"][1][:44],
    "half a header": FILES["a.wav"][1][:20],
    "a picture": b"RIFF\x40\0\0\0WAVEfmt \x10\0\0\0" + b"\xff" * 64,
    "a video in Ogg": encoded("ogg", "libopus", rate=48000)[:200],
    "an ID3 tag of 256 MB": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"\0" * 4000,
    "noise": b"fLaC" + bytes(np.random.default_rng(2).integers(0, 256, 20_000, np.uint8)),
    "no channels": b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\x01\0\0\0"
    + struct.pack("<IIHH", 8000, 0, 0, 16)
    + b"data\x04\0\0\0abcd",
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
async def test_what_is_damaged_is_refused(
    studio: Studio, server: WebhookReceiver, name: str
) -> None:
    server.default = Answer(200, body=DAMAGED[name])
    assert "cannot be played" in await refused(studio, server.url)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.flac"])
async def test_a_file_that_is_cut_off_is_played_as_far_as_it_goes(
    studio: Studio, server: WebhookReceiver, name: str
) -> None:
    server.default = Answer(200, body=FILES[name][1][: len(FILES[name][1]) * 2 // 3])
    path = await studio.maker().fetch(ACCOUNT, server.url)
    assert 0.4 < path.stat().st_size / (2 * PROMPT_RATE_HZ) < 0.8


async def test_a_small_file_of_many_hours_is_given_up(tmp_path: Path) -> None:
    """Less than a megabyte of FLAC that is more than an hour of silence."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as made:
        stream = made.add_stream("flac", rate=8000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        block = av.AudioFrame.from_ndarray(
            np.zeros((1, 4608), np.int16), format="s16", layout="mono"
        )
        block.sample_rate = 8000
        for _ in range(8000 * 3700 // 4608):
            made.mux(stream.encode(block))
        made.mux(stream.encode(None))
    bomb = tmp_path / "bomb.flac"
    bomb.write_bytes(out.getvalue())
    assert bomb.stat().st_size < 1_000_000
    with pytest.raises(SpeechError, match="longer than 60 minutes"):
        await decode(AudioFormat.FLAC, bomb, tmp_path / "out")
    assert (tmp_path / "out").stat().st_size <= 3600 * PROMPT_RATE_HZ * 2


async def test_what_a_url_is_not_allowed_or_not_there_says_why(
    studio: Studio, server: WebhookReceiver
) -> None:
    assert "link-local" in await refused(studio, "http://169.254.169.254/a.wav")
    for url in ("file:///etc/passwd", "a.wav", "/etc/passwd", ""):
        assert "absolute" in await refused(studio, url)
    server.default = Answer(404)
    assert "404" in await refused(studio, server.url)
    server.default = Answer(304)
    assert "304" in await refused(studio, server.url)


async def test_a_file_that_is_too_large_is_not_kept(
    studio: Studio, server: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maker, "MAX_FILE_BYTES", 1_000_000)
    server.default = Answer(200, body=FILES["a.wav"][1][:44] + bytes(1_000_000))
    assert "larger than 1 MB" in await refused(studio, server.url)


# What is remembered


async def test_what_was_fetched_is_fresh_then_asked_about_then_fetched_anew(
    studio: Studio, server: WebhookReceiver
) -> None:
    prompts = studio.maker()
    fresh = (("ETag", '"1"'), ("Cache-Control", "max-age=100"))
    server.answers.append(Answer(200, fresh, FILES["a.wav"][1]))
    first = await prompts.fetch(ACCOUNT, server.url)
    studio.clock.pass_(99)
    assert await prompts.fetch(ACCOUNT, server.url) == first
    assert len(server.received) == 1
    studio.clock.pass_(2)
    server.answers.append(Answer(304, (("Cache-Control", "max-age=100"),)))
    assert await prompts.fetch(ACCOUNT, server.url) == first
    assert server.received[1].header("If-None-Match") == '"1"'
    studio.clock.pass_(99)
    assert await prompts.fetch(ACCOUNT, server.url) == first
    assert len(server.received) == 2
    studio.clock.pass_(2)
    server.answers.append(Answer(200, (), FILES["ulaw.wav"][1]))
    second = await prompts.fetch(ACCOUNT, server.url)
    assert second != first
    assert first.exists()  # it may still be played
    assert len(server.received) == 3


async def test_ten_calls_that_want_the_same_file_ask_once(
    studio: Studio, server: WebhookReceiver
) -> None:
    server.default = Answer(200, body=FILES["a.wav"][1])
    prompts = studio.maker()
    found = await asyncio.gather(*(prompts.fetch(ACCOUNT, server.url) for _ in range(10)))
    assert len(set(found)) == 1
    assert len(server.received) == 1
    await prompts.fetch("0" * 32, server.url)  # another account asks for itself
    assert len(server.received) == 2


async def test_a_prompt_that_is_gone_from_the_disk_is_fetched_again(
    studio: Studio, server: WebhookReceiver
) -> None:
    server.default = Answer(200, (("ETag", '"1"'),), FILES["a.wav"][1])
    prompts = studio.maker()
    (await prompts.fetch(ACCOUNT, server.url)).unlink()
    assert (await prompts.fetch(ACCOUNT, server.url)).exists()  # while it was fresh
    (await prompts.fetch(ACCOUNT, server.url)).unlink()
    studio.clock.pass_(1000)
    server.answers.append(Answer(304))
    assert (await prompts.fetch(ACCOUNT, server.url)).exists()  # though it had not changed
    assert server.received[-1].header("If-None-Match") is None


# Speech


async def test_the_same_text_is_spoken_once_and_is_there_after_a_restart(studio: Studio) -> None:
    engine = Parrot()
    prompts = studio.maker(engine)
    said = await asyncio.gather(
        *(prompts.say("hello  there\n", language="en", voice="man") for _ in range(5))
    )
    again = await studio.maker(engine).say(" hello there", language="en", voice="man")
    assert {*said} == {again}
    assert engine.spoken == ["hello there"]
    assert again.read_bytes() == b"\7\0" * 11
    others = [
        await prompts.say("hello there!", language="en", voice="man"),
        await prompts.say("hello there", language="en", voice="woman"),
        await studio.maker(Parrot(version="2")).say("hello there", language="en", voice="man"),
    ]
    assert len({again, *others}) == 4


async def test_the_first_engine_that_speaks_the_language_does(studio: Studio) -> None:
    german, english = Parrot("de"), Parrot("en")
    prompts = studio.maker(german, english)
    await prompts.say("one", language="en", voice="")
    await prompts.say("zwei", language="de", voice="")
    assert (german.spoken, english.spoken) == (["zwei"], ["one"])
    with pytest.raises(SpeechError, match="only en"):
        await prompts.say("trois", language="fr", voice="")


async def test_what_cannot_be_said_says_why(studio: Studio) -> None:
    with pytest.raises(SpeechError, match="install the program espeak-ng"):
        await studio.maker().say("hello", language="en", voice="")
    for text in ("", " \n\t\0"):
        with pytest.raises(SpeechError, match="nothing to say"):
            await studio.maker(Parrot()).say(text, language="en", voice="")
    with pytest.raises(SpeechError, match="4096 characters"):
        await studio.maker(Parrot()).say("x" * 4097, language="en", voice="")
    assert studio.left == []


@pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs espeak-ng (Debian's package of that name)"
)
async def test_a_greeting_as_a_call_hears_it(studio: Studio) -> None:
    path = await studio.maker(Espeak()).say(
        "Please leave a message after the tone.", language="en-US", voice="Polly.Joanna"
    )
    samples = np.frombuffer(path.read_bytes(), "<i2")
    assert 1.5 < len(samples) / PROMPT_RATE_HZ < 5
    assert np.abs(samples.astype(int)).max() > 3000


# The process that decodes

INTRUDER = """
import resource, socket, sys
from callreel.prompts import decoding

def taken_over(kind, audio, samples):
    for attempt in (lambda: open("/etc/passwd"), socket.socket):
        try:
            attempt()
        except OSError as error:
            samples.write(f"{error.errno} ".encode())
    samples.write(str(resource.getrlimit(resource.RLIMIT_NPROC)).encode())

decoding._load_all = lambda: None
decoding._decode = taken_over
sys.exit(decoding.main(sys.argv[1:]))
"""


async def test_what_takes_over_a_decoder_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x")
    arguments = ["WAV", str(tmp_path / "in"), str(tmp_path / "out")]
    done = await run([sys.executable, "-c", INTRUDER, *arguments], timeout_s=60, max_bytes=10_000)
    assert (done.status, done.complaint) == (0, "")
    no_more_files = str(errno.EMFILE)
    assert (tmp_path / "out").read_text() == f"{no_more_files} {no_more_files} (0, 0)"


async def test_a_program_is_told_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLREEL_BOOTSTRAP_AUTH_TOKEN", "a-secret-token")
    code = "import os; print(sorted(os.environ))"
    done = await run([sys.executable, "-c", code], timeout_s=60, max_bytes=10_000)
    assert b"PATH" in done.output
    assert b"CALLREEL" not in done.output
