"""What the transaction layer gives out: messages to send, and what happened."""

from __future__ import annotations

import dataclasses

from callreel.wire.sip.flow import Flow
from callreel.wire.sip.message import Request, Response


@dataclasses.dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send."""

    data: bytes
    """The whole message."""

    flow: Flow
    """Where to."""

    fallback: Flow | None = None
    """For a response, where to if that connection is gone (RFC 3261 §18.2.2)."""


@dataclasses.dataclass(frozen=True, slots=True)
class RequestReceived:
    """A new request, to be answered with :meth:`~.endpoint.Endpoint.respond`."""

    transaction: int
    """The server transaction."""

    request: Request
    """The request; its top Via says where it came from."""

    flow: Flow
    """How it came."""

    local_tag: str
    """The tag for To in the responses, if To has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class AckReceived:
    """The ACK of a 2xx; a body in it may be the answer to our offer."""

    transaction: int
    """The INVITE's server transaction."""

    request: Request
    """The ACK."""


@dataclasses.dataclass(frozen=True, slots=True)
class AckTimedOut:
    """A 2xx was not acknowledged: end the dialog with a BYE (RFC 3261 §13.3.1.4)."""

    transaction: int
    """The INVITE's server transaction."""


@dataclasses.dataclass(frozen=True, slots=True)
class CancelReceived:
    """A pending INVITE was cancelled; the CANCEL is answered, the INVITE awaits its 487."""

    transaction: int
    """The INVITE's server transaction."""


@dataclasses.dataclass(frozen=True, slots=True)
class PrackReceived:
    """A reliable provisional response of ours is acknowledged; the PRACK is to be answered."""

    transaction: int
    """The INVITE's server transaction."""

    prack: RequestReceived
    """The PRACK."""


@dataclasses.dataclass(frozen=True, slots=True)
class PrackTimedOut:
    """A reliable provisional response was not acknowledged: the INVITE is refused with 504."""

    transaction: int
    """The INVITE's server transaction."""

    response: Response
    """The 504."""


@dataclasses.dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A response to a request of ours."""

    transaction: int
    """The client transaction."""

    response: Response
    """Provisional or final. Further 2xx to an INVITE come too, but those already acknowledged."""

    flow: Flow
    """How it came."""


@dataclasses.dataclass(frozen=True, slots=True)
class TransactionTimedOut:
    """A request of ours got no final response (to be taken as a 408), or the refusal of an
    INVITE no ACK.
    """

    transaction: int
    """The transaction."""


@dataclasses.dataclass(frozen=True, slots=True)
class TransportFailed:
    """A request of ours could not be sent (to be taken as a 503)."""

    transaction: int
    """The client transaction."""


@dataclasses.dataclass(frozen=True, slots=True)
class MessageRefused:
    """Something came that cannot be used; what there was to answer has been answered."""

    flow: Flow
    """Who sent it."""

    reason: str
    """What is wrong with it."""

    status: int
    """The status that says so."""


Event = (
    RequestReceived
    | AckReceived
    | AckTimedOut
    | CancelReceived
    | PrackReceived
    | PrackTimedOut
    | ResponseReceived
    | TransactionTimedOut
    | TransportFailed
    | MessageRefused
)
