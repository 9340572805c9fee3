"""Secrets at rest: AES-256-GCM with a key derived from the server's key file."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from callreel.base.errors import MachineError

_NONCE_BYTES = 12


class Seal:
    """Seals and opens short texts. A sealed value is nonce, ciphertext and tag in one."""

    def __init__(self, server_key: bytes) -> None:
        derived = HKDF(SHA256(), length=32, salt=None, info=b"callreel store").derive(server_key)
        self._aead = AESGCM(derived)

    def seal(self, text: str) -> bytes:
        """Encrypt ``text``; the same text gives other bytes each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, text.encode(), None)

    def open(self, sealed: bytes) -> str:
        """Decrypt. Raises ``MachineError`` if this server's key did not seal it."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None).decode()
        except InvalidTag:
            raise MachineError(
                "a stored secret does not open with this server's key",
                hint="restore the file server.key that belongs to this database",
            ) from None
