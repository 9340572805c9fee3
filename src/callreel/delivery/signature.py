"""The signature by which a receiver knows that a webhook is ours (contract §12.4). No I/O.

``base64(HMAC-SHA1(key, URL + name + value + name + value …))``, names in byte order, UTF-8. SHA-1
is what the vendors' validators compute; as a keyed HMAC it is still sound.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

TWILIO_HEADER = "X-Twilio-Signature"
SIGNALWIRE_HEADER = "X-SignalWire-Signature"


def sign(key: str, url: str, fields: Mapping[str, str]) -> str:
    """The value of both signature headers.

    ``url`` is the one requested, port and userinfo as sent; a fragment, which is never sent, is
    left out. ``fields`` are those of a POST form; for GET, whose fields are in the URL, none.
    """
    text = url.partition("#")[0] + "".join(
        name + fields[name] for name in sorted(fields, key=lambda name: name.encode())
    )
    digest = hmac.digest(key.encode(), text.encode(), hashlib.sha1)
    return base64.b64encode(digest).decode()
