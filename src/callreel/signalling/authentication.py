"""The gate: who may register, and who may open a call.

Peers are known by their address, users by digest. Requests inside a dialog do not pass here: the
dialog's tags are their ticket. Whatever is refused is refused alike, so that a scanner learns
neither names nor passwords.
"""

from __future__ import annotations

import enum
import logging
from dataclasses import dataclass

from callreel.base.clock import Clock
from callreel.service.throttle import FailureThrottle, counted_as
from callreel.signalling.peers import Peer, PeerDirectory
from callreel.signalling.user_agent import IncomingRequest
from callreel.signalling.users import User, UserDirectory
from callreel.wire.sip.digest_server import DigestServer, Outcome
from callreel.wire.sip.flow import Flow
from callreel.wire.sip.message import Request
from callreel.wire.sip.values import printable

logger = logging.getLogger("callreel.signalling")

MAX_GOOD_HOSTS = 10_000

Caller = Peer | User
"""Who sent a request, once that is certain."""


class Decision(enum.Enum):
    """What to do with a request."""

    ALLOWED = "allowed"
    """Go on: it is the caller's."""
    CHALLENGE = "challenge"
    """Answer 401 with the challenges."""
    REFUSE = "refuse"
    """Answer 403."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The gate's word on one request."""

    decision: Decision
    """What to do."""
    caller: Caller | None = None
    """Whose the request is, if it is allowed."""
    status: int = 200
    """The status to answer with, if it is not."""
    headers: tuple[tuple[str, str], ...] = ()
    """The header fields of that answer."""


_REFUSED = Admission(Decision.REFUSE, status=403)


class Gate:
    """Admits requests outside dialogs.

    ``key``: random bytes, new in each process. ``throttle`` None: failures are not limited.
    """

    def __init__(
        self,
        *,
        peers: PeerDirectory,
        users: UserDirectory,
        key: bytes,
        clock: Clock,
        throttle: FailureThrottle | None,
    ) -> None:
        self._peers = peers
        self._users = users
        self._key = key
        self._clock = clock
        self._throttle = throttle
        self._digest = DigestServer(realm=users.realm, key=key, algorithms=users.algorithms)
        # Hosts from where somebody once proved who he is; the oldest first.
        self._good_hosts: dict[str, None] = {}

    @property
    def users(self) -> UserDirectory:
        """Who is known by digest."""
        return self._users

    def configure(self, peers: PeerDirectory, users: UserDirectory) -> None:
        """Go by these from now on: the configuration was read anew."""
        if users.realm == self._users.realm:
            # The same server goes on: it knows which nonces were used.
            self._digest.algorithms = users.algorithms
        else:
            self._digest = DigestServer(
                realm=users.realm, key=self._key, algorithms=users.algorithms
            )
        self._peers = peers
        self._users = users

    def is_peer(self, host: str) -> bool:
        """Whether a peer's SIP comes from this address."""
        return self.peer_at(host) is not None

    def peer_at(self, host: str) -> Peer | None:
        """The peer whose SIP comes from this address."""
        return self._peers.find(host)

    def may_speak(self, host: str) -> bool:
        """Whether SIP from this address is read at all: for the user agent's ``may_speak``.

        Where only failures came from, and too many, nothing is read for a while. A host that was
        good before is spared: calls may be up there, and a telephone that nobody can find.
        """
        if self._peers.find(host) is not None:
            return True
        if not self._users.may_be_at(host):
            return False
        return counted_as(host) in self._good_hosts or not self._is_throttled(host)

    def admit(self, incoming: IncomingRequest) -> Caller | None:
        """Whose the request is; None if it was answered here. Raises ``PeerError`` (400)."""
        admission = self.judge(incoming.request, incoming.flow)
        if admission.decision is not Decision.ALLOWED:
            incoming.respond(admission.status, headers=admission.headers)
        return admission.caller

    def judge(self, request: Request, flow: Flow) -> Admission:
        """Decide on a request that came over ``flow``. Raises ``PeerError`` (400) for credentials
        that cannot be read.

        A peer's address is enough for all but REGISTER, which is always a user's.
        """
        peer = self._peers.find(flow.host)
        if peer is not None and request.method != "REGISTER":
            return Admission(Decision.ALLOWED, peer)
        if not self._users.may_be_at(flow.host):
            return _REFUSED
        now = self._clock.monotonic()
        host = flow.host
        has_credentials = request.headers.get("Authorization") is not None
        if has_credentials and self._is_throttled(host, _claimed_by(request), str(flow)):
            return _REFUSED
        verdict = self._digest.verify(request, self._users.secret, source=host, now=now)
        user = self._users.find(verdict.username)
        if verdict.outcome is Outcome.RIGHT and user is not None and user.may_be_at(host):
            self._succeeded(request, flow)
            return Admission(Decision.ALLOWED, user)
        if verdict.outcome in (Outcome.RIGHT, Outcome.WRONG):
            self._failed(request, flow, verdict.username)
        stale = verdict.outcome is Outcome.STALE
        challenges = self._digest.challenges(source=host, now=now, stale=stale)
        return Admission(Decision.CHALLENGE, status=401, headers=tuple(challenges))

    # A password is never seen here. What tells a source that was good from another behind the same
    # address is its port: that is what the throttle gets in the password's place.

    def _is_throttled(self, host: str, username: str = "", port: str = "") -> bool:
        if self._throttle is None:
            return False
        now = self._clock.monotonic()
        return self._throttle.refused_for_s(host, username, port, now=now) is not None

    def _succeeded(self, request: Request, flow: Flow) -> None:
        host = counted_as(flow.host)
        self._good_hosts.pop(host, None)
        self._good_hosts[host] = None
        if len(self._good_hosts) > MAX_GOOD_HOSTS:
            del self._good_hosts[next(iter(self._good_hosts))]
        if self._throttle is not None:
            self._throttle.succeeded(flow.host, _claimed_by(request), str(flow))

    def _failed(self, request: Request, flow: Flow, username: str) -> None:
        logger.info(
            "%s from %s: wrong credentials of %r", request.method, flow, printable(username)[:64]
        )
        if self._throttle is None:
            return
        now = self._clock.monotonic()
        if self._throttle.failed(flow.host, _claimed_by(request), str(flow), now=now):
            logger.warning("%s fails to authenticate again and again: not read for now", flow.host)


def _claimed_by(request: Request) -> str:
    """The AoR that a request comes from, by its own account."""
    return request.from_address.uri.user or ""
