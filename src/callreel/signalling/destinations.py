"""From the targets of a plan to where an INVITE is sent, and with what. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from callreel.signalling.registrar import Registrar
from callreel.signalling.routing import Target, TargetKind
from callreel.signalling.security import SrtpPolicy
from callreel.wire.sip.digest_client import DigestClient
from callreel.wire.sip.flow import Flow
from callreel.wire.sip.values import URI

MAX_CONTACTS = 8
"""Phones of one user that ring together."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """A carrier or PBX that calls are sent to."""

    name: str
    """What routes call it."""
    uri: URI
    """Where its calls go."""
    client: DigestClient | None = None
    """What answers its challenges."""
    from_domain: str | None = None
    """Domain of From in calls to it; its own host where None."""
    caller: str | None = None
    """Number in From of calls to it; the caller's own where None."""
    identity: bool = False
    """Whether it is trusted with who is calling."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """What may protect the media of calls to it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One INVITE to be sent."""

    name: str
    """Of the trunk, or ``user:NAME``, or the host: for logs, and shown with the call."""
    number: str
    """What is dialled there, as the API shows it."""
    uri: URI
    """The Request-URI."""
    to: str
    """The URI of To."""
    flow: Flow | None = None
    """The way to it, where it is known: a phone's registered flow."""
    from_domain: str | None = None
    """Domain of From; ours where None."""
    caller: str | None = None
    """Number in From; the caller's own where None."""
    trusted: bool = False
    """Whether it is told who is calling whatever privacy was asked for."""
    believed: bool = False
    """Whether its P-Asserted-Identity counts: who it says was reached."""
    nat: bool = False
    """Whether it may be behind network address translation."""
    client: DigestClient | None = None
    """What answers its challenges."""
    srtp: SrtpPolicy = SrtpPolicy.OPTIONAL
    """What may protect its media."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a registered phone can be reached."""

    uri: URI
    """Its Contact."""
    flow: Flow | None = None
    """The flow by which it registered, over which it is to be reached (RFC 5626 §5.3)."""


class Locations(Protocol):
    """The registrar's bindings."""

    def contacts(self, user: str) -> Sequence[Contact]:
        """Where a user's phones are now, the preferred first."""
        ...


class RegisteredPhones:
    """The bindings of a registrar."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar

    def contacts(self, user: str) -> Sequence[Contact]:
        """Where a user's phones are now, the preferred first."""
        found = self._registrar.find(user)
        return [Contact(URI.parse(one.contact), one.flow) for one in found]


def destinations(
    target: Target,
    trunks: Mapping[str, Trunk],
    locations: Locations,
    srtp: Mapping[str, SrtpPolicy],
) -> list[Destination]:
    """Where a target is: nothing for a phone that is not registered, or where what was dialled
    makes no address of the target; several for a user with several phones, which ring together.
    ``srtp`` is what protects calls to users, by name."""
    if target.kind is TargetKind.TRUNK:
        trunk = trunks.get(target.name)
        if trunk is None:
            return []
        to = URI(scheme="sip", user=target.number, host=trunk.uri.host)
        return [
            Destination(
                name=trunk.name,
                number=target.number,
                uri=dataclasses.replace(trunk.uri, user=target.number),
                to=str(to),
                from_domain=trunk.from_domain or trunk.uri.host,
                caller=trunk.caller,
                trusted=trunk.identity,
                believed=trunk.identity,
                client=trunk.client,
                srtp=trunk.srtp,
            )
        ]
    if target.kind is TargetKind.USER:
        return [
            Destination(
                name=f"user:{target.name}",
                number=target.name,
                uri=one.uri,
                to=str(URI(scheme="sip", user=target.name, host=one.uri.host)),
                flow=one.flow,
                nat=True,
                trusted=True,
                srtp=srtp.get(target.name, SrtpPolicy.OPTIONAL),
            )
            for one in locations.contacts(target.name)[:MAX_CONTACTS]
        ]
    try:
        uri = URI.parse(target.name)
    except ValueError:  # ``{number}`` may stand in its host or port too
        return []
    return [Destination(name=uri.host, number=target.number, uri=uri, to=str(uri))]
