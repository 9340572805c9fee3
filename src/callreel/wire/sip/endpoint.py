"""The transaction layer of one SIP endpoint (RFC 3261 §17.1.3, §17.2.3). No I/O.

Bytes and the time (monotonic seconds) go in; bytes with the flow they take, events and the next
deadline come out. What can be answered without knowing a call is answered here: malformed
requests, unknown methods and extensions, a CANCEL, and everything once too much is going on.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import deque
from collections.abc import Collection

from callreel.base.errors import PeerError
from callreel.base.ids import IdSource
from callreel.wire.sip.answer import Answer
from callreel.wire.sip.events import (
    AckReceived,
    AckTimedOut,
    CancelReceived,
    Event,
    MessageRefused,
    Outgoing,
    PrackReceived,
    PrackTimedOut,
    RequestReceived,
    ResponseReceived,
    TransactionTimedOut,
    TransportFailed,
)
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import (
    MAX_DATAGRAM_BYTES,
    MAX_STREAM_MESSAGE_BYTES,
    REASON_PHRASES,
    MalformedRequest,
    Request,
    Response,
    build_response,
    parse_message,
    response_address,
    stamp_source,
)
from callreel.wire.sip.prack import RAck, ReliableProvisionals
from callreel.wire.sip.transaction import (
    TIMEOUT,
    Failed,
    InviteClientTransaction,
    InviteServerTransaction,
    NonInviteClientTransaction,
    NonInviteServerTransaction,
    ResponsePassed,
    State,
    build_cancel,
)

__all__ = [
    "COOKIE",
    "KNOWN_METHODS",
    "AckReceived",
    "AckTimedOut",
    "CancelReceived",
    "Endpoint",
    "Event",
    "MessageRefused",
    "Outgoing",
    "PrackReceived",
    "PrackTimedOut",
    "RequestReceived",
    "ResponseReceived",
    "TransactionTimedOut",
    "TransportFailed",
]

COOKIE = "z9hG4bK"
"""How a branch begins that identifies a transaction (RFC 3261 §8.1.1.7)."""

KNOWN_METHODS = frozenset(
    {"ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY"}
    | {"OPTIONS", "PRACK", "PUBLISH", "REFER", "REGISTER", "SUBSCRIBE", "UPDATE"}
)
"""The methods that IANA lists: one of them that is not allowed gets 405, any other 501."""

RETRY_AFTER_SECONDS = 5


_Server = InviteServerTransaction | NonInviteServerTransaction
_Client = InviteClientTransaction | NonInviteClientTransaction
_Key = tuple[str, ...]


@dataclasses.dataclass(slots=True)
class _Entry:
    """A transaction and what the endpoint knows of it."""

    machine: _Server | _Client
    key: _Key
    flow: Flow
    fallback: Flow | None = None
    local_tag: str = ""
    answer: Answer | None = None
    answer_key: _Key | None = None
    cancel_wanted: bool = False
    cancel_reason: str | None = None
    provisionals: ReliableProvisionals | None = None
    provisionals_key: _Key | None = None
    held: Response | None = None
    releases: int | None = None
    deadline: float | None = None

    def next_deadline(self) -> float | None:
        parts = (self.machine, self.answer, self.provisionals)
        deadlines = [part.next_deadline() for part in parts if part is not None]
        return min((one for one in deadlines if one is not None), default=None)


@dataclasses.dataclass(slots=True)
class _SentAck:
    """The ACK of a 2xx, kept for when that 2xx comes again."""

    data: bytes
    flow: Flow
    expires: float


class Endpoint:
    """The transaction layer.

    ``methods`` and ``option_tags`` are what the user of the endpoint understands: everything else
    is refused here. At most ``max_transactions`` are kept at a time (about 4 KB each; over UDP a
    call leaves two behind for 32 s), and of requests that await their answer, ``max_unanswered``.
    """

    def __init__(
        self,
        *,
        ids: IdSource,
        methods: Collection[str],
        option_tags: Collection[str] = (),
        server_header: str = "callreel",
        max_transactions: int = 65_536,
        max_unanswered: int = 4_096,
        max_stream_message_bytes: int = MAX_STREAM_MESSAGE_BYTES,
    ) -> None:
        self.allow = ", ".join(methods)
        """The Allow header field."""
        self.supported = ", ".join(option_tags)
        """The Supported header field."""
        self._ids = ids
        self._methods = frozenset(methods)
        self._option_tags = frozenset(tag.lower() for tag in option_tags)
        self._server_header = server_header
        self._max_transactions = max_transactions
        self._max_unanswered = max_unanswered
        self._unanswered: set[int] = set()
        self._max_stream_message_bytes = max_stream_message_bytes
        self._entries: dict[int, _Entry] = {}
        self._servers: dict[_Key, int] = {}
        self._clients: dict[_Key, int] = {}
        self._clients_of_flow: dict[Flow, set[int]] = {}
        self._answers: dict[_Key, int] = {}
        self._provisionals: dict[_Key, int] = {}
        self._acks: dict[_Key, _SentAck] = {}
        self._heap: list[tuple[float, int]] = []
        self._output: deque[Outgoing] = deque()
        self._events: deque[Event] = deque()
        self._last_id = 0

    def __len__(self) -> int:
        """The number of transactions under way."""
        return len(self._entries)

    # Input

    def receive(self, data: bytes, flow: Flow, *, now: float) -> None:
        """Take one message: a datagram, or one frame of a stream."""
        stream = flow.transport.reliable
        maximum = self._max_stream_message_bytes if stream else MAX_DATAGRAM_BYTES
        try:
            message = parse_message(data, stream=stream, max_bytes=maximum)
            if isinstance(message, Response):
                self._receive_response(message, flow, now)
            else:
                stamp_source(message, flow.host, flow.port)
                self._receive_request(message, flow, now)
        except PeerError as error:
            self._events.append(MessageRefused(flow, str(error), error.status))
            if isinstance(error, MalformedRequest) and error.response is not None:
                self._send_stateless(error.response, flow)

    def refuse(self, data: bytes, flow: Flow, status: int) -> None:
        """Answer a request with ``status`` and keep nothing of it; drop anything else."""
        try:
            message = parse_message(data, stream=flow.transport.reliable)
        except MalformedRequest as error:
            if error.response is not None:
                error.response.code = status
                error.response.phrase = REASON_PHRASES.get(status, "")
                self._send_stateless(error.response, flow)
            return
        except PeerError:
            return
        if isinstance(message, Request) and message.method != "ACK":
            stamp_source(message, flow.host, flow.port)
            self._send_stateless(build_response(message, status, to_tag="refused"), flow)

    def request(self, request: Request, flow: Flow, *, sent_by: str, now: float) -> int:
        """Send ``request`` in a client transaction, whose number is returned.

        ``sent_by`` is our ``host:port`` for the Via that is put on top. Raises PeerError (503)
        if too many transactions are under way.
        """
        if len(self._entries) >= self._max_transactions:
            raise PeerError("too many transactions", status=503)
        branch = COOKIE + self._ids.new_id()
        self._put_via(request, flow.transport, sent_by, branch)
        return self._start_client(request, flow, branch, now)

    def acknowledge(self, ack: Request, flow: Flow, *, sent_by: str, now: float) -> None:
        """Send the ACK of a 2xx, and again whenever that 2xx comes again."""
        self._put_via(ack, flow.transport, sent_by, COOKIE + self._ids.new_id())
        data = bytes(ack)
        self._output.append(Outgoing(data, flow))
        for key in [key for key, sent in self._acks.items() if sent.expires <= now]:
            del self._acks[key]
        self._acks[_ack_key(ack)] = _SentAck(data, flow, now + TIMEOUT)

    def cancel(self, transaction: int, *, reason: str | None = None, now: float) -> None:
        """Cancel a pending INVITE of ours: at once if it was answered provisionally, else as
        soon as it is (RFC 3261 §9.1). Without effect once a final response is here.

        ``reason`` is a Reason value (RFC 3326), for example that another phone answered.
        """
        entry = self._entries.get(transaction)
        if entry is None or not isinstance(entry.machine, InviteClientTransaction):
            return
        entry.cancel_reason = reason or entry.cancel_reason
        if entry.machine.state is State.CALLING:
            entry.cancel_wanted = True
        elif entry.machine.state is State.PROCEEDING and entry.machine.request is not None:
            entry.cancel_wanted = False
            branch = entry.key[0]
            if (branch, "CANCEL") not in self._clients:
                entry.machine.cancelled(now=now)
                cancel = build_cancel(entry.machine.request)
                if entry.cancel_reason is not None:
                    cancel.headers.set("Reason", entry.cancel_reason)
                self._start_client(cancel, entry.flow, branch, now)
                self._settle(transaction, entry, now)

    def respond(
        self, transaction: int, response: Response, *, reliable: bool = False, now: float
    ) -> bool:
        """Answer a request. A 2xx to an INVITE is repeated until its ACK comes.

        A provisional response to an INVITE that is ``reliable`` is repeated until its PRACK
        comes, and waits for the PRACK of an earlier one; so does a 2xx, if a body was not
        acknowledged yet (RFC 3262 §3). False if the transaction is over or has its final
        response already.
        """
        entry = self._entries.get(transaction)
        if entry is None or isinstance(
            entry.machine, InviteClientTransaction | NonInviteClientTransaction
        ):
            return False
        if entry.machine.state not in (State.TRYING, State.PROCEEDING) or entry.held is not None:
            return False
        if self._server_header and response.code != 100:
            response.headers.set("Server", self._server_header)
        if reliable:
            self._provisionals_of(transaction, entry, response).send(response, now=now)
            self._settle(transaction, entry, now)
            return True
        if entry.provisionals is not None and response.code >= 200:
            if response.code < 300 and entry.provisionals.description_pending:
                entry.held = response
                return True
            entry.provisionals.finish()
        entry.machine.respond(response, now=now)
        if response.code >= 200:
            self._unanswered.discard(transaction)
        if isinstance(entry.machine, InviteServerTransaction) and 200 <= response.code < 300:
            entry.answer = Answer(response, now=now)
            entry.answer_key = _answer_key(response)
            self._answers[entry.answer_key] = transaction
        self._settle(transaction, entry, now)
        if response.code >= 200:
            self._release(entry, now)
        return True

    def transport_failed(self, flow: Flow, *, now: float) -> None:
        """Nothing more can be sent over ``flow``: its client transactions fail."""
        for transaction in sorted(self._clients_of_flow.get(flow, ())):
            entry = self._entries[transaction]
            if entry.machine.state in (State.CALLING, State.TRYING, State.PROCEEDING):
                entry.machine.transport_failed()
                self._settle(transaction, entry, now)

    # Output

    def next_deadline(self) -> float | None:
        """When :meth:`handle_timeout` wants to be called, monotonic seconds; None: never."""
        while self._heap:
            deadline, transaction = self._heap[0]
            entry = self._entries.get(transaction)
            if entry is not None and entry.deadline == deadline:
                return deadline
            heapq.heappop(self._heap)
        return None

    def handle_timeout(self, *, now: float) -> None:
        """Let every timer fire that is due by ``now``."""
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            transaction = heapq.heappop(self._heap)[1]
            entry = self._entries[transaction]
            entry.deadline = None
            entry.machine.handle_timeout(now=now)
            if entry.answer is not None:
                entry.answer.handle_timeout(now=now)
                response = entry.answer.response_to_send()
                if response is not None:
                    self._output.append(Outgoing(bytes(response), entry.flow, entry.fallback))
                if entry.answer.timed_out:
                    self._drop_answer(entry)
                    self._events.append(AckTimedOut(transaction))
            if entry.provisionals is not None:
                self._provisionals_due(transaction, entry, entry.provisionals, now)
            self._settle(transaction, entry, now)

    def messages_to_send(self) -> list[Outgoing]:
        """What to send now, in order; taken out."""
        messages = list(self._output)
        self._output.clear()
        return messages

    def next_event(self) -> Event | None:
        """The oldest event not yet taken, or None."""
        return self._events.popleft() if self._events else None

    # Requests

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        key = _server_key(request)
        transaction = self._servers.get(key)
        entry = self._entries.get(transaction) if transaction is not None else None
        if request.method == "ACK":
            if (
                transaction is not None
                and entry is not None
                and isinstance(entry.machine, InviteServerTransaction)
                and entry.machine.state in (State.COMPLETED, State.CONFIRMED)
            ):
                entry.machine.receive(request, now=now)
                self._settle(transaction, entry, now)
            else:
                self._receive_ack(request, now)
            return
        if transaction is not None and entry is not None:
            assert isinstance(entry.machine, InviteServerTransaction | NonInviteServerTransaction)
            entry.machine.receive(request, now=now)
            self._settle(transaction, entry, now)
            return
        if (
            len(self._entries) >= self._max_transactions
            or len(self._unanswered) >= self._max_unanswered
        ):
            response = build_response(request, 503, to_tag="overload")
            response.headers.set("Retry-After", str(RETRY_AFTER_SECONDS))
            self._send_stateless(response, flow)
            self._events.append(MessageRefused(flow, "too many transactions", 503))
            return
        self._start_server(request, key, flow, now)

    def _start_server(self, request: Request, key: _Key, flow: Flow, now: float) -> None:
        reliable = flow.transport.reliable
        machine: _Server
        if request.method == "INVITE":
            machine = InviteServerTransaction(request, reliable=reliable, now=now)
        else:
            machine = NonInviteServerTransaction(reliable=reliable, now=now)
        back, fallback = _way_back(request, flow)
        entry = _Entry(machine, key, back, fallback, local_tag=self._ids.new_id()[:16])
        transaction = self._add(entry)
        self._servers[key] = transaction
        self._unanswered.add(transaction)
        if request.method == "CANCEL":
            self._receive_cancel(transaction, entry, request, now)
            return
        refusal = self._refusal(request, entry.local_tag)
        if refusal is not None:
            self.respond(transaction, refusal, now=now)
            return
        self._settle(transaction, entry, now)
        received = RequestReceived(transaction, request, flow, entry.local_tag)
        if request.method == "PRACK":
            self._receive_prack(received, now)
            return
        self._events.append(received)

    def _refusal(self, request: Request, local_tag: str) -> Response | None:
        """The answer to a request that asks for what we do not know (RFC 3261 §8.2.1, §8.2.2.3).

        Max-Forwards of 0 is no reason: it stops proxies, not the endpoint (RFC 4475 §3.3.11).
        """
        if request.method not in self._methods:
            status = 405 if request.method in KNOWN_METHODS else 501
            return build_response(
                request, status, to_tag=local_tag, headers=[("Allow", self.allow)]
            )
        unknown = [tag for tag in request.require if tag.lower() not in self._option_tags]
        if unknown:
            return build_response(
                request, 420, to_tag=local_tag, headers=[("Unsupported", ", ".join(unknown))]
            )
        return None

    def _receive_cancel(
        self, transaction: int, entry: _Entry, request: Request, now: float
    ) -> None:
        invite_id = self._servers.get(_server_key(request, method="INVITE"))
        invite = self._entries.get(invite_id) if invite_id is not None else None
        if invite_id is None or invite is None:
            self.respond(transaction, build_response(request, 481, to_tag=entry.local_tag), now=now)
            return
        pending = invite.machine.state is State.PROCEEDING
        response = build_response(request, 200, to_tag=invite.local_tag)
        self.respond(transaction, response, now=now)
        if pending and invite.held is not None:
            # Its user believes it answered, and is told that the peer never acknowledged.
            self._refuse_instead(invite_id, invite, invite.held, 487, now)
            self._events.append(AckTimedOut(invite_id))
        elif pending and not invite.cancel_wanted:
            invite.cancel_wanted = True
            self._events.append(CancelReceived(invite_id))

    # Reliable provisional responses

    def _provisionals_of(
        self, transaction: int, entry: _Entry, response: Response
    ) -> ReliableProvisionals:
        if entry.provisionals is None:
            # From 1 to 2^31 - 1 (RFC 3262 §3), with room to count on.
            entry.provisionals = ReliableProvisionals(
                first_rseq=int(self._ids.new_id()[:7], 16) + 1
            )
            entry.provisionals_key = _answer_key(response)
            self._provisionals[entry.provisionals_key] = transaction
        return entry.provisionals

    def _receive_prack(self, received: RequestReceived, now: float) -> None:
        prack = received.request
        try:
            rack = RAck.of_prack(prack)
        except PeerError as error:
            self.respond(received.transaction, build_response(prack, error.status), now=now)
            return
        key = (
            prack.call_id,
            str(rack.cseq),
            prack.from_address.tag or "",
            prack.to_address.tag or "",
        )
        transaction = self._provisionals.get(key)
        entry = self._entries[transaction] if transaction is not None else None
        if (
            transaction is None
            or entry is None
            or entry.provisionals is None
            or not entry.provisionals.acknowledge(rack, now=now)
        ):
            refusal = build_response(prack, 481, to_tag=received.local_tag)
            self.respond(received.transaction, refusal, now=now)
            return
        self._entries[received.transaction].releases = transaction
        self._events.append(PrackReceived(transaction, received))
        self._settle(transaction, entry, now)

    def _release(self, prack: _Entry, now: float) -> None:
        """A PRACK is answered, or never will be: the 2xx that waited for it may go."""
        transaction, prack.releases = prack.releases, None
        entry = self._entries.get(transaction) if transaction is not None else None
        if transaction is None or entry is None or entry.held is None:
            return
        if entry.provisionals is None or not entry.provisionals.description_pending:
            held, entry.held = entry.held, None
            self.respond(transaction, held, now=now)

    def _provisionals_due(
        self, transaction: int, entry: _Entry, provisionals: ReliableProvisionals, now: float
    ) -> None:
        missing = provisionals.unacknowledged
        provisionals.handle_timeout(now=now)
        if (
            provisionals.timed_out
            and missing is not None
            and entry.machine.state is (State.PROCEEDING)
        ):
            refusal = self._refuse_instead(transaction, entry, missing, 504, now)
            self._events.append(PrackTimedOut(transaction, refusal))

    def _refuse_instead(
        self, transaction: int, entry: _Entry, response: Response, code: int, now: float
    ) -> Response:
        """Refuse an INVITE after all for which ``response`` was meant."""
        refusal = Response(code)
        for name in ("Via", "From", "To", "Call-ID", "CSeq"):
            refusal.headers.setlist(name, list(response.headers.getlist(name)))
        entry.held = None
        self.respond(transaction, refusal, now=now)
        return refusal

    def _receive_ack(self, ack: Request, now: float) -> None:
        transaction = self._answers.get(_answer_key(ack))
        if transaction is None:
            return  # of a 2xx long done with, or of a stranger's: never answered
        entry = self._entries[transaction]
        if entry.answer is not None and entry.answer.acknowledge():
            # The key stays, so that the ACK, should it come again, is known for what it is.
            entry.answer = None
            self._events.append(AckReceived(transaction, ack))
            self._settle(transaction, entry, now)

    def _send_stateless(self, response: Response, flow: Flow) -> None:
        if self._server_header:
            response.headers.set("Server", self._server_header)
        self._output.append(Outgoing(bytes(response), flow))

    # Responses

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        if len(response.via) != 1:
            raise PeerError("response has passed us by: more than one Via")
        key = (response.top_via.branch, response.cseq.method)
        transaction = self._clients.get(key)
        if transaction is None:
            return  # a retransmission that comes late, or a stranger's
        entry = self._entries[transaction]
        machine = entry.machine
        assert isinstance(machine, InviteClientTransaction | NonInviteClientTransaction)
        machine.receive(response, now=now)
        self._settle(transaction, entry, now, flow)
        if entry.cancel_wanted and machine.state is State.PROCEEDING:
            self.cancel(transaction, now=now)

    def _put_via(self, request: Request, transport: Transport, sent_by: str, branch: str) -> None:
        request.headers.set("Via", f"SIP/2.0/{transport} {sent_by};branch={branch};rport")
        if request.headers.get("Max-Forwards") is None:
            request.headers.set("Max-Forwards", "70")

    def _start_client(self, request: Request, flow: Flow, branch: str, now: float) -> int:
        reliable = flow.transport.reliable
        machine: _Client
        if request.method == "INVITE":
            machine = InviteClientTransaction(request, reliable=reliable, now=now)
        else:
            machine = NonInviteClientTransaction(request, reliable=reliable, now=now)
        entry = _Entry(machine, (branch, request.method), flow)
        transaction = self._add(entry)
        self._clients[entry.key] = transaction
        self._clients_of_flow.setdefault(flow, set()).add(transaction)
        self._settle(transaction, entry, now)
        return transaction

    # Housekeeping

    def _add(self, entry: _Entry) -> int:
        self._last_id += 1
        self._entries[self._last_id] = entry
        return self._last_id

    def _settle(
        self, transaction: int, entry: _Entry, now: float, flow: Flow | None = None
    ) -> None:
        """Drain a transaction that has just been fed; throw it away if it is over."""
        if entry.provisionals is not None:
            assert isinstance(entry.machine, InviteServerTransaction)
            for response in entry.provisionals.responses_to_send():
                entry.machine.respond(response, now=now)
        for message in entry.machine.messages_to_send():
            self._output.append(Outgoing(bytes(message), entry.flow, entry.fallback))
        while (event := entry.machine.next_event()) is not None:
            if isinstance(event, ResponsePassed):
                self._pass_response(transaction, event.response, flow or entry.flow)
            elif isinstance(event, Failed):
                self._events.append(TransportFailed(transaction))
            elif entry.key[-1] != "CANCEL":
                self._events.append(TransactionTimedOut(transaction))
        if entry.machine.state is State.TERMINATED:
            self._remove(transaction, entry)
            self._release(entry, now)
            return
        deadline = entry.next_deadline()
        if deadline is not None and deadline != entry.deadline:
            entry.deadline = deadline
            heapq.heappush(self._heap, (deadline, transaction))
        elif deadline is None:
            entry.deadline = None

    def _pass_response(self, transaction: int, response: Response, flow: Flow) -> None:
        if self._entries[transaction].key[-1] == "CANCEL":
            return  # what becomes of the INVITE is what counts
        if 200 <= response.code < 300 and response.cseq.method == "INVITE":
            sent = self._acks.get(_ack_key(response))
            if sent is not None:
                self._output.append(Outgoing(sent.data, sent.flow))
                return
        self._events.append(ResponseReceived(transaction, response, flow))

    def _remove(self, transaction: int, entry: _Entry) -> None:
        del self._entries[transaction]
        if isinstance(entry.machine, InviteClientTransaction | NonInviteClientTransaction):
            self._clients.pop(entry.key, None)
            siblings = self._clients_of_flow.get(entry.flow, set())
            siblings.discard(transaction)
            if not siblings:
                self._clients_of_flow.pop(entry.flow, None)
        else:
            self._servers.pop(entry.key, None)
            self._unanswered.discard(transaction)
            self._drop_answer(entry)
            if entry.provisionals_key is not None:
                self._provisionals.pop(entry.provisionals_key, None)

    def _drop_answer(self, entry: _Entry) -> None:
        entry.answer = None
        if entry.answer_key is not None:
            self._answers.pop(entry.answer_key, None)
            entry.answer_key = None


def _server_key(request: Request, *, method: str | None = None) -> _Key:
    """What makes two requests the same transaction (RFC 3261 §17.2.3); an ACK is its INVITE's.

    A branch that is nothing but the cookie identifies nothing (RFC 4475 §3.2.1), so it is
    matched the way of RFC 2543.
    """
    via = request.top_via
    name = method or ("INVITE" if request.method == "ACK" else request.method)
    branch = via.branch
    sent_by = f"{via.host.lower()}:{via.port or ''}"
    if branch.startswith(COOKIE) and len(branch) > len(COOKIE):
        return (branch, sent_by, name)
    return (
        branch,
        sent_by,
        request.call_id,
        str(request.cseq.sequence),
        request.from_address.tag or "",
        str(request.uri),
        name,
    )


def _answer_key(message: Request | Response) -> _Key:
    """What an ACK and the 2xx that it acknowledges have in common, seen by the server."""
    return (
        message.call_id,
        str(message.cseq.sequence),
        message.from_address.tag or "",
        message.to_address.tag or "",
    )


_ack_key = _answer_key
"""The client sees the same fields; an ACK keeps From and To of its INVITE and 2xx."""


def _way_back(request: Request, flow: Flow) -> tuple[Flow, Flow | None]:
    """Where the responses to ``request`` go, and where to if that connection is gone.

    ``maddr`` is not followed: it would let a stranger point our answers at anybody.
    """
    via_port = response_address(_via_of(request))[1]
    by_via = Flow(flow.transport, flow.host, via_port, flow.local)
    if flow.transport.reliable:
        via = request.top_via
        secure = flow.transport is Transport.TLS
        port = via.port or (5061 if secure else 5060)
        domain = via.host.strip("[]").lower() if secure else None
        return flow, Flow(flow.transport, flow.host, port, None, domain)
    return by_via, None


def _via_of(request: Request) -> Response:
    response = Response(100)
    response.headers.set("Via", str(request.top_via))
    return response
