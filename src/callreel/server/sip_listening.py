"""The sockets of SIP, as the settings want them."""

from __future__ import annotations

import contextlib

from callreel.base.errors import MachineError, UsageError
from callreel.server.tls import Tls
from callreel.signalling.user_agent import UserAgent


async def listen_sips(agent: UserAgent, address: tuple[str, int], tls: Tls) -> tuple[str, int]:
    """SIP over TLS. Raises ``UsageError`` where the address cannot be had."""
    try:
        return await agent.listen_tls(*address, context=tls.context)
    except MachineError as error:
        raise UsageError(f"{error}; choose another address with sips") from None


async def listen_sip(agent: UserAgent, address: tuple[str, int]) -> tuple[str, int]:
    """UDP and TCP on the same port; where any will do, one that is free for both.

    ``::`` is every address of either family. Raises ``UsageError`` where the address cannot be had.
    """
    host, port = address
    for _ in range(20):
        try:
            local = await agent.listen_tcp(host, port)
            bound = await agent.listen_udp(host, local[1])
        except MachineError as error:
            if port:
                raise UsageError(f"{error}; choose another address with --sip") from None
            continue
        if host == "::":
            with contextlib.suppress(MachineError):  # a machine without IPv4
                await agent.listen_tcp("0.0.0.0", bound[1])
                await agent.listen_udp("0.0.0.0", bound[1])
        return bound
    raise UsageError("no port is free for SIP over both UDP and TCP")
