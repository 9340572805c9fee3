"""Opening streams: ports, sockets, and the bounds on both."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Sequence

from callreel.base.errors import CapacityError, UsageError
from callreel.calls.media import Stream
from callreel.capture.memory import MemoryGuard
from callreel.capture.protocol import MAX_STREAMS
from callreel.capture.settings import WorkerSettings
from callreel.capture.sockets import PortRange, open_pair, sockaddr
from callreel.capture.streams import FIRST_HEARD, LiveCall, LiveStream
from callreel.capture.successor import streams_fit
from callreel.capture.tap import Tap

_SPARE_FDS = 64
_PORTS = 1 << 16


class Opener:
    """Gives streams their sockets. ``fd_limit`` and ``socket_limit`` bound descriptors in all and
    media sockets."""

    def __init__(self, settings: WorkerSettings, *, fd_limit: int, socket_limit: int) -> None:
        self._host = settings.bind_host
        self._ipv6 = ":" in settings.bind_host
        self._ports = PortRange(
            settings.port_low, settings.port_high, first=secrets.randbelow(_PORTS)
        )
        self._fd_limit = fd_limit
        self._socket_limit = socket_limit
        self._sockets = 0
        self._memory = MemoryGuard(settings.memory_reserve_mib << 20)
        self.journals = 0
        """Live recordings: each has a file open."""

    def check(self, streams: Sequence[Stream]) -> None:
        """Raises ``CapacityError`` or ``UsageError`` for streams that no call can have here."""
        if len(streams) > MAX_STREAMS:
            raise CapacityError(f"a call of {len(streams)} streams; {MAX_STREAMS} are the most")
        for stream in streams:
            address = ipaddress.ip_address(stream.remote_host.partition("%")[0])
            mapped = address.version == 6 and getattr(address, "ipv4_mapped", None) is not None
            if address.version == 6 and not mapped and not self._ipv6:
                raise UsageError(
                    f"media from {stream.remote_host} cannot reach {self._host}; bind to ::"
                )
            if stream.number >= FIRST_HEARD:
                raise UsageError(f"stream {stream.number}: want a number below {FIRST_HEARD}")
        if not streams_fit(streams):
            raise CapacityError("the description of a call's streams is too long")

    def check_room(self, *, streams: int, journals: int, calls: int = 0) -> None:
        """Raises ``CapacityError`` if there are no descriptors, or no memory, for so many more.

        ``calls`` is how many are open: each may come to have a journal, and is promised one.
        """
        sockets = self._sockets + 2 * streams
        files = sockets + max(self.journals, calls) + journals
        if sockets > self._socket_limit or files + _SPARE_FDS > self._fd_limit:
            raise CapacityError(
                "no file descriptor is left for one more",
                hint="raise the limit of open files (RLIMIT_NOFILE)",
            )
        if streams:
            self._memory.check()

    def open(self, call: LiveCall, streams: Iterable[Stream]) -> dict[int, LiveStream]:
        """Streams with their sockets, by number: all or none. The call does not have them yet."""
        opened: dict[int, LiveStream] = {}
        try:
            for stream in streams:
                rtp, rtcp = open_pair(self._host, self._ports)
                port = int(rtp.getsockname()[1])
                live = LiveStream(call, stream, port, Tap(rtp), Tap(rtcp))
                self._sockets += 2
                opened[stream.number] = live
                aim(live)
        except BaseException:
            for live in opened.values():
                self.close(live)
            raise
        return opened

    def adopt(self, live: LiveStream) -> None:
        """One that a former worker opened."""
        self._sockets += 2
        self._ports.remove(live.port)

    def close(self, live: LiveStream) -> None:
        """Its sockets are closed, and the ports free again."""
        live.rtp.sock.close()
        live.rtcp.sock.close()
        self._sockets -= 2
        self._ports.give_back(live.port)


def aim(live: LiveStream) -> None:
    """Have what is relayed to a stream's peer go to the signalled address."""
    stream = live.stream
    host = ipaddress.ip_address(stream.remote_host.partition("%")[0])
    known = bool(stream.remote_port) and not host.is_unspecified
    for tap, port in ((live.rtp, stream.remote_port), (live.rtcp, stream.remote_port + 1)):
        tap.to = sockaddr(tap.sock, stream.remote_host, port) if known and port <= 0xFFFF else None
