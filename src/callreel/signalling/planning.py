"""Whom to call for what a program or a document names: a URI as it stands, a number by the
routes, else by the trunk that is there for all others. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from callreel.calls.voice import NoRoute, Target
from callreel.signalling.calling import Caller
from callreel.signalling.means import Dialplan
from callreel.signalling.routing import Plan, Target as Routed, TargetKind, plain_number
from callreel.wire.sip.values import URI, printable

API = "api"
"""What routes call the source of calls that programs and documents make."""

_NUMBER = re.compile(r"\+?[0-9*#]{1,32}")
_MAX_CALLER = 128


def plan_for(
    target: Target, account_id: str, dialplan: Dialplan, is_ours: Callable[[URI], bool]
) -> Plan:
    """What is tried for a target that an account calls; each may ring as long as the routes say.

    ``is_ours`` tells URIs of our own address: their user is called as a number is, so that nobody
    has us call ourselves. Raises :class:`NoRoute`.
    """
    wanted = target.to.strip()
    scheme = wanted.partition(":")[0].lower()
    if scheme in ("sip", "sips"):
        uri = _parsed(wanted)
        if not is_ours(uri):
            return _by_uri(uri, dialplan)
        wanted = uri.user or ""
    if scheme == "tel":
        wanted = wanted[4:].partition(";")[0]
    number = plain_number(wanted)
    if not number or printable(number) != number:
        raise NoRoute("nobody is named who could be called")
    plan = dialplan.routes.find(number, API)
    if plan is not None:
        return plan
    if not _NUMBER.fullmatch(number):
        raise NoRoute(f"{number[:64]!r} is neither a number, nor a SIP URI, nor a user")
    trunk = dialplan.account_trunks.get(account_id, dialplan.default_trunk)
    if trunk is None:
        raise NoRoute("no route and no trunk takes the number")
    return _alone(Routed(TargetKind.TRUNK, trunk, number))


def _parsed(text: str) -> URI:
    try:
        uri = URI.parse(text)
    except ValueError as error:
        raise NoRoute(f"no SIP URI: {error}") from None
    if not uri.host:
        raise NoRoute("a SIP URI without a host")
    return uri


def _by_uri(uri: URI, dialplan: Dialplan) -> Plan:
    if not dialplan.dial_uris:
        raise NoRoute("SIP URIs are not called here: only what the routes take")
    # Header fields in it are nobody's business but ours (RFC 3261 §19.1.5 warns of them).
    bare = URI(
        scheme=uri.scheme,
        user=uri.user,
        host=uri.host,
        port=uri.port,
        parameters=uri.parameters,
    )
    return _alone(Routed(TargetKind.URI, str(bare), uri.user or uri.host))


def _alone(target: Routed) -> Plan:
    return Plan((target,), at_once=False, ring_seconds=0.0, record=None)


def caller_of(text: str) -> Caller:
    """Who calls, as a program says: a number, or a URI of which the user counts."""
    text = text.strip()
    if text.partition(":")[0].lower() in ("sip", "sips"):
        try:
            text = URI.parse(text).user or ""
        except ValueError:
            text = ""
    elif text[:4].lower() == "tel:":
        text = text[4:].partition(";")[0]
    return Caller(number=printable(plain_number(text))[:_MAX_CALLER], name="")
