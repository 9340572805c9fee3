"""The session timers of calls under way (RFC 4028 §10): when to refresh, when to give up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from callreel.phone.call import PhoneCall
from callreel.wire.sip.session_timer import SessionTimer


class SessionTimers:
    """Calls ``refresh`` and ``expire`` when it is time for a call."""

    def __init__(
        self, *, refresh: Callable[[PhoneCall], None], expire: Callable[[PhoneCall], None]
    ) -> None:
        self._refresh = refresh
        self._expire = expire
        self._agreed: dict[PhoneCall, SessionTimer] = {}
        self._handles: dict[PhoneCall, list[asyncio.TimerHandle]] = {}

    def arm(self, call: PhoneCall, timer: SessionTimer | None) -> None:
        """The session begins, or was refreshed; None: without a timer from now on."""
        self.disarm(call)
        if timer is None:
            return
        later = asyncio.get_running_loop().call_later
        self._agreed[call] = timer
        self._handles[call] = [later(timer.expires_at(0.0), self._expire, call)]
        refresh_s = timer.refresh_at(0.0)
        if refresh_s is not None:
            self._handles[call].append(later(refresh_s, self._refresh, call))

    def disarm(self, call: PhoneCall) -> None:
        """The call is over."""
        self._agreed.pop(call, None)
        for handle in self._handles.pop(call, ()):
            handle.cancel()

    def wish(self, call: PhoneCall) -> list[tuple[str, str]]:
        """The header field with which a re-INVITE keeps the timer as it is (§7.4)."""
        timer = self._agreed.get(call)
        if timer is None:
            return []
        refresher = "uac" if timer.we_refresh else "uas"
        return [("Session-Expires", f"{timer.interval_seconds};refresher={refresher}")]
