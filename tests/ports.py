"""Ports that nobody has, of 127.0.0.1."""

from __future__ import annotations

import itertools
import os
import socket

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Which one this is of those that share the tests."""
_next = itertools.count(61_000 + WORKER % 4 * 1100 + os.getpid() % 50 * 8, 2)
"""Above those that the kernel gives away. Those who test at the same time begin far from each
other, for a port that is free now may be told to somebody who takes it only later."""


def free_port_pair() -> int:
    """An even port that, like the one above it, is free for UDP and TCP alike.

    Not of the kernel's choosing: those it would soon give to somebody else.
    """
    for port in _next:
        assert port < 65_500, "no ports are left"
        if all(_is_free(one) for one in (port, port + 1)):
            return port
    raise AssertionError("unreachable")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
