"""Answering challenges: credentials for 401 and 407 (RFC 3261 §22.2, §22.3, RFC 8760). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from callreel.base.ids import IdSource
from callreel.wire.sip.challenges import AuthValue, parse_auth_values
from callreel.wire.sip.digest import Algorithm, Exchange, hash_a1
from callreel.wire.sip.message import Request, Response

MAX_REALMS = 8
"""Realms whose challenges are answered in one request: a proxy or two, and the server."""

_ANSWERED_IN = {
    "WWW-Authenticate": "Authorization",
    "Proxy-Authenticate": "Proxy-Authorization",
}
_BARE = ("algorithm", "qop", "nc")
_LIST = re.compile(r"[ \t]*,[ \t]*")


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password."""

    username: str
    """The user name for authentication; often, but not always, the one in the AoR."""
    password: str = field(repr=False)
    """The password."""
    realm: str | None = None
    """The only realm they are for; None: whichever asks. Name it where proxies are not trusted."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge that can be answered."""

    answered_in: str
    """The header field that the answer goes into."""
    realm: str
    """Whose users are asked for."""
    nonce: str
    """To be hashed into the answer."""
    algorithm: Algorithm
    """How to hash."""
    qop: str | None
    """The quality of protection chosen from those offered; None if none was."""
    opaque: str | None
    """To be returned as it came."""
    stale: bool
    """True if what was wrong is the nonce only, not the credentials."""
    names_algorithm: bool
    """False where the server named no algorithm: an old one may stumble over it."""

    @property
    def place(self) -> tuple[str, str]:
        """What tells the challenges of several servers apart."""
        return (self.answered_in, self.realm)


def read_challenges(response: Response) -> list[Challenge]:
    """The challenges of a 401 or 407 that can be answered: one a realm and header field, the
    strongest algorithm of those offered there, in the server's order among equals.

    What cannot be read or is of no known scheme, algorithm or qop is passed over.
    """
    best: dict[tuple[str, str], Challenge] = {}
    for name, answered_in in _ANSWERED_IN.items():
        for text in response.headers.getlist(name):
            try:
                values = parse_auth_values(text)
            except ValueError:
                continue
            for value in values:
                challenge = _read(value, answered_in)
                if challenge is None:
                    continue
                known = best.get(challenge.place)
                if known is None or challenge.algorithm.strength > known.algorithm.strength:
                    best[challenge.place] = challenge
    return list(best.values())[:MAX_REALMS]


def _read(value: AuthValue, answered_in: str) -> Challenge | None:
    given = value.parameters
    algorithm = Algorithm.named(given.get("algorithm"))
    if value.scheme.lower() != "digest" or algorithm is None:
        return None
    if "realm" not in given or "nonce" not in given:
        return None
    offered = [item.lower() for item in _LIST.split(given.get("qop", "").strip()) if item]
    qop = next((one for one in ("auth", "auth-int") if one in offered), None)
    if offered and qop is None:
        return None
    return Challenge(
        answered_in=answered_in,
        realm=given["realm"],
        nonce=given["nonce"],
        algorithm=algorithm,
        qop=qop,
        opaque=given.get("opaque"),
        stale=given.get("stale", "").lower() == "true",
        names_algorithm="algorithm" in given,
    )


def authorize(
    challenge: Challenge,
    credentials: Credentials,
    *,
    method: str,
    uri: str,
    body: bytes,
    cnonce: str,
    nonce_count: int,
) -> tuple[str, str]:
    """The header field, name and value, that answers ``challenge``.

    ``uri`` is the Request-URI as it is written, ``nonce_count`` how often the nonce is used,
    this time included. For ``-sess`` the cnonce must stay the same as long as the nonce does.
    """
    exchange = Exchange(
        algorithm=challenge.algorithm,
        nonce=challenge.nonce,
        method=method,
        uri=uri,
        body=body,
        qop=challenge.qop,
        nonce_count=f"{nonce_count:08x}",
        cnonce=cnonce,
    )
    ha1 = hash_a1(challenge.algorithm, credentials.username, challenge.realm, credentials.password)
    parameters = {
        "username": credentials.username,
        "realm": challenge.realm,
        "nonce": challenge.nonce,
        "uri": uri,
        "response": exchange.response(ha1),
    }
    if challenge.names_algorithm:
        parameters["algorithm"] = challenge.algorithm.value
    if challenge.qop is not None:
        parameters |= {"cnonce": cnonce, "qop": challenge.qop, "nc": exchange.nonce_count}
    elif challenge.algorithm.is_session:
        parameters["cnonce"] = cnonce
    if challenge.opaque is not None:
        parameters["opaque"] = challenge.opaque
    return challenge.answered_in, AuthValue("Digest", parameters).serialize(_BARE)


@dataclass(slots=True)
class _Standing:
    """A challenge that goes on being answered."""

    challenge: Challenge
    cnonce: str
    used: int = 0


class DigestClient:
    """Credentials, and the challenges that they have answered: later requests go with the answer
    at once, the nonce counted up.
    """

    def __init__(self, credentials: Credentials, ids: IdSource) -> None:
        self._credentials = credentials
        self._ids = ids
        self._standing: dict[tuple[str, str], _Standing] = {}

    def receive(self, response: Response) -> Sequence[Challenge]:
        """Take the challenges of a 401 or 407; returns those that can now be answered."""
        wanted = self._credentials.realm
        taken = [one for one in read_challenges(response) if wanted in (None, one.realm)]
        for challenge in taken:
            self._standing.pop(challenge.place, None)
            if len(self._standing) >= MAX_REALMS:
                del self._standing[next(iter(self._standing))]
            self._standing[challenge.place] = _Standing(challenge, self._ids.new_token())
        return taken

    def headers(self, method: str, uri: str, body: bytes = b"") -> list[tuple[str, str]]:
        """The header fields for a request; none before the first challenge. Each call counts."""
        fields: list[tuple[str, str]] = []
        for standing in self._standing.values():
            standing.used += 1
            fields.append(
                authorize(
                    standing.challenge,
                    self._credentials,
                    method=method,
                    uri=uri,
                    body=body,
                    cnonce=standing.cnonce,
                    nonce_count=standing.used,
                )
            )
        return fields

    def dress(self, request: Request) -> None:
        """Put the header fields into ``request``, in place of any that are there."""
        for name in _ANSWERED_IN.values():
            request.headers.remove(name)
        for name, value in self.headers(request.method, str(request.uri), request.body):
            request.headers.add(name, value)


def answers_something_new(
    challenges: Iterable[Challenge], answered: Iterable[tuple[str, str]]
) -> bool:
    """Whether to try again: somebody asks who did not before, or only the nonce was stale.

    Who asks again in spite of our answer says that the credentials are wrong.
    """
    before = set(answered)
    return any(one.stale or one.place not in before for one in challenges)
