"""Which kind of audio a file is, by its first bytes, else by what its server calls it. Pure.

FFmpeg is told the kind and never left to find out: among the kinds it knows are some that make it
open other files and addresses.
"""

from __future__ import annotations

from enum import Enum
from urllib.parse import urlsplit


class AudioFormat(Enum):
    """The kinds that can be played, by FFmpeg's names."""

    WAV = "wav"
    MP3 = "mp3"
    AIFF = "aiff"
    FLAC = "flac"
    OGG = "ogg"
    AU = "au"
    GSM = "gsm"
    ULAW = "mulaw"
    ALAW = "alaw"


HEAD_BYTES = 16
"""How much of a file tells what it is."""

CODECS = frozenset(
    {
        "adpcm_ima_wav", "adpcm_ms", "flac", "gsm", "gsm_ms", "mp2", "mp2float", "mp3", "mp3float",
        "opus", "libopus", "pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_mulaw", "pcm_s16be",
        "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8",
        "vorbis", "g722", "adpcm_g722",
    }
)  # fmt: skip
"""The decoders that files may ask for."""

_RAW_TYPES = {
    "audio/gsm": AudioFormat.GSM,
    "audio/x-gsm": AudioFormat.GSM,
    "audio/basic": AudioFormat.ULAW,
    "audio/ulaw": AudioFormat.ULAW,
    "audio/mulaw": AudioFormat.ULAW,
    "audio/x-mulaw": AudioFormat.ULAW,
    "audio/pcmu": AudioFormat.ULAW,
    "audio/alaw": AudioFormat.ALAW,
    "audio/x-alaw": AudioFormat.ALAW,
    "audio/pcma": AudioFormat.ALAW,
}
_RAW_ENDINGS = {
    "gsm": AudioFormat.GSM,
    "ul": AudioFormat.ULAW,
    "ulaw": AudioFormat.ULAW,
    "al": AudioFormat.ALAW,
    "alaw": AudioFormat.ALAW,
}


def sniffed(head: bytes, content_type: str, url: str) -> AudioFormat | None:
    """The kind of a file that begins with ``head``, or None if it is no audio that we play."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return AudioFormat.WAV
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AudioFormat.AIFF
    for magic, found in ((b"fLaC", AudioFormat.FLAC), (b"OggS", AudioFormat.OGG),
                         (b".snd", AudioFormat.AU), (b"ID3", AudioFormat.MP3)):  # fmt: skip
        if head.startswith(magic):
            return found
    media_type = content_type.partition(";")[0].strip().lower()
    raw = _RAW_TYPES.get(media_type)
    if raw is None and not media_type.startswith("text/"):
        try:
            ending = urlsplit(url).path.rpartition(".")[2].lower()
        except ValueError:
            ending = ""
        raw = _RAW_ENDINGS.get(ending)
    if raw is not None:
        return raw if head else None
    # A frame of MPEG audio: eleven bits set, a version, a layer and a bit rate that exist.
    if len(head) >= 3 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        version, layer, bit_rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4
        if version != 1 and layer != 0 and bit_rate not in (0, 15):
            return AudioFormat.MP3
    return None
