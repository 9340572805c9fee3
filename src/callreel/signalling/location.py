"""Where users are: the bindings of the location service (RFC 3261 §10.3). Pure.

A change is worked out first and committed after it was written to the database, so that what was
answered is what is kept. Times are wall time, UTC, handed in: bindings outlive the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from callreel.base.errors import PeerError
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Request
from callreel.wire.sip.registration import contact_key
from callreel.wire.sip.values import URI, Address, parse_integer, split_list

MIN_EXPIRES_SECONDS = 60
MAX_EXPIRES_SECONDS = 3_600
MAX_BINDINGS = 10
"""Contacts of one AoR: the one refreshed longest ago makes room."""
MAX_CONTACT_CHARACTERS = 1_024

_MAX_DELTA_SECONDS = 0xFFFF_FFFF


class IntervalTooBrief(PeerError):
    """A registration was asked for that is too short: answer 423 with Min-Expires (§21.4.17)."""

    def __init__(self, minimum_seconds: int) -> None:
        super().__init__(f"registration for under {minimum_seconds} s", status=423)
        self.headers = [("Min-Expires", str(minimum_seconds))]
        """The header fields for the 423."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to reach a user: a contact, and the flow over which it was registered."""

    contact: str
    """The contact's URI as the phone wrote it: the Request-URI of what is sent there."""
    flow: Flow
    """The way there: the address that the REGISTER came from, whatever the contact says. Behind
    NAT it is the only one that works (RFC 5626 §5.3).
    """
    expires_at: datetime
    """When it ends, UTC."""
    refreshed_at: datetime
    """When it was registered last, UTC."""
    call_id: str
    """Call-ID of that REGISTER."""
    cseq: int
    """Its CSeq."""
    q: float = 1.0
    """Preference, 0 to 1."""
    instance: str | None = None
    """``+sip.instance`` with ``reg-id``: the device, wherever it is now (RFC 5626 §4.1)."""
    user_agent: str = ""
    """What the phone calls itself."""

    @property
    def key(self) -> str:
        """Bindings with the same key take each other's place."""
        return self.instance or contact_key(URI.parse(self.contact))

    def header(self, now: datetime) -> tuple[str, str]:
        """The Contact header field of a 200."""
        seconds = max(0, round((self.expires_at - now).total_seconds()))
        q = f"{self.q:.3f}".rstrip("0").rstrip(".")  # at most three digits (§25.1)
        return ("Contact", f"<{self.contact}>;expires={seconds};q={q}")


@dataclass(frozen=True, slots=True)
class Change:
    """The bindings of one user as they will be."""

    user: str
    """The user."""
    bindings: tuple[Binding, ...]
    """All of them, none if the user is gone."""

    def to_json(self) -> str:
        """The bindings, for the database."""
        return json.dumps([_to_dict(one) for one in self.bindings])


