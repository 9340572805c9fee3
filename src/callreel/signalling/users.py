"""Users: who may register and call with a name and a password, phones and trunks alike."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from callreel.base.errors import UsageError
from callreel.calls.model import RecordingRequest
from callreel.signalling.peers import Network
from callreel.wire.sip.digest import Algorithm, hash_a1
from callreel.wire.sip.values import printable

MAX_NAME_CHARACTERS = 64

BASES = (Algorithm.SHA_256, Algorithm.MD5)
_HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class User:
    """A phone, or a trunk that proves itself by digest."""

    name: str
    """The user part of its AoR, and its name for authentication."""
    account_id: str
    """Whose its calls are."""
    password: str | None = field(default=None, repr=False)
    """The password, in clear; None if ``ha1`` stands in for it."""
    ha1: Mapping[Algorithm, str] = field(default_factory=dict, repr=False)
    """Instead of the password: MD5 and SHA-256 of ``name:realm:password``, hex."""
    networks: tuple[Network, ...] = ()
    """Where it may be; none: anywhere."""
    record: RecordingRequest | None = None
    """The recording that each of its calls begins with."""

    def may_be_at(self, host: str) -> bool:
        """Whether it may be at this numeric address."""
        return not self.networks or _is_within(host, self.networks)


class UserDirectory:
    """The users of one realm, their secrets hashed. Raises ``UsageError`` for what cannot be.

    ``algorithms``: those that may be offered. Telephones that stumble over the first challenge if
    it is for SHA-256 need MD5 alone.
    """

    def __init__(
        self, users: Sequence[User], realm: str, *, algorithms: Sequence[Algorithm] = BASES
    ) -> None:
        if not realm or printable(realm) != realm:
            raise UsageError("the realm for digest authentication must be printable text")
        self.realm = realm
        """The realm, as users see it."""
        self._users: dict[str, User] = {}
        self._secrets: dict[tuple[str, Algorithm], str] = {}
        for user in users:
            _check(user)
            if user.name in self._users:
                raise UsageError(f"there are two users {user.name}")
            self._users[user.name] = user
            for algorithm in BASES:
                if user.password is not None:
                    secret = hash_a1(algorithm, user.name, realm, user.password)
                    self._secrets[user.name, algorithm] = secret
                elif algorithm in user.ha1:
                    self._secrets[user.name, algorithm] = user.ha1[algorithm].lower()
        self._anywhere = any(not user.networks for user in users)
        self._networks = frozenset(one for user in users for one in user.networks)
        self.algorithms = [
            one
            for one in BASES
            if one in algorithms and all((name, one) in self._secrets for name in self._users)
        ]
        """Those that every user can answer. Only they can be offered: a challenge that depended on
        the user would tell who exists.
        """
        if not self.algorithms:
            raise UsageError("no digest algorithm that may be offered has the ha1 of every user")

    def __len__(self) -> int:
        """The number of users."""
        return len(self._users)

    def find(self, name: str) -> User | None:
        """The user of exactly that name, or None."""
        return self._users.get(name)

    def secret(self, name: str, algorithm: Algorithm) -> str | None:
        """The user's HA1, None if there is no such user."""
        return self._secrets.get((name, algorithm))

    def may_be_at(self, host: str) -> bool:
        """Whether some user may be at this address."""
        return self._anywhere or _is_within(host, self._networks)


def _is_within(host: str, networks: Iterable[Network]) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped.version == one.version and mapped in one for one in networks)


def _check(user: User) -> None:
    name = user.name
    if not name or len(name) > MAX_NAME_CHARACTERS or printable(name) != name or ":" in name:
        raise UsageError(f"user {printable(name[:MAX_NAME_CHARACTERS])!r}: the name is not valid")
    if (user.password is None) == (not user.ha1):
        raise UsageError(f"user {name}: give either a password or an ha1")
    if user.password == "":
        raise UsageError(f"user {name}: the password is empty")
    for algorithm, secret in user.ha1.items():
        wanted = 32 if algorithm is Algorithm.MD5 else 64
        if algorithm not in BASES or len(secret) != wanted or set(secret.lower()) - _HEX_DIGITS:
            raise UsageError(f"user {name}: the ha1 for {algorithm} is not {wanted} hex digits")
