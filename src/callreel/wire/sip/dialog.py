"""Dialogs (RFC 3261 §12): what two user agents remember of each other. No I/O.

A dialog can be stored as a JSON object and taken up again by another process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from callreel.base.errors import PeerError, UsageError
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import Message, Request, Response
from callreel.wire.sip.values import URI, Address, CSeq

_TARGET_REFRESH = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})


@dataclasses.dataclass(frozen=True, slots=True)
class DialogId:
    """What identifies a dialog (RFC 3261 §12): Call-ID and both tags."""

    call_id: str
    """The Call-ID."""

    local_tag: str
    """Our tag."""

    remote_tag: str
    """The peer's tag; empty for a peer of RFC 2543 that sends none."""

    @classmethod
    def of_request(cls, request: Request) -> DialogId:
        """The dialog that a received request is meant for; ``local_tag`` is empty outside one."""
        return cls(request.call_id, request.to_address.tag or "", request.from_address.tag or "")


@dataclasses.dataclass(slots=True)
class Dialog:
    """One dialog as one side knows it. Made by :meth:`uas` and :meth:`uac`."""

    call_id: str
    """The Call-ID."""

    local: str
    """Our From or To with our tag, as it is written in our requests."""

    remote: str
    """The peer's To or From with its tag, as the peer wrote it."""

    remote_target: str
    """The URI that our requests go to: the peer's Contact."""

    route_set: tuple[str, ...] = ()
    """The Route values of our requests, in order, as they came in Record-Route."""

    local_cseq: int = 0
    """CSeq of our last request; 0 before the first."""

    remote_cseq: int | None = None
    """CSeq of the peer's last request; None before the first."""

    flow: Flow | None = None
    """The flow over which the dialog was made."""

    owns_call_id: bool = False
    """True if the Call-ID is ours: we sent the first request."""

    @classmethod
    def uas(cls, request: Request, response: Response, flow: Flow | None = None) -> Dialog:
        """The dialog that our response (2xx, or provisional with a tag) makes (§12.1.1)."""
        target = request.contact_uri
        if target is None:
            raise PeerError("Contact is missing")
        return cls(
            call_id=request.call_id,
            local=str(response.to_address),
            remote=request.headers["From"],
            remote_target=str(target),
            route_set=_routes(request),
            remote_cseq=request.cseq.sequence,
            flow=flow,
        )

    @classmethod
    def uac(cls, request: Request, response: Response, flow: Flow | None = None) -> Dialog:
        """The dialog that the response to our request makes (§12.1.2)."""
        target = response.contact_uri
        if target is None:
            # A 2xx without Contact breaks the rules, but the call stands: aim at the INVITE's URI.
            target = request.uri
        return cls(
            call_id=request.call_id,
            local=str(request.from_address),
            remote=response.headers["To"],
            remote_target=str(target),
            route_set=tuple(reversed(_routes(response))),
            local_cseq=request.cseq.sequence,
            flow=flow,
            owns_call_id=True,
        )

    @property
    def id(self) -> DialogId:
        """What identifies the dialog."""
        return DialogId(
            self.call_id,
            Address.parse(self.local).tag or "",
            Address.parse(self.remote).tag or "",
        )

    def request(
        self,
        method: str,
        *,
        contact: str | None = None,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Request:
        """The next request of ours in the dialog (§12.2.1.1), CSeq counted up.

        ``contact`` is our URI, needed in a request that refreshes the target (INVITE, UPDATE).
        """
        self.local_cseq += 1
        return self._build(method, self.local_cseq, contact, body, content_type, headers)

    def ack(
        self,
        cseq: int,
        *,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Request:
        """The ACK of the 2xx to our INVITE number ``cseq`` (§13.2.2.4)."""
        return self._build("ACK", cseq, None, body, content_type, headers)

    def confirm(self, response: Response) -> None:
        """An early dialog of ours is answered: route set and target are those of the 2xx
        (§13.2.2.4), the count of our requests goes on.
        """
        self.route_set = tuple(reversed(_routes(response)))
        self._refresh(response)

    def next_hop(self) -> URI:
        """The URI that says where our requests are sent first (§8.1.2)."""
        return self._first_route() or URI.parse(self.remote_target)

    def receive_request(self, request: Request) -> None:
        """Take note of a request of the peer (§12.2.2). Raises PeerError (500) if it is out of
        order; the dialog stays as it was.
        """
        sequence = request.cseq.sequence
        if request.method != "ACK":
            if self.remote_cseq is not None and sequence < self.remote_cseq:
                raise PeerError("CSeq is lower than that of an earlier request", status=500)
            self.remote_cseq = sequence
        if request.method in _TARGET_REFRESH:
            self._refresh(request)

    def receive_response(self, response: Response) -> None:
        """Take note of a 2xx to a request of ours: it may move the target (§12.2.1.2)."""
        if 200 <= response.code < 300 and response.cseq.method in _TARGET_REFRESH:
            self._refresh(response)

    def to_dict(self) -> dict[str, Any]:
        """The dialog as a JSON object."""
        return {
            "call_id": self.call_id,
            "local": self.local,
            "remote": self.remote,
            "remote_target": self.remote_target,
            "route_set": list(self.route_set),
            "local_cseq": self.local_cseq,
            "remote_cseq": self.remote_cseq,
            "flow": None
            if self.flow is None
            else {
                "transport": self.flow.transport.value,
                "host": self.flow.host,
                "port": self.flow.port,
                "local": list(self.flow.local) if self.flow.local else None,
                "domain": self.flow.domain,
            },
            "owns_call_id": self.owns_call_id,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Dialog:
        """The dialog that :meth:`to_dict` wrote. Raises UsageError if it is none."""
        try:
            flow = data["flow"]
            local = flow and flow["local"]
            return cls(
                call_id=data["call_id"],
                local=data["local"],
                remote=data["remote"],
                remote_target=data["remote_target"],
                route_set=tuple(data["route_set"]),
                local_cseq=data["local_cseq"],
                remote_cseq=data["remote_cseq"],
                flow=None
                if flow is None
                else Flow(
                    Transport(flow["transport"]),
                    flow["host"],
                    flow["port"],
                    (local[0], local[1]) if local else None,
                    flow.get("domain"),
                ),
                owns_call_id=bool(data.get("owns_call_id", False)),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UsageError(f"not a stored dialog: {error!r}") from error

    def _first_route(self) -> URI | None:
        return Address.parse(self.route_set[0]).uri if self.route_set else None

    def _refresh(self, message: Message) -> None:
        target = message.contact_uri
        if target is not None:
            self.remote_target = str(target)

    def _build(
        self,
        method: str,
        sequence: int,
        contact: str | None,
        body: bytes,
        content_type: str | None,
        headers: Iterable[tuple[str, str]],
    ) -> Request:
        target = URI.parse(self.remote_target)
        routes = list(self.route_set)
        first = self._first_route()
        if first is not None and "lr" not in first.parameters:
            # A strict router (RFC 2543) wants itself in the Request-URI, the target last.
            routes = [*routes[1:], f"<{self.remote_target}>"]
            target = first
        request = Request(method, target)
        if routes:
            request.headers.setlist("Route", routes)
        request.headers.set("Max-Forwards", "70")
        request.headers.set("From", self.local)
        request.headers.set("To", self.remote)
        request.headers.set("Call-ID", self.call_id)
        request.headers.set("CSeq", str(CSeq(sequence, method)))
        if contact is not None:
            request.headers.set("Contact", f"<{contact}>")
        for name, value in headers:
            request.headers.add(name, value)
        request.set_body(body, content_type)
        return request


def _routes(message: Message) -> tuple[str, ...]:
    return tuple(str(address) for address in message.record_route)
