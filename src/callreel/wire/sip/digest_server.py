"""Challenging, and judging the answers (RFC 3261 §22.1, RFC 7616 §3.3, §5.4, RFC 8760). Pure.

A nonce carries the time it was made at and a MAC, so nothing is kept of a challenge: a flood of
requests costs no memory. What is kept, within a bound, is how often a nonce was used with success:
a request heard on the wire and sent again is refused.

A nonce is good for the source that it was sent to. So whoever presents one that is good has
received it: nobody can guess passwords, or fail on purpose, in another's name.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from callreel.base.errors import PeerError
from callreel.wire.sip.challenges import AuthValue, parse_auth_values
from callreel.wire.sip.digest import Algorithm, Exchange
from callreel.wire.sip.message import Request
from callreel.wire.sip.values import URI

NONCE_LIFETIME_SECONDS = 300.0
MAX_NONCES = 65_536
MAX_CREDENTIALS = 8
"""Authorization header fields that are looked at in one request."""
MAX_USERNAME_CHARACTERS = 256

_STAMP = struct.Struct(">QQ")
_MAC_BYTES = 16
_HEX_COUNT = re.compile(r"[0-9A-Fa-f]{8}")
_BARE = ("algorithm", "stale")
_MISSING_USER = b"no such user\0"

SecretOf = Callable[[str, Algorithm], str | None]
"""The HA1 of a user name under an algorithm (never a ``-sess``); None if there is none."""


class Outcome(enum.Enum):
    """What became of the credentials in a request."""

    MISSING = "missing"
    """There are none for our realm: challenge."""
    WRONG = "wrong"
    """They are wrong, or of nobody we know: challenge, and count it against the source."""
    STALE = "stale"
    """The nonce is too old, not for this source, or used up: challenge with ``stale``. That says
    nothing of the credentials, but where the nonce was used up, which takes the right ones.
    """
    RIGHT = "right"
    """They are right."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on one request."""

    outcome: Outcome
    """What became of the credentials."""
    username: str = ""
    """The name they are for, proven only if they are right."""


