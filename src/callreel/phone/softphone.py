"""A softphone: makes and takes calls, many at once, with one SIP endpoint and one media clock.

Everything that it asks of the SIP stack is in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from callreel.base.clock import Clock
from callreel.base.errors import PeerError, UsageError
from callreel.base.ids import IdSource
from callreel.phone.call import (
    CallEvent,
    CallFailed,
    CallState,
    CallSummary,
    Ending,
    EventKind,
    PhoneCall,
    Talk,
)
from callreel.phone.call_media import CallMedia
from callreel.phone.description import Agreed, Negotiation
from callreel.phone.digits import parse_digits
from callreel.phone.sender import Pacer
from callreel.phone.session_timers import SessionTimers
from callreel.phone.sources import AudioSource
from callreel.signalling.credentials import Credentialed, request_in_dialog_with_credentials
from callreel.signalling.registration import Registration, RegistrationSettings
from callreel.signalling.transport import routed_host
from callreel.signalling.user_agent import (
    Cancelled,
    IncomingRequest,
    RequestFailed,
    RequestRefused,
    UserAgent,
)
from callreel.wire.sdp import SDP_TYPE, Direction
from callreel.wire.sip.dialog import DialogId
from callreel.wire.sip.digest_client import Credentials, DigestClient
from callreel.wire.sip.flow import Flow, Transport
from callreel.wire.sip.message import REASON_PHRASES, Message, Response
from callreel.wire.sip.registration import RegistrationState
from callreel.wire.sip.session_timer import SessionTimer, agreed_timer, answer_timer
from callreel.wire.sip.values import URI, Address, split_list

MAX_REDIRECTS = 2
MAX_CALLS = 256
MAX_DIGITS = 1_000
"""Kept of what a peer presses."""

_LINGER_S = 0.5
_GOODBYE_S = 5.0
_LOOK_S = 0.02
_MAX_GLARES = 4

OnEvent = Callable[[PhoneCall, CallEvent], None]


class Phone:
    """A softphone at ``host``, on ``port`` for UDP and TCP alike (0: any).

    ``talk`` is what is done on a call unless said otherwise. ``takes_calls`` lets others call:
    :meth:`next_call` gives them. ``credentials`` answer challenges. ``host_token``
    names this machine's clock, in CNAMEs. ``tls_context`` says whom to trust over TLS.
    """

    methods = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "REFER")
    option_tags = ("timer",)

    def __init__(
        self,
        talk: Talk,
        *,
        clock: Clock,
        ids: IdSource,
        host: str = "127.0.0.1",
        port: int = 0,
        user: str = "phone",
        transports: Sequence[Transport] = (Transport.UDP, Transport.TCP),
        credentials: Credentials | None = None,
        takes_calls: bool = False,
        max_calls: int = MAX_CALLS,
        on_event: OnEvent | None = None,
        host_token: str = "",
        tls_context: ssl.SSLContext | None = None,
    ) -> None:
        self._talk = talk
        self._clock = clock
        self._ids = ids
        self._host = host
        self._port = port
        self._user = user
        self._transports = tuple(transports)
        self._client = None if credentials is None else DigestClient(credentials, ids)
        self._credentials = credentials or Credentials(user, "")
        self._registrations: list[Registration] = []
        self._takes_calls = takes_calls
        self._max_calls = max_calls
        self._on_event = on_event
        self._host_token = host_token or ids.new_id()
        self._numbered = 0
        self._calls: dict[DialogId, PhoneCall] = {}
        self._live: set[PhoneCall] = set()
        self._waiting: asyncio.Queue[PhoneCall] = asyncio.Queue()
        self._pending: dict[PhoneCall, _Pending] = {}
        self._timers = SessionTimers(
            refresh=lambda call: self._spawn(self._refresh(call)),
            expire=lambda call: self._spawn(self._expire(call)),
        )
        self._busy: set[PhoneCall] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsettled_until = 0.0
        self._pacer = Pacer(clock)
        self._agent = UserAgent(
            clock=clock,
            ids=ids,
            handler=self,
            user_agent_header="callreel-phone",
            user=user,
            tls_context=tls_context,
        )
        self.addresses: dict[Transport, tuple[str, int]] = {}
        """What was bound, by transport."""

    # Life

    async def start(self) -> None:
        """Take the ports. Raises ``MachineError``."""
        for transport in self._transports:
            if transport is Transport.UDP:
                bound = await self._agent.listen_udp(self._host, self._port)
            elif transport is Transport.TCP:
                bound = await self._agent.listen_tcp(self._host, self._port)
            else:
                raise UsageError(f"the phone does not speak {transport.lower()}")
            self.addresses[transport] = bound

    def uri(self, transport: Transport = Transport.UDP) -> str:
        """Where this phone can be called."""
        host, port = self.addresses[transport]
        shown = f"[{host}]" if ":" in host else host
        suffix = "" if transport is Transport.UDP else f";transport={transport.lower()}"
        return f"sip:{self._user}@{shown}:{port}{suffix}"

    async def close(self) -> None:
        """Hang up what is left, then stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await asyncio.gather(
                    *(self.hang_up(call) for call in list(self._live)), return_exceptions=True
                )
        await asyncio.gather(*(one.close() for one in self._registrations))
        left = self._unsettled_until - self._clock.monotonic()
        if left > 0:
            await asyncio.sleep(left)  # a CANCEL's 487 is still to be acknowledged
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pacer.close()
        await self._agent.close()

    @property
    def live_calls(self) -> int:
        """How many are not over."""
        return len(self._live)

    def summary(self, call: PhoneCall) -> CallSummary:
        """How a call went, or goes."""
        return call.summary(self._clock.monotonic())

    async def register(self, registrar: str, aor: str, *, seconds: int = 600) -> Registration:
        """Say at ``registrar`` that ``aor`` is this phone, and go on saying so until the end.

        Returns once the registrar has accepted. Raises ``PeerError`` if it refuses or is silent.
        """
        settings = RegistrationSettings(
            name="phone",
            registrar=registrar,
            aor=aor,
            credentials=self._credentials,
            contact_user=self._user,
            expires_seconds=seconds,
        )
        registration = Registration(
            self._agent,
            settings,
            clock=self._clock,
            ids=self._ids,
            jitter=lambda: int(self._ids.new_id()[:4], 16) / 0xFFFF,
        )
        self._registrations.append(registration)
        registration.start()
        while registration.status.state is RegistrationState.TRYING:  # noqa: ASYNC110 - no event
            await asyncio.sleep(_LOOK_S)
        status = registration.status
        if status.state is RegistrationState.FAILING:
            raise PeerError(f"not registered: {status.last_error}", status=503)
        return registration

    # Calls that we make

    async def call(
        self,
        uri: str,
        talk: Talk | None = None,
        *,
        from_uri: str | None = None,
        transport: Transport | None = None,
        ring_timeout_s: float | None = None,
        follow: bool = False,
        headers: Sequence[tuple[str, str]] = (),
    ) -> PhoneCall:
        """Call somebody; returns once they have answered and audio flows.

        Raises :class:`CallFailed`, whose ``call`` is over. Cancelled while it rings, it sends a
        CANCEL; so it does after ``ring_timeout_s``. ``follow``: go where a 3xx says, twice at most.
        """
        call = self._new_call(outbound=True, peer=uri)
        self._tell(call, EventKind.DIALLING, uri)
        try:
            async with asyncio.timeout(ring_timeout_s):
                await self._dial(
                    call, uri, talk or self._talk, from_uri, transport, follow, headers
                )
        except TimeoutError:
            self._cancelled(call, f"not answered within {ring_timeout_s:g} s", 408)
            raise CallFailed(call) from None
        except asyncio.CancelledError:
            self._cancelled(call, "cancelled by us", 487)
            raise
        except RequestRefused as error:
            self._end(call, Ending.PEER, error.status, error.response.phrase)
            raise CallFailed(call) from None
        except PeerError as error:
            self._end(call, Ending.ERROR, error.status, str(error))
            raise CallFailed(call) from None
        except BaseException:
            self._end(call, Ending.ERROR, 500, "failed")
            raise
        return call

    async def _dial(
        self,
        call: PhoneCall,
        uri: str,
        talk: Talk,
        from_uri: str | None,
        transport: Transport | None,
        follow: bool,
        headers: Sequence[tuple[str, str]],
    ) -> None:
        flow = await self._agent.resolve(uri, transport)
        offer = self._open_media(call, talk, flow).offer()
        host = self._local_host(flow)
        first = self._agent.new_request(
            "INVITE",
            uri,
            from_uri=from_uri or f"sip:{self._user}@{f'[{host}]' if ':' in host else host}",
            headers=headers,
        )
        request = first
        redirects = MAX_REDIRECTS if follow else 0
        amend: Credentialed | None = None
        while True:
            call.signalling_host = flow.host
            request.set_body(offer, SDP_TYPE)
            if amend is None and self._client is not None:
                # What was answered once is asked again: answer it at once. What goes again after
                # a challenge is dressed already.
                amend = Credentialed(self._client)
                self._client.dress(request)
            try:
                dialog, response = await self._agent.invite(
                    request,
                    flow,
                    on_provisional=lambda response: self._provisional(call, talk, response),
                )
                break
            except RequestRefused as error:
                again = None if amend is None else amend(request, error.response)
                if again is not None:
                    request = again
                    continue
                target = _redirect(error.response) if redirects else None
                if target is None:
                    raise
                redirects -= 1
                flow = await self._agent.resolve(target)
                self._tell(call, EventKind.REDIRECTED, str(target), error.status)
            amend = None
            # The same Call-ID, From and To, one CSeq on (RFC 3261 §8.1.3.4).
            cseq = request.cseq.sequence + 1
            request = self._agent.new_request(
                "INVITE", target, from_uri="sip:x", call_id=first.call_id, cseq=cseq
            )
            request.headers.set("From", first.headers["From"])
            request.headers.set("To", first.headers["To"])
            for name, value in headers:
                request.headers.add(name, value)
        call.dialog = dialog
        self._calls[dialog.id] = call
        negotiation = self._negotiation(call)
        agreed = negotiation.agreed
        try:
            if response.body or agreed is None:  # else a 183 has said it all
                source_host = call.signalling_host
                agreed = negotiation.conclude(response.body, source_host=source_host)
        except PeerError:
            await self._say_goodbye(call)
            raise
        self._connected(call, agreed)
        self._arm(call, agreed_timer(response))

    def _provisional(self, call: PhoneCall, talk: Talk, response: Response) -> None:
        kind = EventKind.RINGING if response.code == 180 else EventKind.PROGRESS
        if call.state is CallState.DIALLING:
            call.state = CallState.RINGING
        self._tell(call, kind, response.phrase, response.code)
        if not response.body:
            return
        with contextlib.suppress(PeerError):  # what is not understood is not early media
            source_host = call.signalling_host
            agreed = self._negotiation(call).conclude(response.body, source_host=source_host)
            self._aim(call, agreed)
            if talk.early_media:
                self._begin(call, sending=True)

    # Calls that come

    async def next_call(self) -> PhoneCall:
        """Wait for somebody to call; then :meth:`ring`, :meth:`answer` or :meth:`refuse`."""
        while True:
            call = await self._waiting.get()
            if call in self._pending:  # else the caller has given up meanwhile
                return call

    def ring(self, call: PhoneCall, talk: Talk | None = None, *, early: bool = False) -> None:
        """Say that it rings; ``early``: with early media, if the peer made an offer."""
        pending = self._of(call)
        if not early or not pending.incoming.request.body:
            pending.incoming.respond(180)
            call.state = CallState.RINGING
            self._tell(call, EventKind.RINGING, "Ringing", 180)
            return
        body = self._prepare(call, pending, talk or self._talk)
        pending.incoming.respond(183, body=body, content_type=SDP_TYPE)
        call.state = CallState.RINGING
        self._tell(call, EventKind.PROGRESS, "Session Progress", 183)
        self._begin(call, sending=True)

    def answer(self, call: PhoneCall, talk: Talk | None = None) -> None:
        """Take the call. Raises ``PeerError`` if it is over, or has no codec of ours (488)."""
        pending = self._of(call)
        try:
            timer = answer_timer(pending.incoming.request)
            body = self._prepare(call, pending, talk or self._talk)
        except PeerError as error:
            self._refuse(call, error.status, headers=list(getattr(error, "headers", ())))
            raise
        except BaseException:
            self._refuse(call, 500)
            raise
        pending.incoming.respond(
            200, body=body, content_type=SDP_TYPE, headers=timer.headers if timer else ()
        )
        self._pending.pop(call)
        agreed = self._negotiation(call).agreed
        if agreed is not None:
            self._connected(call, agreed)
        self._arm(call, timer)
        pending.decided.set()

    def refuse(self, call: PhoneCall, status: int = 486) -> None:
        """Refuse the call with a status from 400 on."""
        if not 400 <= status < 700:
            raise UsageError(f"{status} refuses nothing")
        self._refuse(call, status)

    def redirect(self, call: PhoneCall, uri: str) -> None:
        """Send the caller elsewhere (302)."""
        self._refuse(call, 302, headers=[("Contact", f"<{uri}>")])

    def _refuse(
        self, call: PhoneCall, status: int, *, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        pending = self._of(call)
        pending.incoming.respond(status, headers=headers)
        self._end(call, Ending.US, status, REASON_PHRASES.get(status, "refused"))

    def _prepare(self, call: PhoneCall, pending: _Pending, talk: Talk) -> bytes:
        """What to say of our media: an answer; or an offer, if the peer made none."""
        if pending.body is not None:
            return pending.body
        request, flow = pending.incoming.request, pending.incoming.flow
        negotiation = self._open_media(call, talk, flow)
        if request.body:
            _need_sdp(request)
            pending.body, agreed = negotiation.accept(request.body, source_host=flow.host)
            self._aim(call, agreed)
        else:
            pending.body = negotiation.offer()
        return pending.body

    def _of(self, call: PhoneCall) -> _Pending:
        pending = self._pending.get(call)
        if pending is None:
            raise PeerError("the call waits for no answer", status=481)
        return pending

    async def _take(self, incoming: IncomingRequest) -> None:
        """An INVITE outside any dialog."""
        if not self._takes_calls:
            raise PeerError("this phone makes calls, it takes none", status=480)
        if len(self._live) >= self._max_calls:
            raise PeerError("too many calls", status=486)
        request = incoming.request
        call = self._new_call(outbound=False, peer=str(request.from_address.uri))
        call.signalling_host = incoming.flow.host
        try:
            call.dialog = incoming.dialog()
        except PeerError as error:
            self._end(call, Ending.ERROR, error.status, str(error))
            raise
        self._calls[call.dialog.id] = call
        pending = self._pending[call] = _Pending(incoming)
        self._tell(call, EventKind.INCOMING, str(request.uri))
        self._waiting.put_nowait(call)
        cancelled = asyncio.create_task(incoming.wait_cancelled())
        decided = asyncio.create_task(pending.decided.wait())
        try:
            await asyncio.wait({cancelled, decided}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cancelled.cancel()
            decided.cancel()
        if not pending.decided.is_set():
            self._end(call, Ending.PEER, 487, "cancelled by the peer")
            raise Cancelled
        if incoming.response is None or incoming.response.code >= 300:
            return
        try:
            ack = await incoming.acknowledged()
            if not call.is_answered:  # a late offer: the ACK holds the answer
                agreed = self._negotiation(call).conclude(
                    ack.body, source_host=call.signalling_host
                )
                self._connected(call, agreed)
        except PeerError as error:
            await self._give_up(call, error.status, str(error))

    # On a call

    async def hang_up(self, call: PhoneCall) -> None:
        """End a call: BYE, or a refusal if it still rings here."""
        if call in self._pending:
            self.refuse(call, 480)
        elif call.dialog is not None and call.state is not CallState.ENDED:
            self._end(call, Ending.US, 200, "OK")
            await self._say_goodbye(call)

    async def hold(self, call: PhoneCall, direction: Direction = Direction.INACTIVE) -> None:
        """Put the peer on hold: a re-INVITE. Raises ``PeerError`` if it is refused."""
        await self._reoffer(call, direction)
        call.is_holding = True
        self._tell(call, EventKind.HOLDING)

    async def resume(self, call: PhoneCall) -> None:
        """Take the peer off hold."""
        await self._reoffer(call, Direction.SENDRECV)
        call.is_holding = False
        self._tell(call, EventKind.RESUMED)

    def send_digits(self, call: PhoneCall, digits: str) -> None:
        """Dial ``1w2``: telephone-events in place of what is said. Raises ``UsageError``."""
        plain = parse_digits(digits)
        agreed = self._negotiation(call).agreed
        if agreed is None or agreed.event_type is None or call.media is None:
            raise PeerError("the peer takes no telephone-events", status=488)
        call.media.digits.press(plain)

    async def _reoffer(self, call: PhoneCall, direction: Direction) -> None:
        negotiation = self._negotiation(call)
        before = negotiation.direction
        negotiation.direction = direction
        try:
            response = await self._invite_again(call, negotiation)
        except BaseException:
            negotiation.direction = before
            raise
        agreed = negotiation.conclude(response.body, source_host=call.signalling_host)
        self._changed(call, agreed)
        self._arm(call, agreed_timer(response))

    async def _invite_again(self, call: PhoneCall, negotiation: Negotiation) -> Response:
        for _ in range(_MAX_GLARES):
            if call.state is CallState.ENDED:
                break
            if call not in self._busy:
                self._busy.add(call)
                try:
                    response = await self._within(
                        call, "INVITE", negotiation.offer(), self._timers.wish(call)
                    )
                finally:
                    self._busy.discard(call)
                if response.code < 300:
                    return response
                if response.code != 491:
                    raise RequestRefused(response)
            await asyncio.sleep(self._glare_pause_s(call))
        raise PeerError("re-INVITE: the peer is never ready for it", status=491)

    def _glare_pause_s(self, call: PhoneCall) -> float:
        """RFC 3261 §14.1: who made the call waits longer, so that they do not meet again."""
        share = int(self._ids.new_id()[:4], 16) / 0x10000
        return 2.1 + 1.9 * share if call.outbound else 2.0 * share

    async def _within(
        self,
        call: PhoneCall,
        method: str,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Response:
        """A request in the dialog; a challenge is answered, a dialog that is gone ends the call."""
        assert call.dialog is not None
        content_type = SDP_TYPE if body else None
        try:
            if self._client is None:
                response = await self._agent.request_in_dialog(
                    call.dialog, method, body=body, content_type=content_type, headers=headers
                )
            else:
                response = await request_in_dialog_with_credentials(
                    self._agent,
                    call.dialog,
                    method,
                    self._client,
                    body=body,
                    content_type=content_type,
                    headers=headers,
                )
        except RequestFailed as error:
            await self._give_up(call, error.status, str(error))
            raise
        if response.code in (408, 481) and method != "BYE":
            await self._give_up(call, response.code, response.phrase)
        return response

    # Requests of peers

    async def handle_request(self, incoming: IncomingRequest) -> None:
        """Answer one request."""
        request = incoming.request
        identity = DialogId.of_request(request)
        call = self._calls.get(identity)
        if request.method == "OPTIONS" and (call is not None or not identity.local_tag):
            incoming.respond(200, headers=[("Accept", SDP_TYPE)])
        elif call is not None and call.dialog is not None:
            call.dialog.receive_request(request)
            await self._handle_within(call, incoming)
        elif request.method == "INVITE" and not identity.local_tag:
            await self._take(incoming)
        elif request.method == "REFER" and not identity.local_tag:
            raise PeerError("transfers are declined", status=603)
        else:
            raise PeerError("no such call", status=481)

    async def _handle_within(self, call: PhoneCall, incoming: IncomingRequest) -> None:
        request = incoming.request
        if request.method == "BYE":
            incoming.respond(200)
            pending = self._pending.get(call)
            if pending is not None:
                pending.incoming.respond(487)
            answered = call.is_answered
            self._end(call, Ending.PEER, 200 if answered else 487, "hung up by the peer")
        elif request.method == "REFER":
            self._tell(call, EventKind.TRANSFER, request.headers.get("Refer-To") or "", 603)
            raise PeerError("transfers are declined", status=603)
        elif call in self._pending or call in self._busy:
            # Two offers at once (RFC 3261 §14.2, RFC 3311 §5.2); an UPDATE may have none.
            if request.method == "INVITE" or request.body:
                raise PeerError("an offer is under way", status=491)
            incoming.respond(200)
        else:
            await self._take_again(call, incoming)

    async def _take_again(self, call: PhoneCall, incoming: IncomingRequest) -> None:
        """A re-INVITE or an UPDATE."""
        request = incoming.request
        timer = answer_timer(request)
        negotiation = self._negotiation(call)
        agreed: Agreed | None = None
        body = b""
        if request.body:
            _need_sdp(request)
            body, agreed = negotiation.accept(request.body, source_host=incoming.flow.host)
        elif request.method == "INVITE":
            body = negotiation.offer()
        incoming.respond(
            200,
            body=body,
            content_type=SDP_TYPE if body else None,
            headers=timer.headers if timer else (),
        )
        if agreed is not None:
            self._changed(call, agreed)
        self._arm(call, timer)
        if request.method != "INVITE":
            return
        try:
            ack = await incoming.acknowledged()
            if agreed is None and call.state is not CallState.ENDED:
                source_host = call.signalling_host
                self._changed(call, negotiation.conclude(ack.body, source_host=source_host))
        except PeerError as error:
            await self._give_up(call, error.status, str(error))

    # Within

    def _new_call(self, *, outbound: bool, peer: str) -> PhoneCall:
        self._numbered += 1
        now = self._clock.monotonic()
        call = PhoneCall(number=self._numbered, outbound=outbound, peer=peer, now=now)
        self._live.add(call)
        return call

    def _open_media(self, call: PhoneCall, talk: Talk, flow: Flow) -> Negotiation:
        host = self._local_host(flow)
        codecs = talk.codecs if isinstance(talk.play, AudioSource) else talk.codecs[:1]
        call.media = CallMedia(
            host,
            talk.play,
            clock=self._clock,
            entropy=self._ids.new_id(),
            host_token=self._host_token,
            on_digit=lambda digit: self._pressed(call, digit),
            record=talk.record,
        )
        call.negotiation = Negotiation(
            host=host,
            port=call.media.port,
            codecs=codecs,
            session_id=int(self._ids.new_id()[:8], 16),
            suites=talk.suites,
        )
        return call.negotiation

    def _local_host(self, flow: Flow) -> str:
        if self._host in ("0.0.0.0", "::"):
            return routed_host(flow.host, flow.port)
        return self._host

    @staticmethod
    def _negotiation(call: PhoneCall) -> Negotiation:
        if call.negotiation is None:
            raise PeerError("the call has no media", status=481)
        return call.negotiation

    def _connected(self, call: PhoneCall, agreed: Agreed) -> None:
        call.state = CallState.TALKING
        call.answered_at = self._clock.monotonic()
        self._aim(call, agreed)
        self._begin(call, sending=True)
        call.status, call.reason = 200, "OK"
        self._tell(call, EventKind.ANSWERED, agreed.codec, 200)

    def _changed(self, call: PhoneCall, agreed: Agreed) -> None:
        """What was agreed upon anew takes effect."""
        self._aim(call, agreed)
        if self._negotiation(call).direction is not Direction.SENDRECV:
            return  # on hold by us: the peer's direction only follows from ours
        if agreed.held != call.is_held:
            call.is_held = agreed.held
            self._tell(call, EventKind.HELD if agreed.held else EventKind.UNHELD)

    def _aim(self, call: PhoneCall, agreed: Agreed) -> None:
        assert call.media is not None
        before = call.media.codec
        call.media.aim(agreed, signalling_host=call.signalling_host)
        if before not in (None, agreed.codec):
            self._tell(call, EventKind.CODEC, agreed.codec)

    def _begin(self, call: PhoneCall, *, sending: bool) -> None:
        assert call.media is not None
        if not call.media.has_begun:
            self._pacer.add([call.media])
        call.media.begin(sending=sending)

    def _pressed(self, call: PhoneCall, digit: str) -> None:
        if len(call.digits) < MAX_DIGITS:
            call.digits += digit
        self._tell(call, EventKind.DIGIT, digit)

    def _tell(
        self, call: PhoneCall, kind: EventKind, text: str = "", status: int | None = None
    ) -> None:
        event = CallEvent(kind, self._clock.monotonic(), text, status)
        call.note(event)
        if self._on_event is not None:
            self._on_event(call, event)

    def _cancelled(self, call: PhoneCall, reason: str, status: int) -> None:
        self._unsettled_until = self._clock.monotonic() + _LINGER_S
        self._end(call, Ending.US, status, reason)

    def _end(self, call: PhoneCall, by: Ending, status: int, reason: str) -> None:
        """The call is over, for whatever reason; the first one counts."""
        if call.state is CallState.ENDED:
            return
        call.state = CallState.ENDED
        call.ended_by, call.status, call.reason = by, status, reason
        call.ended_at = self._clock.monotonic()
        self._live.discard(call)
        self._timers.disarm(call)
        if call.dialog is not None:
            self._calls.pop(call.dialog.id, None)
        pending = self._pending.pop(call, None)
        if pending is not None:
            pending.decided.set()
        if call.media is not None:
            self._pacer.remove([call.media])
        call.ended.set()
        self._tell(call, EventKind.ENDED, f"{by}: {reason}", status)

    async def _give_up(self, call: PhoneCall, status: int, reason: str) -> None:
        """End a call that has gone wrong."""
        if call.state is not CallState.ENDED:
            self._end(call, Ending.ERROR, status, reason)
            with contextlib.suppress(PeerError):
                await self._say_goodbye(call)

    async def _say_goodbye(self, call: PhoneCall) -> None:
        response = await self._within(call, "BYE")
        if response.code >= 300 and response.code != 481:
            raise PeerError(f"BYE: {response.code} {response.phrase}", status=response.code)

    def _arm(self, call: PhoneCall, timer: SessionTimer | None) -> None:
        if call.state is not CallState.ENDED:
            self._timers.arm(call, timer)

    async def _expire(self, call: PhoneCall) -> None:
        await self._give_up(call, 408, "the session was not refreshed")

    async def _refresh(self, call: PhoneCall) -> None:
        with contextlib.suppress(PeerError):  # what is not refreshed expires
            await self._reoffer(call, self._negotiation(call).direction)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Pending:
    """An INVITE that waits for our decision."""

    def __init__(self, incoming: IncomingRequest) -> None:
        self.incoming = incoming
        self.decided = asyncio.Event()
        self.body: bytes | None = None


def _need_sdp(message: Message) -> None:
    kind = message.content_type
    if kind is None or kind.mime_type.lower() != SDP_TYPE:
        raise PeerError("the body is no session description", status=415)


def _redirect(response: Response) -> URI | None:
    """The SIP URI that a 3xx likes best (RFC 3261 §8.1.3.4); None if there is none."""
    if not 300 <= response.code < 400:
        return None
    best: tuple[float, URI] | None = None
    for text in response.headers.getlist("Contact"):
        try:
            addresses = [Address.parse(item) for item in split_list(text)]
        except ValueError:
            continue
        for address in addresses:
            try:
                weight = float(address.parameters.get("q") or 1.0)
            except ValueError:
                weight = 0.0
            if address.uri.scheme == "sip" and (best is None or weight > best[0]):
                best = (weight, address.uri)
    return None if best is None else best[1]
