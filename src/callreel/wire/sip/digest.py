"""Digest access authentication: the arithmetic (RFC 7616 §3.4, RFC 3261 §22.4, RFC 8760). Pure.

Both sides compute the same: a hash over who asks (A1), what for (A2) and a nonce. User names and
passwords are UTF-8 in normal form C, which for ASCII is what every peer does anyway.
"""

from __future__ import annotations

import enum
import hashlib
import unicodedata
from dataclasses import dataclass


class Algorithm(enum.StrEnum):
    """The algorithms known, spelt as in the header field. All others are ignored."""

    MD5 = "MD5"
    MD5_SESS = "MD5-sess"
    SHA_256 = "SHA-256"
    SHA_256_SESS = "SHA-256-sess"

    @classmethod
    def named(cls, name: str | None) -> Algorithm | None:
        """The algorithm of that name, in any case; without a name it is MD5 (RFC 7616 §3.3)."""
        if name is None:
            return cls.MD5
        return next((one for one in cls if one.value.lower() == name.lower()), None)

    @property
    def base(self) -> Algorithm:
        """The same without ``-sess``: under this one the HA1 of a user is kept."""
        return Algorithm.MD5 if self.value.startswith("MD5") else Algorithm.SHA_256

    @property
    def is_session(self) -> bool:
        """True for the ``-sess`` kind, whose A1 holds nonce and cnonce too."""
        return self.value.endswith("-sess")

    @property
    def strength(self) -> int:
        """Greater is stronger."""
        return 0 if self.base is Algorithm.MD5 else 1

    def hash(self, data: bytes) -> str:
        """The hash of ``data``, lower-case hex."""
        if self.base is Algorithm.MD5:
            return hashlib.md5(data, usedforsecurity=False).hexdigest()
        return hashlib.sha256(data).hexdigest()


def hash_a1(algorithm: Algorithm, username: str, realm: str, password: str) -> str:
    """H(username:realm:password): all that a server need know of a password, for this realm.

    It is worth as much as the password within the realm, so keep it as secret.
    """
    text = f"{_normal(username)}:{realm}:{_normal(password)}"
    return algorithm.hash(_encode(text))


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a digest is computed over, besides the secret."""

    algorithm: Algorithm
    """The algorithm."""
    nonce: str
    """The server's nonce."""
    method: str
    """The request's method."""
    uri: str
    """The digest-uri, as it stands in the header field."""
    body: bytes = b""
    """The body; only ``auth-int`` looks at it."""
    qop: str | None = None
    """``auth``, ``auth-int``, or None for a peer of RFC 2069."""
    nonce_count: str = ""
    """``nc``, eight hex digits as sent; unused without qop."""
    cnonce: str = ""
    """The client's nonce."""

    def response(self, ha1: str) -> str:
        """The response to the challenge, for the HA1 of :func:`hash_a1`."""
        hashed = self.algorithm.hash
        if self.algorithm.is_session:
            ha1 = hashed(_encode(f"{ha1}:{self.nonce}:{self.cnonce}"))
        a2 = f"{self.method}:{self.uri}"
        if self.qop == "auth-int":
            a2 = f"{a2}:{hashed(self.body)}"
        ha2 = hashed(_encode(a2))
        if self.qop is None:
            return hashed(_encode(f"{ha1}:{self.nonce}:{ha2}"))
        return hashed(
            _encode(f"{ha1}:{self.nonce}:{self.nonce_count}:{self.cnonce}:{self.qop}:{ha2}")
        )


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
