"""Who may send calls and where calls go: the tables of the TOML file."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from callreel.base.errors import UsageError
from callreel.calls.model import RecordingChannels, RecordingRequest
from callreel.signalling.routing import MAX_TARGETS, NUMBER, TargetKind, parse_target
from callreel.signalling.security import SrtpPolicy
from callreel.wire.sip.values import URI


class RecordPolicy(Enum):
    """What a peer's calls are recorded as without anybody asking."""

    ON_DEMAND = "on-demand"
    MONO = "mono"
    DUAL = "dual"

    @property
    def request(self) -> RecordingRequest | None:
        """The recording that each call begins with; None for none."""
        if self is RecordPolicy.ON_DEMAND:
            return None
        return RecordingRequest(channels=RecordingChannels(self.value))


def _are_networks(value: list[str]) -> list[str]:
    for one in value:
        try:
            ipaddress.ip_network(one, strict=False)
        except ValueError:
            raise ValueError(
                f"{one!r} is not an IP address or network, such as 192.0.2.7 or 192.0.2.0/24"
            ) from None
    return value


def _sip_uri(value: str) -> str:
    try:
        uri = URI.parse(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is no SIP URI: {error}") from None
    if uri.scheme not in ("sip", "sips") or not uri.host:
        raise ValueError(f"{value!r} is no SIP URI, such as sip:sip.example.net;transport=tls")
    return value


Retention = Annotated[int | None, Field(ge=1, le=36_500)]


def begins_with(policy: RecordPolicy, retention_days: int | None) -> RecordingRequest | None:
    """The recording that each call begins with; None for none."""
    request = policy.request
    return request and replace(request, retention_days=retention_days)


_NO_NAMES = ("users", "loopback", "api")
"""What routes call sources that no table is about: all users, this machine, and the calls that
programs and documents make."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.+-]{1,64}$")]


class PeerSettings(BaseModel):
    """A session border controller or PBX that may send calls here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    """Shown in logs and with its calls; routes know it by this."""
    addresses: list[str] = Field(min_length=1)
    """Where its SIP comes from: addresses or networks, ``192.0.2.7`` or ``192.0.2.0/24``."""
    account_sid: str | None = None
    """Whose its calls are; the first account unless set."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """``optional``: SRTP where it offers that. ``required``: nothing else. ``never``: none."""
    record: RecordPolicy = RecordPolicy.ON_DEMAND
    """``on-demand``: nothing is kept until the API asks. ``mono``, ``dual``: every call is."""
    retention_days: Retention = None
    """Such recordings are deleted so many days after their end; as the account's unless set."""
    nat: bool = False
    """Whether it is behind network address translation: where it names a private address in calls
    that are passed on, the one that its SIP comes from counts. Registered phones need not say."""
    our_side: str | None = None
    """An AoR or domain of ours in the metadata: its party is ``outbound``, the other ``inbound``.
    Unless set, the first stream is ``inbound``."""

    _networks = field_validator("addresses")(_are_networks)


class TrunkSettings(BaseModel):
    """A carrier or PBX that calls are sent to, and that may send calls here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    """What routes call it, shown in logs and with its calls."""
    uri: str
    """Where its calls go: ``sip:HOST``, with ``:PORT`` and ``;transport=tcp|tls`` if need be."""
    addresses: list[str] = []
    """Where its SIP comes from; empty: it may send no calls here."""
    account_sid: str | None = None
    """Whose the calls from it are; the first account unless set."""
    username: str | None = None
    """With which we answer its digest challenges."""
    password: str | None = Field(default=None, repr=False)
    """The same."""
    register_: bool = Field(default=False, alias="register")
    """Whether we register with it, so that it knows where to send calls."""
    from_domain: str | None = None
    """Domain of From in calls to it; its own unless set."""
    caller: str | None = None
    """Number that From shows in calls to it; the caller's own unless set."""
    identity: bool = False
    """Whether it is trusted with who is calling: P-Asserted-Identity and Privacy pass to it, and
    are believed from it."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """``optional``: SRTP where it offers that. ``required``: nothing else, and calls to it are
    offered with SRTP. ``never``: none."""
    record: RecordPolicy = RecordPolicy.ON_DEMAND
    """What every call from it is recorded as."""
    retention_days: Retention = None
    """Such recordings are deleted so many days after their end; as the account's unless set."""
    keepalive_seconds: float = Field(default=0.0, ge=0.0, le=3600.0)
    """How often it is asked whether it is there (OPTIONS): one that does not answer is tried after
    the others of a route. 0: never."""

    _networks = field_validator("addresses")(_are_networks)

    @field_validator("uri")
    @classmethod
    def _is_sip(cls, value: str) -> str:
        return _sip_uri(value)

    @model_validator(mode="after")
    def _has_credentials(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if self.register_ and self.username is None:
            raise ValueError("register needs username and password")
        return self


class UserSettings(BaseModel):
    """A phone that registers here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    """The user part of its address, and its name in digest authentication."""
    password: str = Field(min_length=8, repr=False)
    """For digest authentication; at least 8 characters."""
    number: str | None = None
    """It can be called by this too, and its calls show it."""
    account_sid: str | None = None
    """Whose its calls are; the first account unless set."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """``optional``: SRTP where it offers that. ``required``: nothing else, and calls to it are
    offered with SRTP. ``never``: none."""
    record: RecordPolicy = RecordPolicy.ON_DEMAND
    """What every call from it is recorded as."""
    retention_days: Retention = None
    """Such recordings are deleted so many days after their end; as the account's unless set."""


class RouteSettings(BaseModel):
    """Where calls go that are dialled so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: str | None = None
    """How the number begins; the longest that fits wins. ``""``: any number."""
    user: str | None = None
    """The dialled name, exactly; wins over every prefix."""
    from_: list[str] = Field(default=[], alias="from")
    """For calls from these peers, trunks and users (``user:NAME``, or ``users`` for all of them),
    ``loopback``, and ``api`` (what programs and documents call); from everybody who may call,
    unless set."""
    to: list[str] = Field(min_length=1, max_length=MAX_TARGETS)
    """``trunk:NAME``, ``user:NAME`` or a ``sip:`` URI, in which ``{number}`` stands for what was
    dialled."""
    strip: int = Field(default=0, ge=0, le=32)
    """So many characters are taken off the front of the number."""
    prepend: str = Field(default="", max_length=32)
    """Then this is put there."""
    ring: Literal["in-order", "at-once"] = "in-order"
    """One target after the other, or all together."""
    ring_seconds: float = Field(default=30.0, ge=1.0, le=300.0)
    """How long each may ring."""
    record: RecordPolicy = RecordPolicy.ON_DEMAND
    """What every call that goes this way is recorded as."""
    retention_days: Retention = None
    """Such recordings are deleted so many days after their end; as the account's unless set."""

    @field_validator("to")
    @classmethod
    def _are_targets(cls, value: list[str]) -> list[str]:
        for one in value:
            try:
                target = parse_target(one, "0")
            except UsageError as error:
                raise ValueError(str(error)) from None
            if target.kind is TargetKind.URI:
                _sip_uri(target.name)
        return value

    @model_validator(mode="after")
    def _is_for_something(self) -> Self:
        if (self.prefix is None) == (self.user is None):
            raise ValueError("want either prefix or user")
        return self


def check_names(
    peers: Sequence[PeerSettings],
    trunks: Sequence[TrunkSettings],
    users: Sequence[UserSettings],
    routes: Sequence[RouteSettings],
) -> None:
    """Raises ``ValueError``, a line for each name that is used twice and each route that speaks of
    what is not there; a line begins with where, such as ``routes.2.to: ``.
    """
    wrong = [*_twice(peers, trunks, users)]
    sources = {one.name for one in peers} | {one.name for one in trunks}
    named = {one.name for one in users}
    known = {*sources, *_NO_NAMES, *(f"user:{name}" for name in named)}
    targets = {f"trunk:{one.name}" for one in trunks} | {f"user:{name}" for name in named}
    for number, route in enumerate(routes):
        for one in route.from_:
            if one not in known:
                wrong.append(f"routes.{number}.from: there is no peer, trunk or user {one!r}")
        for one in route.to:
            fixed = NUMBER not in one and one.partition(":")[0] in ("trunk", "user")
            if fixed and one not in targets:
                wrong.append(f"routes.{number}.to: there is no {one!r}")
    if wrong:
        raise ValueError("\n".join(wrong))


def _twice(
    peers: Sequence[PeerSettings],
    trunks: Sequence[TrunkSettings],
    users: Sequence[UserSettings],
) -> Iterator[str]:
    """Names that are not one thing's own."""
    seen: set[str] = set()
    sources = [(f"peers.{number}", one.name) for number, one in enumerate(peers)]
    sources += [(f"trunks.{number}", one.name) for number, one in enumerate(trunks)]
    for place, name in sources:
        if name in _NO_NAMES:
            yield f"{place}.name: no peer or trunk may be called {name!r}"
        if name in seen:
            yield f"{place}.name: two of the name {name!r}: every peer or trunk needs its own"
        seen.add(name)
    dialled: dict[str, str] = {}
    for number, user in enumerate(users):
        if any(user.name == one.name for one in users[:number]):
            yield f"users.{number}.name: two of the name {user.name!r}: every user needs its own"
        for key, called in (("name", user.name), ("number", user.number)):
            if called is not None and dialled.setdefault(called, user.name) != user.name:
                yield f"users.{number}.{key}: {dialled[called]!r} is called by {called!r} already"
