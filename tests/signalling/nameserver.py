"""A small name server on loopback: authoritative for what the test says, silent if told so."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


class NameServer(asyncio.DatagramProtocol):
    """Answers from :attr:`records`; counts what it is asked."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.silent = False
        self.fails_on: set[str] = set()
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def start(cls) -> NameServer:
        loop = asyncio.get_running_loop()
        _, server = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        return server

    def add(self, name: str, kind: str, *data: str, ttl: int = 60) -> None:
        self.records[name, kind] = (ttl, list(data))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text().rstrip(".").lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked[name, kind] += 1
        if self.silent or self._transport is None:
            return
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA | dns.flags.RA
        if kind in self.fails_on:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in self.records:
            ttl, texts = self.records[name, kind]
            reply.answer.append(dns.rrset.from_text(question.name, ttl, "IN", kind, *texts))
        elif all(known != name for known, _ in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(reply.to_wire(), addr)
