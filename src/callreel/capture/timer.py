"""An alarm that can be waited for beside sockets (``timerfd_create(2)``), to the microsecond.

Waits of ``epoll`` are a whole number of milliseconds long, and Python has no timerfd before 3.13.
"""

from __future__ import annotations

import ctypes
import os
import time

_CLOEXEC = os.O_CLOEXEC
_NONBLOCK = os.O_NONBLOCK
_ABSOLUTE = 1
_SECOND_NS = 1_000_000_000


class _Setting(ctypes.Structure):
    """``struct itimerspec`` of 64-bit Linux."""

    _fields_ = (
        ("every_s", ctypes.c_int64),
        ("every_ns", ctypes.c_int64),
        ("at_s", ctypes.c_int64),
        ("at_ns", ctypes.c_int64),
    )


class Timer:
    """Readable from the set instant on, until it is set anew. Raises ``OSError`` if there is none
    to be had."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._settime.argtypes = (
            ctypes.c_int,
            ctypes.c_int,
            ctypes.POINTER(_Setting),
            ctypes.c_void_p,
        )
        self._setting = _Setting()
        self._fd: int = libc.timerfd_create(time.CLOCK_MONOTONIC, _CLOEXEC | _NONBLOCK)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def fileno(self) -> int:
        """To wait on."""
        return self._fd

    def set(self, at_ns: int | None) -> None:
        """Ring at this monotonic instant, at once if it has passed; None: not at all."""
        setting = self._setting
        setting.at_s, setting.at_ns = divmod(0 if at_ns is None else max(at_ns, 1), _SECOND_NS)
        self._settime(self._fd, _ABSOLUTE, setting, None)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()