class DigestServer:
    """Challenges for one realm, strongest algorithm first, and their answers.

    ``key`` makes the nonces; take a new one for each process, or what was heard before a restart
    could be sent again after it. Times are monotonic seconds.
    """

    def __init__(
        self,
        *,
        realm: str,
        key: bytes,
        algorithms: Sequence[Algorithm] = (Algorithm.SHA_256, Algorithm.MD5),
        lifetime_seconds: float = NONCE_LIFETIME_SECONDS,
        max_nonces: int = MAX_NONCES,
    ) -> None:
        self.realm = realm
        """The realm, which users see and HA1s are made for."""
        self._key = key
        self.algorithms = algorithms
        """The algorithms offered, none of them ``-sess``. They may change while nonces are out."""
        self._lifetime_ms = round(lifetime_seconds * 1000)
        self._max_nonces = max_nonces
        self._serial = 0
        # Of nonces used with success: the last count. The oldest success first.
        self._used: dict[tuple[int, int], int] = {}
        # Nonces up to this one that are not in the table have been thrown out of it, or might
        # have been: they are not taken any more.
        self._forgotten = (-1, 0)

    def __len__(self) -> int:
        """Nonces that are remembered."""
        return len(self._used)

    def challenges(self, *, source: str, now: float, stale: bool = False) -> list[tuple[str, str]]:
        """The header fields of a 401 to ``source``: one an algorithm, each with its own nonce."""
        fields: list[tuple[str, str]] = []
        for algorithm in sorted(self.algorithms, key=lambda one: -one.strength):
            parameters = {"realm": self.realm, "nonce": self._new_nonce(source, now)}
            if stale:
                parameters["stale"] = "true"
            parameters |= {"algorithm": algorithm.value, "qop": "auth"}
            fields.append(("WWW-Authenticate", AuthValue("Digest", parameters).serialize(_BARE)))
        return fields

    def verify(self, request: Request, secret_of: SecretOf, *, source: str, now: float) -> Verdict:
        """Judge the credentials in ``request``. Raises PeerError (400) if they cannot be read.

        The work is the same whether the user exists or not, and the secrets are compared in
        constant time.
        """
        given = self._credentials(request)
        if given is None:
            return Verdict(Outcome.MISSING)
        username = given.get("username", "")
        algorithm = Algorithm.named(given.get("algorithm"))
        if len(username) > MAX_USERNAME_CHARACTERS:
            raise PeerError("Authorization: user name is too long")
        if algorithm is None or algorithm.base not in self.algorithms:
            return Verdict(Outcome.WRONG, username)
        exchange = _exchange(given, algorithm, request)
        stamp = self._stamp(exchange.nonce, source)
        if stamp is None or stamp[0] <= self._oldest_ms(now):
            return Verdict(Outcome.STALE, username)
        secret = secret_of(username, algorithm.base)
        nobody = algorithm.hash(self._key + _MISSING_USER + username.encode("utf-8", "replace"))
        expected = exchange.response(nobody if secret is None else secret)
        presented = given.get("response", "").lower().encode("utf-8", "replace")
        is_right = hmac.compare_digest(expected.encode(), presented)
        if not is_right or secret is None or not _is_for(exchange.uri, request.uri):
            return Verdict(Outcome.WRONG, username)
        count = int(exchange.nonce_count, 16) if exchange.qop is not None else None
        fresh = self._take(stamp, count, now)
        return Verdict(Outcome.RIGHT if fresh else Outcome.STALE, username)

    def _credentials(self, request: Request) -> dict[str, str] | None:
        """The parameters of the first Digest credentials for our realm."""
        for text in request.headers.getlist("Authorization")[:MAX_CREDENTIALS]:
            try:
                values = parse_auth_values(text)
            except ValueError as error:
                raise PeerError(f"Authorization: {error}") from error
            for value in values:
                ours = value.parameters.get("realm") == self.realm
                if ours and value.scheme.lower() == "digest":
                    return dict(value.parameters)
        return None

    # Nonces

    def _new_nonce(self, source: str, now: float) -> str:
        # The serial number makes nonces of one instant differ: counts are kept for each.
        self._serial += 1
        stamp = _STAMP.pack(max(0, int(now * 1000)), self._serial)
        return base64.urlsafe_b64encode(stamp + self._mac(stamp, source)).decode()

    def _stamp(self, nonce: str, source: str) -> tuple[int, int] | None:
        """When a nonce was made (ms) and its serial number; None if it is none of ours."""
        try:
            raw = base64.b64decode(nonce, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        stamp, mac = raw[: _STAMP.size], raw[_STAMP.size :]
        if len(stamp) != _STAMP.size or not hmac.compare_digest(mac, self._mac(stamp, source)):
            return None
        made_ms, serial = _STAMP.unpack(stamp)
        return made_ms, serial

    def _mac(self, stamp: bytes, source: str) -> bytes:
        text = stamp + f"{len(source)}:{source}{self.realm}".encode("utf-8", "replace")
        return hmac.digest(self._key, text, hashlib.sha256)[:_MAC_BYTES]

    def _oldest_ms(self, now: float) -> int:
        """Nonces made then or before are too old."""
        return int(now * 1000) - self._lifetime_ms

    def _take(self, stamp: tuple[int, int], count: int | None, now: float) -> bool:
        """Use a nonce once more. False if it was used so before, or may have been.

        Without a count (RFC 2069) it can be used once.
        """
        last = self._used.get(stamp)
        if last is None:
            if stamp <= self._forgotten or count == 0:
                return False
            self._make_room(self._oldest_ms(now))
        elif count is None or count <= last:
            return False
        # A nonce that was used without counting is used up for good.
        self._used[stamp] = 0xFFFF_FFFF if count is None else count
        return True

    def _make_room(self, oldest_ms: int) -> None:
        if len(self._used) < self._max_nonces:
            return
        expired = [stamp for stamp in self._used if stamp[0] <= oldest_ms]
        for stamp in expired:
            del self._used[stamp]
        # At least an eighth, so that this is not done for each nonce.
        surplus = len(self._used) - self._max_nonces * 7 // 8
        if surplus > 0:
            for stamp in sorted(self._used)[:surplus]:
                del self._used[stamp]
                self._forgotten = max(self._forgotten, stamp)


def _exchange(given: dict[str, str], algorithm: Algorithm, request: Request) -> Exchange:
    """What the response must have been computed over. Raises PeerError (400)."""
    qop = given["qop"].lower() if given.get("qop") else None
    if qop not in (None, "auth", "auth-int"):
        raise PeerError("Authorization: qop is not known")
    count = given.get("nc", "")
    if qop is not None and (not _HEX_COUNT.fullmatch(count) or not given.get("cnonce")):
        raise PeerError("Authorization: qop without nc or cnonce")
    return Exchange(
        algorithm=algorithm,
        nonce=given.get("nonce", ""),
        method=request.method,
        uri=given.get("uri", ""),
        body=request.body,
        qop=qop,
        nonce_count=count,
        cnonce=given.get("cnonce", ""),
    )


def _is_for(digest_uri: str, request_uri: URI) -> bool:
    """Whether credentials for ``digest_uri`` may go with a request for ``request_uri``.

    A proxy in front of us may have changed host and parameters (RFC 3261 §22.4), so only the
    user, the number called, is compared; some clients leave it out.
    """
    try:
        named = URI.parse(digest_uri)
    except ValueError:
        return False
    return named.user is None or named.user == request_uri.user
