"""Voices: RTP of a known content every 20 ms, with the instant of each packet kept."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from array import array

import numpy as np
from bench.rtp_load import Stream
from numpy.typing import NDArray

from chaos.frames import FRAME_SAMPLES, frame

FRAME_S = 0.02
_HEADER = struct.Struct(">BBHII")
_BUFFER_BYTES = 1 << 20


class Voice:
    """One party: its socket, what it has said when, and what it has heard."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.bind(("127.0.0.1", 0))
        self.number = number
        self.stream = Stream(int(self._socket.getsockname()[1]))
        """As it is announced; its ``remote`` says where to."""
        self.heard = 0
        """Packets that came to it."""
        self._sent_ns = array("q")
        self._ssrc = (0x5EED0000 + number) & 0xFFFFFFFF
        self._speaking = True

    def speak(self) -> None:
        """Say the next 20 ms."""
        while True:
            try:
                self._socket.recv(2048)
            except OSError:
                break
            self.heard += 1
        if self.stream.remote is None or not self._speaking:
            return
        number = len(self._sent_ns)
        header = _HEADER.pack(
            0x80, 0, number & 0xFFFF, number * FRAME_SAMPLES & 0xFFFFFFFF, self._ssrc
        )
        data = header + frame(self.number, number)
        self._sent_ns.append(time.time_ns())
        with contextlib.suppress(OSError):
            self._socket.sendto(data, self.stream.remote)

    def hush(self) -> None:
        """Say no more."""
        self._speaking = False

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    @property
    def sent_ns(self) -> NDArray[np.int64]:
        """Wall time just before each packet; int64[frames]."""
        return np.array(self._sent_ns, np.int64)


class Speaker:
    """Has all voices speak, from a thread of its own."""

    def __init__(self) -> None:
        self._voices: list[Voice] = []
        self._next = 0
        self._over = False
        self._thread = threading.Thread(target=self._run, name="speaker", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End it, and every voice."""
        self._over = True
        self._thread.join()
        for voice in self._voices:
            voice.close()

    def voice(self) -> Voice:
        """A new one. It speaks once it knows where to."""
        made = Voice(self._next)
        self._next += 1
        self._voices = [*self._voices, made]
        return made

    def retire(self, voice: Voice) -> None:
        """It has said all it had to say."""
        voice.hush()
        self._voices = [one for one in self._voices if one is not voice]
        voice.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over:
            for voice in self._voices:
                with contextlib.suppress(OSError):  # retired meanwhile
                    voice.speak()
            due = max(due + FRAME_S, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))
