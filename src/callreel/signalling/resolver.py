"""From a URI to the addresses to try, by the DNS (RFC 3263). What to ask and in what order to use
the answers is decided in ``wire.sip.locate``; here it is asked, remembered and bounded.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.signalling.transport import plain_host
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.locate import (
    MAX_FLOWS,
    Naptr,
    Reachability,
    Service,
    Srv,
    Target,
    order_servers,
    parse_hosts,
    services_by_name,
    services_by_naptr,
)
from callreel.wire.sip.values import URI

logger = logging.getLogger("callreel.signalling")

MAX_CACHED = 1_024
"""Answers that are remembered."""
MAX_ADDRESSES = 16
"""Addresses of one name that are used."""
MAX_TTL_SECONDS = 86_400.0
"""No answer is remembered for longer."""
MAX_NEGATIVE_SECONDS = 30.0
"""That there is nothing is remembered no longer than this."""
QUERY_SECONDS = 3.0
"""For one question, over all nameservers."""
TOTAL_SECONDS = 10.0
"""For one URI."""
MAX_UNDER_WAY = 256
"""Questions under way at a time: hosts that peers name are looked up too."""
HOSTS_FILE = Path("/etc/hosts")

_LOCALHOST = ("127.0.0.1", "::1")  # RFC 6761 §6.3: never asked


@dataclasses.dataclass(frozen=True, slots=True)
class _Answer:
    """What was learnt of one name and type."""

    records: tuple[Any, ...]
    """Naptr, Srv or addresses; empty if there are none."""
    expires: float
    """When to ask anew, monotonic seconds."""


class Resolver:
    """Finds the ways to a URI's host.

    ``nameservers`` (addresses) and ``port`` replace those of the system. A name in the hosts file
    is taken from there and nothing is asked. ``fraction`` gives random numbers from 0 up to 1, for
    the shares of SRV records.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        fraction: Callable[[], float],
        nameservers: Sequence[str] | None = None,
        port: int = 53,
        hosts_file: Path = HOSTS_FILE,
    ) -> None:
        self._clock = clock
        self._fraction = fraction
        self._nameservers = nameservers
        self._port = port
        self._hosts_file = hosts_file
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._hosts_stamp: tuple[int, int] | None = None
        self._dns: dns.asyncresolver.Resolver | None = None
        self._without_dns = False
        self._cache: dict[tuple[str, str], _Answer] = {}
        self._under_way: dict[tuple[str, str], asyncio.Task[tuple[Any, ...]]] = {}
        self._reachability = Reachability()

    async def locate(
        self,
        uri: URI,
        transport: Transport | None = None,
        *,
        spoken: Sequence[Transport] = tuple(Transport),
        families: Callable[[Flow], bool] = lambda flow: True,
    ) -> list[Flow]:
        """The flows to try for ``uri``, in order; those that failed lately are last.

        ``transport`` wins over the URI's. ``spoken`` are the transports to choose from where the
        URI leaves that open; flows for which ``families`` is False are left out, unless nothing
        else is left. Raises PeerError (416, 503).
        """
        target = Target.of(uri, transport)
        if target.is_address:
            return [target.flow(plain_host(target.host))]
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                flows = await self._flows(target, spoken)
        except TimeoutError:
            raise PeerError(f"{target.host}: the DNS does not answer", status=503) from None
        if not flows:
            raise PeerError(f"{target.host} cannot be resolved", status=503)
        usable = [flow for flow in flows if families(flow)] or flows
        return self._reachability.sort(usable[:MAX_FLOWS], now=self._clock.monotonic())

    def failed(self, flow: Flow) -> None:
        """A request over ``flow`` failed: it is tried last for a while (RFC 3263 §4.3)."""
        self._reachability.failed(flow, now=self._clock.monotonic())

    def succeeded(self, flow: Flow) -> None:
        """A request over ``flow`` was answered."""
        self._reachability.succeeded(flow)

    async def close(self) -> None:
        """Give up what is being asked."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # RFC 3263 §4

    async def _flows(self, target: Target, spoken: Sequence[Transport]) -> list[Flow]:
        known = self._known(target.host)
        if known or target.port is not None:
            addresses = known or await self._addresses(target.host)
            return [target.flow(address) for address in addresses]
        services: list[Service] = []
        if target.transport is None or target.secure:
            naptrs = await self._ask(target.host, "NAPTR")
            services = services_by_naptr(naptrs, target, spoken)
        services = services or services_by_name(target, spoken)
        flows: list[Flow] = []
        for per_service in await asyncio.gather(
            *(self._servers(target, service) for service in services)
        ):
            flows += [flow for flow in per_service if flow not in flows]
        if not flows:
            flows = [target.flow(address) for address in await self._addresses(target.host)]
        return flows

    async def _servers(self, target: Target, service: Service) -> list[Flow]:
        records = order_servers(await self._ask(service.name, "SRV"), self._fraction)
        hosts = [record.target.rstrip(".").lower() for record in records]
        found = await asyncio.gather(*(self._addresses(host) for host in hosts))
        return [
            target.flow(address, record.port, service.transport)
            for record, addresses in zip(records, found, strict=True)
            for address in addresses
        ]

    async def _addresses(self, host: str) -> Sequence[str]:
        """IPv4 before IPv6: that is what media is most likely to be spoken over too."""
        known = self._known(host)
        if known:
            return known
        four, six = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"))
        if self._without_dns:
            return await self._ask_system(host)
        return [*four[:MAX_ADDRESSES], *six[:MAX_ADDRESSES]]

    def _known(self, host: str) -> Sequence[str]:
        try:
            state = os.stat(self._hosts_file)
            stamp = (state.st_mtime_ns, state.st_size)
            if stamp != self._hosts_stamp:
                self._hosts = parse_hosts(self._hosts_file.read_text(errors="replace"))
                self._hosts_stamp = stamp
        except OSError:
            self._hosts, self._hosts_stamp = {}, None
        found = self._hosts.get(host, ())
        if not found and (host == "localhost" or host.endswith(".localhost")):
            return _LOCALHOST
        return sorted(found, key=lambda address: ":" in address)

    # Questions

    async def _ask(self, name: str, kind: str) -> tuple[Any, ...]:
        """The records of ``name``, from memory if possible; none if there are none."""
        key = (name, kind)
        known = self._cache.get(key)
        if known is not None and known.expires > self._clock.monotonic():
            return known.records
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= MAX_UNDER_WAY:
                raise PeerError("too many names are being looked up", status=503)
            task = asyncio.get_running_loop().create_task(self._ask_dns(name, kind))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _ask_dns(self, name: str, kind: str) -> tuple[Any, ...]:
        resolver = self._resolver()
        if resolver is None:
            return ()
        try:
            answer = await resolver.resolve(
                name, kind, raise_on_no_answer=False, lifetime=QUERY_SECONDS, search=False
            )
            records = _read(answer.rrset or (), kind)
            ttl = float(answer.chaining_result.minimum_ttl)
        except dns.resolver.NXDOMAIN:
            records, ttl = (), MAX_NEGATIVE_SECONDS
        except (dns.exception.DNSException, OSError, ValueError) as error:
            # Servers that fail on a kind of record they do not know are common; what is not
            # answered is not there, but asked again the next time.
            logger.info("%s %s: %s", kind, name, error)
            return ()
        limit = MAX_TTL_SECONDS if records else MAX_NEGATIVE_SECONDS
        self._remember((name, kind), records, min(ttl, limit))
        return records

    def _remember(self, key: tuple[str, str], records: tuple[Any, ...], seconds: float) -> None:
        if seconds <= 0:
            return
        self._cache.pop(key, None)
        while len(self._cache) >= MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = _Answer(records, self._clock.monotonic() + seconds)

    def _resolver(self) -> dns.asyncresolver.Resolver | None:
        if self._dns is None and not self._without_dns:
            try:
                self._dns = dns.asyncresolver.Resolver(configure=self._nameservers is None)
            except dns.exception.DNSException as error:
                logger.warning("no nameserver is configured: %s", error)
                self._without_dns = True
                return None
            if self._nameservers is not None:
                self._dns.nameservers = list(self._nameservers)
            self._dns.port = self._port
        return self._dns

    async def _ask_system(self, host: str) -> Sequence[str]:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
        except (OSError, UnicodeError):
            return ()
        addresses = dict.fromkeys(plain_host(str(one[4][0])) for one in found)
        return sorted(addresses, key=lambda address: ":" in address)


def _read(records: Iterable[Any], kind: str) -> tuple[Any, ...]:
    """DNS records as values of ours."""
    if kind == "NAPTR":
        return tuple(
            Naptr(
                one.order,
                one.preference,
                one.flags.decode("latin-1"),
                one.service.decode("latin-1"),
                one.replacement.to_text(),
            )
            for one in records
        )
    if kind == "SRV":
        return tuple(
            Srv(one.priority, one.weight, one.port, one.target.to_text()) for one in records
        )
    return tuple(plain_host(one.address) for one in records)
