"""The sockets of SIP, as the settings want them."""

from __future__ import annotations

import contextlib
from contextlib import AsyncExitStack
from dataclasses import dataclass

from callreel.base.clock import Clock
from callreel.base.errors import MachineError, UsageError
from callreel.server.addresses import Bound, reachable, url_host
from callreel.server.datadir import DataDir
from callreel.server.running import running
from callreel.server.settings import Settings
from callreel.server.tls import Tls, sip_tls_of
from callreel.signalling.user_agent import UserAgent


@dataclass(frozen=True, slots=True)
class SipFront:
    """Where SIP reaches the server."""

    host: str
    """As it was asked for."""
    port: int
    """As it was bound, UDP and TCP."""
    uri: str
    """For whoever calls."""
    secure_uri: str | None = None
    """The same over TLS; None without."""
    secure_port: int = 0
    """0 without TLS."""

    @classmethod
    async def open(
        cls,
        settings: Settings,
        bound: Bound,
        data: DataDir,
        clock: Clock,
        agent: UserAgent,
        stack: AsyncExitStack,
    ) -> SipFront:
        """Listen. Raises ``UsageError`` where an address cannot be had."""
        host, port = await listen_sip(agent, bound.sip(settings.sip_address))
        uri = f"sip:{url_host(settings.public_address or reachable(host))}:{port}"
        if settings.sips_address is None:
            return cls(host, port, uri)
        tls = sip_tls_of(settings, data.tls, clock)
        secure_host, secure_port = await listen_sips(agent, bound.sips(settings.sips_address), tls)
        await stack.enter_async_context(running(tls.watch(), "SIP certificate"))
        secure_host = url_host(settings.public_address or reachable(secure_host))
        secure_uri = f"sip:{secure_host}:{secure_port};transport=tls"
        return cls(host, port, uri, secure_uri, secure_port)


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
