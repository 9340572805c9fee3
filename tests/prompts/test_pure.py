"""Voices, languages, kinds of audio and freshness: what is decided without asking anybody."""

from __future__ import annotations

import doctest

import pytest

from callreel.prompts import engine, freshness as fresh, languages, voices
from callreel.prompts.engine import speakable
from callreel.prompts.formats import AudioFormat, sniffed
from callreel.prompts.freshness import DEFAULT_S, MAX_S, freshness
from callreel.prompts.languages import nearest
from callreel.prompts.voices import Wanted, wanted


@pytest.mark.parametrize("module", [engine, fresh, languages, voices])
def test_the_examples_in_the_docs_hold(module: object) -> None:
    assert doctest.testmod(module) == (0, doctest.testmod(module).attempted)  # type: ignore[arg-type]


ESPEAK = {"en-us", "en-gb", "en-gb-x-rp", "es", "es-419", "fr-fr", "fr-be", "de", "pt", "pt-br",
          "cmn", "yue", "nb", "he", "it", "ar", "fa-latn"}  # fmt: skip


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        ("en-US", "en-us"),
        ("EN_us", "en-us"),
        ("en", "en-us"),
        ("en-AU", "en-gb"),
        ("en-GB-WLS", "en-gb"),
        ("es-ES", "es"),
        ("es-MX", "es-419"),
        ("fr-CA", "fr-fr"),
        ("de-AT", "de"),
        ("pt-BR", "pt-br"),
        ("pt-PT", "pt"),
        ("zh-TW", "cmn"),
        ("zh-Hans-CN", "cmn"),
        ("zh-HK", "yue"),
        ("cmn-CN", "cmn"),
        ("nb-NO", "nb"),
        ("no", "nb"),
        ("arb", "ar"),
        ("fa", "fa-latn"),
        ("tlh", None),
        ("", None),
        ("-", None),
        ("e", None),
    ],
)
def test_the_nearest_language(tag: str, found: str | None) -> None:
    assert nearest(tag, ESPEAK) == found


@pytest.mark.parametrize(
    ("language", "voice", "expected"),
    [
        ("", "", Wanted("en-US", False)),
        ("de-DE", "", Wanted("de-DE", False)),
        ("", "man", Wanted("en-US", True)),
        ("fr-FR", "woman", Wanted("fr-FR", False)),
        ("pt-BR", "alice", Wanted("pt-BR", False)),
        ("", "Polly.Joanna", Wanted("en-US", False)),
        ("", "Polly.Hans", Wanted("de-DE", True)),
        ("", "Polly.Vicki-Neural", Wanted("de-DE", False)),
        ("", "polly.matthew-generative", Wanted("en-US", True)),
        ("", "amazon.Mathieu", Wanted("fr-FR", True)),
        ("en-GB", "Polly.Hans", Wanted("en-GB", True)),
        ("", "Google.de-DE-Wavenet-B", Wanted("de-DE", True)),
        ("", "gcloud.es-US-Neural2-C", Wanted("es-US", False)),
        ("", "whoever; rm -rf /", Wanted("en-US", False)),
    ],
)
def test_what_a_voice_asks_for(language: str, voice: str, expected: Wanted) -> None:
    assert wanted(language, voice) == expected


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("  Hello,\n\tworld ", "Hello, world"),
        ("\x00\x1b[31m\u202e", "[31m"),
        ("[[[[a]]]]", "[ [ [ [a] ] ] ]"),
        ("Grüße, 世界", "Grüße, 世界"),
        (" \n", ""),
    ],
)
def test_a_text_is_no_more_than_text(text: str, spoken: str) -> None:
    assert speakable(text) == spoken
    assert "[[" not in speakable(text)


@pytest.mark.parametrize(
    ("head", "content_type", "url", "found"),
    [
        (b"RIFF\x24\xf0\xff\x7fWAVEfmt ", "", "", AudioFormat.WAV),
        (b"RIFF\x24\xf0\xff\x7fAVI LIST", "audio/wav", "x.wav", None),
        (b"FORM\0\0\0\0AIFCFVER", "", "", AudioFormat.AIFF),
        (b"fLaC\0\0\0\x22", "", "", AudioFormat.FLAC),
        (b"OggS\0\x02", "", "", AudioFormat.OGG),
        (b"ID3\x04\0", "", "", AudioFormat.MP3),
        (b"\xff\xfb\x90\x64", "", "", AudioFormat.MP3),
        (b"\xff\xf3\x40\xc4", "audio/mpeg", "", AudioFormat.MP3),
        (b"\xff\xff\xff\xff", "audio/mpeg", "", None),
        (b"\xff\xff\xff\xff", "audio/basic", "", AudioFormat.ULAW),
        (b".snd\0\0\0\x18", "audio/basic", "", AudioFormat.AU),
        (b"\xd2\x40\0", "audio/x-gsm; x=y", "", AudioFormat.GSM),
        (b"\xd2\x40\0", "application/octet-stream", "http://h/a.GSM?x=.wav", AudioFormat.GSM),
        (b"\x7f\x7f", "", "http://h/hello.ulaw", AudioFormat.ULAW),
        (b"<html>", "text/html", "http://h/a.gsm", None),
        (b"<html>", "text/html", "http://h/a.wav", None),
        (b"#EXTM3U\nhttp://", "audio/mpeg", "http://h/a.mp3", None),
        (b"ffconcat version", "audio/wav", "", None),
        (b"v=0\r\no=- 0 0 IN", "application/sdp", "", None),
        (b"", "audio/basic", "", None),
        (b"", "", "http://[bad", None),
    ],
)
def test_what_a_file_is(
    head: bytes, content_type: str, url: str, found: AudioFormat | None
) -> None:
    assert sniffed(head, content_type, url) is found


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, DEFAULT_S),
        ({"Cache-Control": "max-age=300"}, 300),
        ({"Cache-Control": 'Public, Max-Age="300"', "Age": "200"}, 100),
        ({"Cache-Control": "max-age=300", "Age": "900"}, 0),
        ({"Cache-Control": "max-age=300", "Age": "-5"}, 300),
        ({"Cache-Control": "no-cache, max-age=300"}, 0),
        ({"Cache-Control": "no-store"}, 0),
        ({"Cache-Control": "max-age=999999999"}, MAX_S),
        ({"Cache-Control": "max-age=9999999999999999999"}, MAX_S),
        ({"Cache-Control": "max-age=-1"}, DEFAULT_S),
        ({"Cache-Control": "max-age"}, DEFAULT_S),
        ({"Cache-Control": ";;=,"}, DEFAULT_S),
    ],
)
def test_how_long_it_is_fresh(headers: dict[str, str], seconds: float) -> None:
    assert freshness(headers).seconds == seconds


def test_what_to_ask_with() -> None:
    said = {"ETag": 'W/"a"', "Last-Modified": "Tue, 25 Sep 2018 23:00:00 GMT"}
    assert freshness(said).validators == {
        "If-None-Match": 'W/"a"',
        "If-Modified-Since": "Tue, 25 Sep 2018 23:00:00 GMT",
    }
    for bad in ("", "x" * 501, "a\r\nHost: b", "é"):
        assert freshness({"ETag": bad}).validators == {}
