"""Where a redirect points (RFC 3261 §8.1.3.4, §21.3). No I/O."""

from __future__ import annotations

from callreel.wire.sip.message import Response
from callreel.wire.sip.values import Address, split_list

MAX_TARGETS = 16
"""Contacts of one redirect that are used."""


def redirect_targets(response: Response) -> list[Address]:
    """The Contacts of a 3xx, the most wanted first (q), else as they stand there.

    Those that cannot be called are left out, so the list may be empty.
    """
    found: list[Address] = []
    for value in response.headers.getlist("Contact"):
        try:
            items = split_list(value)
        except ValueError:
            continue
        for item in items:
            try:
                address = Address.parse(item)
            except ValueError:
                continue
            if address.uri.scheme in ("sip", "sips", "tel") and address not in found:
                found.append(address)
    return sorted(found, key=lambda address: -_quality(address))[:MAX_TARGETS]


def _quality(address: Address) -> float:
    """The q parameter, from 0 to 1; 1 where there is none."""
    try:
        quality = float(address.parameters.get("q") or 1.0)
    except ValueError:
        return 0.0
    return min(max(quality, 0.0), 1.0) if quality == quality else 0.0
