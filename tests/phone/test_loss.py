"""Packets that a network loses, doubles and holds up are told in the summaries."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable
from pathlib import Path

from callreel.wire.rtp import RtpPacket
from tests.phone.phones import Phones, seconds, spans, talk

Address = tuple[str, int]


class RtpRelay:
    """A port that passes packets on to ``target``, ``rule`` saying how many of each."""

    def __init__(self, rule: Callable[[RtpPacket], int]) -> None:
        self._rule = rule
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        self.target: Address | None = None
        self.port: int = self._socket.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._socket, self._pass)

    def _pass(self) -> None:
        data = self._socket.recv(2048)
        if self.target is not None:
            for _ in range(self._rule(RtpPacket.parse(data))):
                self._socket.sendto(data, self.target)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


async def test_lost_and_doubled_packets_are_told(phones: Phones, tmp_path: Path) -> None:
    seen: list[int] = []

    def rule(packet: RtpPacket) -> int:
        seen.append(packet.sequence)
        number = len(seen)
        return 0 if 20 <= number < 30 or number == 40 else 2 if number == 45 else 1

    relay = RtpRelay(rule)
    a = await phones.make(talk("tone:440"))
    b = await phones.make(talk("tone:880", tmp_path / "b.wav"), takes_calls=True)
    dialling = asyncio.create_task(a.call(b.uri()))
    theirs = await b.next_call()
    b.answer(theirs)
    call = await dialling
    # Our own sending end is bent: the relay stands between a's packets and b.
    assert call.media is not None
    assert call.negotiation is not None
    agreed = call.negotiation.agreed
    assert agreed is not None
    relay.target = agreed.remote
    call.media.aim(
        dataclasses.replace(agreed, remote=("127.0.0.1", relay.port)), signalling_host="127.0.0.1"
    )
    await asyncio.sleep(1.3)
    await a.hang_up(call)
    await asyncio.wait_for(theirs.ended.wait(), 2)
    relay.close()
    summary = b.summary(theirs)
    assert summary.media is not None
    assert summary.media.lost == 11
    assert summary.media.duplicated == 1
    assert summary.media.late == 0
    assert any(line.startswith(f"received {summary.media.packets_received}: 11 lost (1")
               for line in summary.lines())  # fmt: skip
    # A hole of 200 ms where ten were lost, one of 20 ms that the ear bridges.
    first, second = spans(tmp_path / "b.wav", 440)
    assert abs(second[0] - first[1] - 0.2) < 0.03
    assert abs(seconds(tmp_path / "b.wav") - 1.3) < 0.15
    # What the callee tells by RTCP, the caller shows: there a duplicate makes up for a loss
    # (RFC 3550 §6.4.1).
    told = a.summary(call).media
    assert told is not None
    assert told.peer_lost == 10
