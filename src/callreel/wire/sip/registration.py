"""Being registered with somebody (RFC 3261 §10.2): when to register again. No I/O.

What the registrar said and the time (monotonic seconds) go in, the time of the next REGISTER comes
out. The jitter is handed in, so that trunks that failed together do not come back together.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from callreel.wire.sip.message import Response
from callreel.wire.sip.values import URI, Address, parse_integer

REFRESH_AFTER = 0.8
"""The part of its time after which a registration is refreshed."""
FIRST_RETRY_SECONDS = 30.0
LONGEST_RETRY_SECONDS = 600.0
LONGEST_RETRY_AFTER_SECONDS = 3_600
"""A registrar that asks for more patience than this does not get it."""
MAX_EXPIRES_SECONDS = 86_400
MIN_REFRESH_SECONDS = 10.0
"""However short a registration, it is not refreshed more often."""

_JITTER = 0.1
_CREDENTIALS_REFUSED = (401, 403, 407)


class RegistrationState(enum.StrEnum):
    """Where a registration stands."""

    TRYING = "trying"
    """Not answered yet."""
    REGISTERED = "registered"
    """Granted; calls to us come in."""
    FAILING = "failing"
    """Refused or not answered; tried again later."""


class RegistrationCycle:
    """One registration of ours, through all its refreshes.

    ``jitter`` gives numbers from 0 to 1.
    """

    def __init__(self, *, expires_seconds: int, jitter: Callable[[], float]) -> None:
        self.state = RegistrationState.TRYING
        """Where it stands."""
        self.expires_seconds = expires_seconds
        """How long to ask for."""
        self.registered_until: float | None = None
        """Until when it is granted; None: it is not."""
        self.last_error: str | None = None
        """Why it failed last; None once it works."""
        self.next_at: float | None = None
        """When the next REGISTER is due; None: now."""
        self._failures = 0
        self._was_brief = False
        self._jitter = jitter

    def receive(self, response: Response, contact: str, *, now: float) -> None:
        """The final response to a REGISTER for ``contact``, a URI."""
        if 200 <= response.code < 300:
            self._granted(granted_seconds(response, contact, self.expires_seconds), now)
            return
        text = f"{response.code} {response.phrase}".strip()
        minimum = _number(response, "Min-Expires", MAX_EXPIRES_SECONDS)
        longer = max(minimum or 0, self.expires_seconds)
        if response.code == 423 and longer > self.expires_seconds and not self._was_brief:
            self._was_brief = True  # a registrar that wants ever more is refused in the end
            self.expires_seconds = longer
            self.next_at = now
            return
        patience = _number(response, "Retry-After", LONGEST_RETRY_AFTER_SECONDS) or 0
        if response.code in _CREDENTIALS_REFUSED:
            # Trying again soon changes nothing, but gets us banned.
            patience = max(patience, round(LONGEST_RETRY_SECONDS))
        self.fail(text, now=now, patience_seconds=patience)

    def fail(self, reason: str, *, now: float, patience_seconds: int = 0) -> None:
        """It was refused, not answered, or could not be sent."""
        self._failures += 1
        self._was_brief = False
        self.last_error = reason
        if self.registered_until is not None and self.registered_until <= now:
            self.registered_until = None
        self.state = RegistrationState.FAILING
        doublings = min(self._failures - 1, 10)
        delay = min(FIRST_RETRY_SECONDS * 2.0**doublings, LONGEST_RETRY_SECONDS)
        delay = max(delay * (1 - _JITTER * self._jitter()), float(patience_seconds))
        self.next_at = now + delay

    def _granted(self, seconds: int, now: float) -> None:
        self._failures = 0
        self._was_brief = False
        self.last_error = None
        self.state = RegistrationState.REGISTERED
        self.registered_until = now + seconds
        part = REFRESH_AFTER * (1 - _JITTER * self._jitter())
        self.next_at = now + max(seconds * part, MIN_REFRESH_SECONDS)


def granted_seconds(response: Response, contact: str, asked_seconds: int) -> int:
    """How long a 2xx to a REGISTER for ``contact`` grants (§10.2.4): the parameter of our contact
    among those it lists, else Expires, else what we asked for.
    """
    addresses: list[Address] = []
    for value in response.headers.getlist("Contact"):
        try:
            addresses += [Address.parse(str(one)) for one in Address.parse_many(value)]
        except ValueError:
            continue
    ours = [one for one in addresses if contact_key(one.uri) == contact_key(URI.parse(contact))]
    # One alone must be ours, though a registrar behind NAT may write it differently.
    listed = ours or (addresses if len(addresses) == 1 else [])
    for one in listed:
        try:
            return parse_integer(one.parameters.get("expires") or "", maximum=MAX_EXPIRES_SECONDS)
        except ValueError:
            continue
    granted = _number(response, "Expires", MAX_EXPIRES_SECONDS)
    return asked_seconds if granted is None else granted


def contact_key(uri: URI) -> str:
    """The same for URIs that are equivalent, as far as it matters for contacts (§19.1.4)."""
    transport = (uri.parameters.get("transport") or "").lower()
    return f"{uri.scheme}:{uri.user or ''}@{uri.host.lower()}:{uri.port or ''};{transport}"


def _number(response: Response, name: str, maximum: int) -> int | None:
    """A header field of seconds, no more than ``maximum``; None if it is not there or no number.

    Retry-After may go on with parameters and a comment (§20.33).
    """
    text = (response.headers.get(name) or "").partition(";")[0].partition("(")[0]
    try:
        return min(parse_integer(text, maximum=0xFFFF_FFFF), maximum)
    except ValueError:
        return None
