"""RTP that is partly wrong: one frame of 20 ms at a time, for as many streams as there are."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable

import numpy as np

from callreel.audio.g711 import encode_ulaw

FRAME_S = 0.02
FRAME_SAMPLES = 160


class ToneLeg:
    """A party that plays a tone from a socket of its own. Its header fields may be changed."""

    def __init__(self, port: int, hz: int, host: str = "127.0.0.1", ssrc: int = 0x1234) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.to = ("127.0.0.1", port)
        self.ssrc, self.sequence, self.timestamp = ssrc, 65_530, 4_294_966_000
        self.payload_type = 0
        self.sent = 0
        self.port = int(self.socket.getsockname()[1])
        at = np.arange(8000) / 8000
        self._octets = encode_ulaw((8000 * np.sin(2 * np.pi * hz * at)).astype(np.int16)).tobytes()

    def packet(self, frame: int) -> bytes:
        start = frame % 50 * FRAME_SAMPLES
        header = struct.pack(
            ">BBHII",
            0x80,
            self.payload_type,
            self.sequence & 0xFFFF,
            self.timestamp & 0xFFFFFFFF,
            self.ssrc,
        )
        return header + self._octets[start : start + FRAME_SAMPLES]

    def play(self, frame: int) -> None:
        """Send this frame, and count on."""
        self.raw(self.packet(frame))
        self.sent += 1
        self.sequence += 1
        self.timestamp += FRAME_SAMPLES

    def raw(self, datagram: bytes) -> None:
        """Send just this from the same socket."""
        self.socket.sendto(datagram, self.to)

    def close(self) -> None:
        self.socket.close()


def perform(frames: int, acts: Iterable[Callable[[int], None]]) -> None:
    """Let every act do its part of every frame, in time."""
    acts = list(acts)
    due = time.monotonic()
    for frame in range(frames):
        for act in acts:
            act(frame)
        due += FRAME_S
        time.sleep(max(0.0, due - time.monotonic()))
