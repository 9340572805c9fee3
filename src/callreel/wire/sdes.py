"""Keys of SRTP in session descriptions: ``a=crypto`` (SDES, RFC 4568; AEAD suites: RFC 7714).

A line says with which key its writer protects what it sends. Lines that ask for what we cannot do
(several keys, unencrypted packets, key derivation rates…) are not usable and are passed over.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import re
from collections.abc import Iterable

from callreel.base.errors import PeerError

MAX_LINES = 16
"""Lines of one stream that are looked at."""
MAX_LINE_CHARACTERS = 512
MAX_MKI_BYTES = 128
_MAX_LIFETIME = 1 << 48

_LINE = re.compile(r"([0-9]{1,9})\s+([A-Za-z0-9_-]{1,64})\s+(\S+)((?:\s+\S+)*)\s*")
_INLINE = re.compile(
    r"inline:(?P<key>[A-Za-z0-9+/]+={0,2})"
    r"(?:\|(?P<lifetime>(?:2\^)?[0-9]{1,15}))?"
    r"(?:\|(?P<mki>[0-9]{1,39}):(?P<mki_bytes>[0-9]{1,3}))?",
    re.IGNORECASE,
)


class Suite(enum.Enum):
    """What protects the packets: cipher and authentication."""

    AES_CM_128_HMAC_SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    AES_CM_128_HMAC_SHA1_32 = "AES_CM_128_HMAC_SHA1_32"
    AEAD_AES_128_GCM = "AEAD_AES_128_GCM"
    AEAD_AES_256_GCM = "AEAD_AES_256_GCM"

    @property
    def key_bytes(self) -> int:
        """Length of master key and master salt together (RFC 4568 §6.2, RFC 7714 §12)."""
        return {Suite.AEAD_AES_128_GCM: 28, Suite.AEAD_AES_256_GCM: 44}.get(self, 30)

    @property
    def tag_bytes(self) -> int:
        """Length of the authentication tag of an SRTP packet."""
        sizes = {Suite.AES_CM_128_HMAC_SHA1_80: 10, Suite.AES_CM_128_HMAC_SHA1_32: 4}
        return sizes.get(self, 16)


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """What one side protects its packets with."""

    suite: Suite
    """How."""
    master: bytes = dataclasses.field(repr=False)
    """Master key and master salt; ``suite.key_bytes``."""
    mki: bytes = b""
    """Master key identifier, in every packet (RFC 3711 §3.1); empty for none."""

    def __post_init__(self) -> None:
        if len(self.master) != self.suite.key_bytes or len(self.mki) > MAX_MKI_BYTES:
            raise ValueError(f"not a key of {self.suite.value}")


@dataclasses.dataclass(frozen=True, slots=True)
class Crypto:
    """One usable ``a=crypto`` line."""

    tag: int
    """Its number: an answer has that of the line it takes."""
    key: Key
    """The one key that it gives."""
    lifetime: str = ""
    """For how many packets the key is good, as written; empty where it is not said."""

    @classmethod
    def parse(cls, text: str) -> Crypto:
        """Read the value of the attribute. Raises ``PeerError`` (488) if it is not usable."""
        match = _LINE.fullmatch(text) if len(text) <= MAX_LINE_CHARACTERS else None
        if match is None:
            raise PeerError("a crypto attribute that is not valid", status=488)
        try:
            suite = Suite(match[2].upper())
        except ValueError:
            raise PeerError(f"crypto suite {match[2]} is not known", status=488) from None
        for parameter in match[4].split():
            _check_parameter(parameter)
        if ";" in match[3]:
            raise PeerError("a crypto attribute with more than one key", status=488)
        inline = _INLINE.fullmatch(match[3])
        if inline is None:
            raise PeerError("a crypto attribute with a key that is not valid", status=488)
        return cls(int(match[1]), _key(suite, inline), _lifetime(inline["lifetime"]))

    def serialize(self) -> str:
        """The value of the attribute."""
        text = f"{self.tag} {self.key.suite.value} inline:"
        text += base64.b64encode(self.key.master).decode()
        if self.lifetime:
            text += f"|{self.lifetime}"
        if self.key.mki:
            text += f"|{int.from_bytes(self.key.mki, 'big')}:{len(self.key.mki)}"
        return text


def usable(attributes: Iterable[tuple[str, str | None]]) -> tuple[Crypto, ...]:
    """The usable lines of a stream, in their writer's order, one for each tag."""
    found: dict[int, Crypto] = {}
    lines = [value or "" for name, value in attributes if name.lower() == "crypto"]
    for line in lines[:MAX_LINES]:
        try:
            one = Crypto.parse(line)
        except PeerError:
            continue
        found.setdefault(one.tag, one)
    return tuple(found.values())


def is_secure(protocol: str) -> bool:
    """Whether a transport of SDP is SRTP keyed by SDES: ``RTP/SAVP`` or ``RTP/SAVPF``."""
    return protocol.upper() in ("RTP/SAVP", "RTP/SAVPF")


def _check_parameter(text: str) -> None:
    """Session parameters (RFC 4568 §6.3): most change what packets look like."""
    name = text.partition("=")[0].upper()
    # How far packets may be out of order; and what its writer says may be ignored.
    if name == "WSH" or text.startswith("-") or text.upper() == "KDR=0":
        return
    raise PeerError(f"session parameter {name[:32]} of a crypto attribute", status=488)


def _key(suite: Suite, inline: re.Match[str]) -> Key:
    text = inline["key"].rstrip("=")
    try:
        # Some leave the padding out.
        master = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        mki = b""
        if inline["mki"] is not None:
            length = int(inline["mki_bytes"])
            if not 1 <= length <= MAX_MKI_BYTES:
                raise ValueError("length of an MKI")
            mki = int(inline["mki"]).to_bytes(length, "big")
        return Key(suite, master, mki)
    except (binascii.Error, ValueError, OverflowError):
        raise PeerError(f"a key that is none of {suite.value}", status=488) from None


def _lifetime(text: str | None) -> str:
    if text is None:
        return ""
    power = text.startswith("2^")
    number = int(text.removeprefix("2^"))
    if (power and number > 48) or not 1 <= (1 << number if power else number) <= _MAX_LIFETIME:
        raise PeerError("lifetime of a key", status=488)
    return text
