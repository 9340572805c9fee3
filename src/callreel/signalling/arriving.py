"""A call that comes in: what is dialled, the leg that its INVITE opens, and what its row says."""

from __future__ import annotations

from callreel.calls.model import CallDirection
from callreel.service.calls import NewCall
from callreel.signalling.bridge import Source
from callreel.signalling.calling import Caller
from callreel.signalling.leg import Leg
from callreel.signalling.means import Means
from callreel.signalling.parties import shown_address
from callreel.signalling.user_agent import IncomingRequest
from callreel.wire.sip.message import Request
from callreel.wire.sip.session_timer import USUAL_SECONDS, answer_timer


def dialled_in(request: Request, source: Source) -> str:
    """What is dialled. A trunk that we register with may write us in the Request-URI: then it is
    in To."""
    dialled = request.uri.user or ""
    if source.own_user is not None and dialled == source.own_user:
        return request.to_address.uri.user or ""
    return dialled


def calling_leg(incoming: IncomingRequest, source: Source, means: Means) -> Leg:
    """The leg that an INVITE opens. Raises ``PeerError`` for one that cannot be answered."""
    request = incoming.request
    leg = Leg(
        call_id="",
        session=means.new_session(),
        source_host=incoming.flow.host,
        participant=str(request.from_address.uri)[:256],
        source=source.name,
        nat=source.nat,
        srtp=means.keys.policy(source.srtp, incoming.flow),
        # First of all: to a peer without a sound Contact we could never say BYE.
        dialog=incoming.dialog(),
        timer=answer_timer(request, wished_seconds=USUAL_SECONDS),
    )
    leg.learn_allow(request)
    leg.aim()
    leg.describe(request)
    return leg


def caller_in(request: Request, source: Source) -> Caller:
    """Who calls."""
    return Caller.of(request, trusted=source.trusted, number=source.number)


def call_in(request: Request, source: Source, dialled: str) -> NewCall:
    """The row of a call."""
    who = caller_in(request, source)
    uri = request.from_address.uri
    return NewCall(
        account_id=source.account_id,
        direction=CallDirection.INBOUND,
        from_=shown_address(f"sip:{who.number or uri.user or ''}@{uri.host}"),
        to=shown_address(f"sip:{dialled}@{request.uri.host}"),
        caller_name=who.name or None,
        peer=source.name,
        sip_call_id=request.call_id[:256],
    )
