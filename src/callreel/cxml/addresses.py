"""Addresses in documents: what they lead to, and how they are shown."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit, urlunsplit

MAX_URL_CHARS = 4096
_SHOWN_CHARS = 200


def resolve(base: str | None, written: str) -> str | None:
    """The absolute http or https URL that is meant, seen from ``base``; None if there is none."""
    written = written.strip()
    try:
        url = urljoin(base, written) if base else written
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if len(url) > MAX_URL_CHARS or any(ord(char) <= 32 or ord(char) == 127 for char in url):
        return None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or port == 0:
        return None
    return url


def shown(url: str) -> str:
    """An address for people: without credentials, and not too long."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
    except ValueError:
        return "an address that cannot be read"
    return url if len(url) <= _SHOWN_CHARS else f"{url[:_SHOWN_CHARS]}…"