class LocationTable:
    """The bindings of every user."""

    def __init__(
        self,
        *,
        min_expires_seconds: int = MIN_EXPIRES_SECONDS,
        max_expires_seconds: int = MAX_EXPIRES_SECONDS,
        max_bindings: int = MAX_BINDINGS,
    ) -> None:
        self._min_expires_seconds = min_expires_seconds
        self._max_expires_seconds = max_expires_seconds
        self._max_bindings = max_bindings
        self._bindings: dict[str, tuple[Binding, ...]] = {}

    def __len__(self) -> int:
        """Users with bindings, some of which may have expired."""
        return len(self._bindings)

    def has_flow(self, flow: Flow, *, now: datetime) -> bool:
        """Whether somebody has registered from the very socket at the other end of a flow."""
        at = flow.transport, flow.host, flow.port
        return any(
            (one.flow.transport, one.flow.host, one.flow.port) == at and one.expires_at > now
            for bindings in self._bindings.values()
            for one in bindings
        )

    def find(self, user: str, *, now: datetime) -> list[Binding]:
        """The user's bindings, the preferred and newest first; none if not registered."""
        live = [one for one in self._bindings.get(user, ()) if one.expires_at > now]
        return sorted(live, key=lambda one: (-one.q, -one.refreshed_at.timestamp()))

    def plan(self, user: str, request: Request, flow: Flow, *, now: datetime) -> Change | None:
        """What a REGISTER changes; None if it only asks (§10.3 steps 6 and 7).

        All of it or nothing. Raises :class:`IntervalTooBrief`, and PeerError: 400 for what cannot
        be read, 500 for a REGISTER that was overtaken by a later one.
        """
        contacts = [item for value in request.headers.getlist("Contact") for item in _items(value)]
        if not contacts:
            return None
        if len(contacts) > self._max_bindings:
            raise PeerError("too many contacts")
        default = _delta_seconds(request.headers.get("Expires"), self._max_expires_seconds)
        live = [one for one in self._bindings.get(user, ()) if one.expires_at > now]
        if "*" in contacts:
            if len(contacts) > 1 or default != 0:
                raise PeerError("Contact: * needs Expires: 0, and to be alone")
            for binding in live:
                _check_order(binding, request)
            return Change(user, ())
        bindings = {one.key: one for one in live}
        before = dict(bindings)
        for text in contacts:
            address = _address(text)
            seconds = _delta_seconds(address.parameters.get("expires"), default)
            if 0 < seconds < self._min_expires_seconds:
                raise IntervalTooBrief(self._min_expires_seconds)
            seconds = min(seconds, self._max_expires_seconds)
            binding = Binding(
                contact=str(address.uri),
                flow=flow,
                expires_at=now + timedelta(seconds=seconds),
                refreshed_at=now,
                call_id=request.call_id,
                cseq=request.cseq.sequence,
                q=_preference(address.parameters.get("q")),
                instance=_instance(address),
                user_agent=(request.headers.get("User-Agent") or "")[:200],
            )
            if binding.key in before:
                _check_order(before[binding.key], request)
            bindings.pop(binding.key, None)
            if seconds:
                bindings[binding.key] = binding
        newest = sorted(bindings.values(), key=lambda one: one.refreshed_at)
        return Change(user, tuple(newest[-self._max_bindings :]))

    def commit(self, change: Change) -> None:
        """Make a change that was planned."""
        if change.bindings:
            self._bindings[change.user] = change.bindings
        else:
            self._bindings.pop(change.user, None)

    def expired(self, *, now: datetime) -> list[Change]:
        """What time has changed: to be written down and committed."""
        changes: list[Change] = []
        for user, bindings in self._bindings.items():
            live = tuple(one for one in bindings if one.expires_at > now)
            if len(live) != len(bindings):
                changes.append(Change(user, live))
        return changes

    def restore(self, stored: Mapping[str, str], *, now: datetime) -> list[str]:
        """Take up what :meth:`Change.to_json` wrote, by user. Returns the users whose bindings
        cannot be read, or are over.
        """
        useless: list[str] = []
        for user, text in stored.items():
            try:
                bindings = tuple(_from_dict(one) for one in json.loads(text))
            except (KeyError, TypeError, ValueError, AttributeError):
                bindings = ()
            live = tuple(one for one in bindings if one.expires_at > now)
            if live:
                self._bindings[user] = live
            else:
                useless.append(user)
        return useless


def contact_headers(bindings: Iterable[Binding], *, now: datetime) -> list[tuple[str, str]]:
    """The Contact header fields of a 200: every binding there is (§10.3 step 8)."""
    return [binding.header(now) for binding in bindings]


def _items(value: str) -> Sequence[str]:
    try:
        return [item for item in split_list(value) if item]
    except ValueError as error:
        raise PeerError(f"Contact: {error}") from error


def _address(text: str) -> Address:
    try:
        address = Address.parse(text)
    except ValueError as error:
        raise PeerError(f"Contact: {error}") from error
    uri = address.uri
    if uri.scheme not in ("sip", "sips"):
        raise PeerError("Contact: only sip and sips can be called")
    if len(text) > MAX_CONTACT_CHARACTERS:
        raise PeerError("Contact: too long")
    if uri.headers:
        # What would be put into requests to it is nobody's to choose but ours (RFC 4475 §3.1.2.11).
        uri = replace(uri, headers="")
    return replace(address, uri=uri)


def _instance(address: Address) -> str | None:
    instance = address.parameters.get("+sip.instance")
    if not instance:
        return None
    return f"{instance};{address.parameters.get('reg-id') or ''}"


def _preference(text: str | None) -> float:
    """q (§20.10); what is not valid counts as none."""
    try:
        value = float(text or "1")
    except ValueError:
        return 1.0
    return value if 0.0 <= value <= 1.0 else 1.0


def _delta_seconds(text: str | None, default: int) -> int:
    """Expires, or the parameter; what is not valid counts as none (§10.2.1.1)."""
    if text is None:
        return default
    try:
        return parse_integer(text, maximum=_MAX_DELTA_SECONDS)
    except ValueError:
        return default


def _check_order(binding: Binding, request: Request) -> None:
    if binding.call_id == request.call_id and request.cseq.sequence <= binding.cseq:
        raise PeerError("a later REGISTER came before this one", status=500)


def _to_dict(binding: Binding) -> dict[str, object]:
    return asdict(binding) | {
        "expires_at": binding.expires_at.isoformat(),
        "refreshed_at": binding.refreshed_at.isoformat(),
    }


def _from_dict(state: Mapping[str, object]) -> Binding:
    values = dict(state)
    flow = values["flow"]
    if not isinstance(flow, dict):
        raise ValueError("not a stored binding")
    local = flow["local"]
    values["flow"] = Flow(
        Transport(flow["transport"]),
        flow["host"],
        flow["port"],
        (local[0], local[1]) if local else None,
    )
    for name in ("expires_at", "refreshed_at"):
        values[name] = datetime.fromisoformat(str(values[name]))
    return Binding(**values)  # type: ignore[arg-type]
