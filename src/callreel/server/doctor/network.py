"""Ports: those to listen on, and those for media."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from callreel.server.datadir import DataDir
from callreel.server.doctor.finding import Finding, fail, ok, warn
from callreel.server.settings import Settings

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
MANY = 0.01
"""A share of media ports that others may have taken."""


def listening(settings: Settings) -> Iterator[Finding]:
    """Whether the server's addresses can be had, unless it has them already."""
    if _is_serving(settings):
        yield ok("ports", "a server of this data folder is running, and has them")
        return
    udp, tcp = socket.SOCK_DGRAM, socket.SOCK_STREAM
    wanted = [
        ("http", settings.http_address, tcp, "TCP"),
        ("https", settings.https_address, tcp, "TCP"),
        ("sip", settings.sip_address, udp, "UDP"),
        ("sip", settings.sip_address, tcp, "TCP"),
        ("sips", settings.sips_address, tcp, "TCP"),
    ]
    for name, address, kind, protocol in wanted:
        if address is None:
            continue
        what = f"{name}: {address[0]}, port {address[1]}, {protocol}"
        reason = refusal(*address, kind)
        if reason is None:
            yield ok("ports", f"{what} is free")
        else:
            yield fail("ports", f"{what}: {reason}", f"choose another with {name}")


def refusal(host: str, port: int, kind: socket.SocketKind) -> str | None:
    """Why an address cannot be listened on, or None."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as sock:
        if kind is socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            return "another program has it" if taken else str(error.strerror)
    return None


def media_ports(settings: Settings) -> Iterator[Finding]:
    """Whether media ports are free, and stay free."""
    low, high = settings.port_range
    text = f"{low}-{high}"
    overlap = overlapping(low, high, _EPHEMERAL.read_text(), _RESERVED.read_text())
    if overlap is not None:
        yield warn(
            "media ports",
            f"{text}: the kernel gives {overlap[0]}-{overlap[1]} to any program that asks for a "
            "port",
            f"choose others with rtp_ports, or sysctl -w net.ipv4.ip_local_reserved_ports={text}",
        )
    if _is_serving(settings):
        return
    host = settings.sip_address[0]
    taken = sum(refusal(host, port, socket.SOCK_DGRAM) is not None for port in range(low, high + 1))
    if taken > MANY * (high - low + 1):
        yield warn(
            "media ports",
            f"{text}: {taken} of them cannot be had on {host}",
            "choose others with rtp_ports",
        )
    elif overlap is None:
        yield ok("media ports", f"{text}, {high - low + 1 - taken} of them free")


def overlapping(low: int, high: int, ephemeral: str, reserved: str) -> tuple[int, int] | None:
    """Which of our ports the kernel would give away, from the texts of its settings. Pure."""
    first, last = (int(one) for one in ephemeral.split())
    first, last = max(low, first), min(high, last)
    if first > last:
        return None
    kept: set[int] = set()
    for part in filter(None, reserved.strip().split(",")):
        begin, _, end = part.partition("-")
        kept.update(range(int(begin), int(end or begin) + 1))
    left = [port for port in range(first, last + 1) if port not in kept]
    return (left[0], left[-1]) if left else None


def _is_serving(settings: Settings) -> bool:
    """Whether somebody holds the lock of the data folder."""
    data = DataDir(settings.data.absolute())
    if not (data.root / "lock").exists():
        return False
    with contextlib.suppress(OSError):
        lock = data.try_lock()
        if lock is None:
            return True
        os.close(lock)
    return False
