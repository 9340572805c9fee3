"""The keys of SRTP in a journal: sealed, so that a journal alone tells nothing.

A journal holds SRTP as it came, ciphertext. The key to it stands in the stream's description,
sealed with AES-256-GCM under a key that is derived from the server's key file. The control process
seals, the render process opens; whoever has a disk or a backup without ``server.key`` hears
nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from callreel.base.errors import MachineError
from callreel.wire.sdes import Key, Suite

_NONCE_BYTES = 12
_PURPOSE = b"callreel journal keys"


@dataclass(frozen=True, slots=True)
class JournalSeal:
    """Seals the keys of streams, and opens them."""

    secret: bytes = field(repr=False)
    """32 bytes; see :meth:`of`."""

    @classmethod
    def of(cls, server_key: bytes) -> JournalSeal:
        """The one of a server."""
        return cls(HKDF(SHA256(), length=32, salt=None, info=_PURPOSE).derive(server_key))

    def seal(self, key: Key) -> str:
        """A key as a journal holds it: base64 of nonce, ciphertext and tag."""
        told = {
            "suite": key.suite.value,
            "key": base64.b64encode(key.master).decode(),
            "mki": key.mki.hex(),
        }
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self.secret).encrypt(nonce, json.dumps(told).encode(), _PURPOSE)
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str) -> Key:
        """The key. Raises ``MachineError`` if this server's key did not seal it."""
        try:
            data = base64.b64decode(sealed, validate=True)
            told = json.loads(
                AESGCM(self.secret).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _PURPOSE)
            )
            return Key(
                Suite(told["suite"]), base64.b64decode(told["key"]), bytes.fromhex(told["mki"])
            )
        except (InvalidTag, binascii.Error, ValueError, KeyError, TypeError):
            raise MachineError(
                "the keys in a journal do not open with this server's key",
                hint="restore the file server.key that belongs to these journals",
            ) from None
