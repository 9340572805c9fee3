"""Addresses that a server tells others, from those that it was told to bind."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from contextlib import suppress
from pathlib import Path

from callreel.base.errors import UsageError

_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_MAX_HOST_NAME = 253


def reachable(host: str) -> str:
    """``host``, or where that means all addresses, the one by which packets leave this machine."""
    if host not in ("0.0.0.0", "::"):
        return host
    family = socket.AF_INET6 if host == "::" else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:  # connecting a datagram socket sends nothing
            probe.connect(("192.0.2.1" if family == socket.AF_INET else "2001:db8::1", 9))
            found: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.1" if family == socket.AF_INET else "::1"
    return found


def loopback(host: str) -> str:
    """Where this machine reaches itself, listening on ``host``."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host


def url_host(host: str) -> str:
    """A host as it stands in a URL: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def host_name(text: str) -> str:
    """A host as a certificate names it, in its one spelling. Raises ``ValueError``."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(text))
    if len(text) > _MAX_HOST_NAME or not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is neither a host name, in ASCII, nor an IP address")
    return text.lower()


def bind_tcp(address: tuple[str, int], *, option: str = "--http") -> socket.socket:
    """A listening socket for the API. Raises ``UsageError`` where the address cannot be had."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise UsageError(
            f"the API cannot listen on {host}:{port}: {error.strerror}; choose with {option}"
        ) from None
    listening.listen(1024)
    return listening


class Bound:
    """Ports that were taken when any would do.

    A control process that is started anew takes the same ones, since peers and programs know them
    by now. ``runtime`` goes when the server ends.
    """

    def __init__(self, runtime: Path) -> None:
        self._file = runtime / "bound.json"
        self._ports: dict[str, int] = {}
        if self._file.exists():
            self._ports = json.loads(self._file.read_text())

    def http(self, address: tuple[str, int]) -> tuple[str, int]:
        """Where the API is to listen."""
        return address[0], address[1] or self._ports.get("http", 0)

    def https(self, address: tuple[str, int]) -> tuple[str, int]:
        """Where the API is to listen with TLS."""
        return address[0], address[1] or self._ports.get("https", 0)

    def sip(self, address: tuple[str, int]) -> tuple[str, int]:
        """Where SIP is to listen."""
        return address[0], address[1] or self._ports.get("sip", 0)

    def sips(self, address: tuple[str, int]) -> tuple[str, int]:
        """Where SIP is to listen with TLS."""
        return address[0], address[1] or self._ports.get("sips", 0)

    def note(self, *, http_port: int, https_port: int, sip_port: int, sips_port: int) -> None:
        """These were taken; 0 for none. Appears whole."""
        fresh = self._file.with_suffix(".new")
        ports = {"http": http_port, "https": https_port, "sip": sip_port, "sips": sips_port}
        fresh.write_text(json.dumps(ports))
        fresh.rename(self._file)
