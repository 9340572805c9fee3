"""New keys for SRTP."""

from __future__ import annotations

import secrets

from callreel.wire.sdes import Key, Suite


def random_key(suite: Suite) -> Key:
    """One that nobody has had."""
    return Key(suite, secrets.token_bytes(suite.key_bytes))
