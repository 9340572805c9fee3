"""Calls that end here: documents answer and place them, and say what becomes of them.

The :class:`~callreel.calls.voice.Telephone` of the use cases. Each call has one leg, even where two
are connected: who hangs up ends its own call, and the other is attended again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from callreel.base.errors import CallreelError, MachineError, PeerError
from callreel.calls.model import CallStatus
from callreel.calls.voice import (
    DigitHeard,
    Ending,
    NotConnected,
    Target,
    VoiceCalls,
    VoiceMedia,
)
from callreel.signalling.arriving import call_in, calling_leg
from callreel.signalling.bridge import Source
from callreel.signalling.info_digits import content_type_of, digit_of
from callreel.signalling.leg import Leg
from callreel.signalling.means import Means
from callreel.signalling.own_changes import OwnChanges
from callreel.signalling.own_description import (
    DIGITS,
    PLAYED,
    agreed,
    narrowed,
    own_answer,
    own_offer,
)
from callreel.signalling.placing import Placing
from callreel.signalling.planning import API, caller_of, plan_for
from callreel.signalling.refusal import Refused, refusing
from callreel.signalling.ringing import NOBODY_ANSWERED, Ringing, ending
from callreel.signalling.routing import Plan
from callreel.signalling.security import SrtpPolicy, answer_line, first_lines
from callreel.signalling.terminal import KIND, Terminal
from callreel.signalling.user_agent import Cancelled, IncomingRequest
from callreel.wire import sdp
from callreel.wire.sip.dialog import DialogId
from callreel.wire.sip.digest_client import Credentials, DigestClient
from callreel.wire.sip.message import Request

log = logging.getLogger(__name__)

BYE_WAIT_S = 2.0
"""So long whoever ends a call waits for the peer to confirm it."""
MAX_FORWARDS = 70


class Terminals:
    """The calls that end here. ``voice``, who steers them, is set by ``server`` once it exists."""

    def __init__(
        self, means: Means, voice_media: VoiceMedia | None, voice: VoiceCalls | None = None
    ) -> None:
        self.voice = voice
        self.has_room: Callable[[], bool] = lambda: True
        """Whether there may be one call more."""
        self._means = means
        self._voice_media = voice_media
        self._changes = OwnChanges(means, self._lost)
        self._by_dialog: dict[DialogId, Terminal] = {}
        self._by_call: dict[str, Terminal] = {}
        self._closing = False

    def __len__(self) -> int:
        """Calls that end here."""
        return len(self._by_call)

    @property
    def connected(self) -> int:
        """Those of them that were answered, or are placed by us."""
        return sum(one.answered or one.incoming is None for one in self._by_call.values())

    def talks_to(self, host: str) -> bool:
        """Whether the party of a call that was answered is at this address."""
        return any(one.leg.source_host == host for one in self._by_dialog.values())

    def refuse_new(self) -> None:
        """Take and place no new calls: the server is shutting down."""
        self._closing = True

    def knows(self, request: Request) -> bool:
        """Whether a request belongs to one of our dialogs."""
        return DialogId.of_request(request) in self._by_dialog

    def live(self) -> Mapping[str, str | None]:
        """Calls that were answered, and whom each is connected with."""
        return {
            one.call_id: None if one.other is None else one.other.call_id
            for one in self._by_dialog.values()
        }

    # Calls that we place

    def check(self, account_id: str, target: Target) -> None:
        """Raises ``NoRoute`` for what could not be called."""
        self._plan(account_id, target)

    async def dial(
        self,
        call_id: str,
        target: Target,
        *,
        account_id: str,
        caller: str,
        ring_seconds: float,
        ringing: Callable[[], None],
        beside: str | None = None,
    ) -> None:
        """See :meth:`callreel.calls.voice.Telephone.dial`."""
        plan = self._plan(account_id, target)
        means = self._means
        terminal = Terminal(account_id, Leg(call_id, means.new_session(), ""))
        try:
            if self._closing:
                raise Refused(503, "shutting down")
            if not self.has_room():
                raise Refused(503, "as many calls as there may be")
            codecs = self._codecs_beside(beside)
            placing = Placing(
                means,
                call_id,
                Ringing(means, API, caller_of(caller), max_forwards=MAX_FORWARDS),
                codecs=codecs,
                beside=beside,
                told=ringing,
            )
            if len(plan.targets) == 1 or plan.at_once:
                plan = replace(plan, ring_seconds=ring_seconds)
            self._by_call[call_id] = terminal
            terminal.search = asyncio.create_task(placing.run(plan, self._client_of(target)))
            leg = await self._found(terminal, terminal.search, ring_seconds)
            await self._taken(terminal, leg)
        except BaseException as error:
            status, code = ending(error)
            why = terminal.reason or str(error) or status.value
            terminal.ended = True
            self._forget(terminal)
            await means.ended.drop(call_id, status, why, code)
            terminal.over.set()
            current = asyncio.current_task()
            if isinstance(error, CallreelError) or (
                isinstance(error, asyncio.CancelledError)
                and not (current is not None and current.cancelling())
            ):
                raise NotConnected(status, why, sip_code=code) from error
            raise

    async def _found(
        self, terminal: Terminal, search: asyncio.Task[Leg], ring_seconds: float
    ) -> Leg:
        """The leg that answered in time. Raises what ended the search."""
        try:
            done, _ = await asyncio.wait({search}, timeout=ring_seconds)
        except asyncio.CancelledError:
            search.cancel()
            await asyncio.wait({search})
            if not search.cancelled() and search.exception() is None:
                self._means.spawn(self._means.say_bye(search.result()))
            raise
        if not done:
            search.cancel()
            await asyncio.wait({search})
            if search.cancelled():
                raise asyncio.CancelledError(NOBODY_ANSWERED)
        leg = search.result()
        if terminal.ended:  # it was ended here as somebody answered
            self._means.spawn(self._means.say_bye(leg))
            raise asyncio.CancelledError
        return leg

    async def _taken(self, terminal: Terminal, leg: Leg) -> None:
        """Somebody answered: it is attended, and its row says so."""
        means = self._means
        terminal.leg, terminal.answered = leg, True
        self._admit(terminal)
        try:
            async with terminal.lock:
                assert leg.audio is not None
                agreed(leg.audio)
                await means.listen(leg)
                await self._attend(terminal)
                assert leg.dialog is not None
                await means.calls.picked_up(
                    leg.call_id,
                    terminal.to_json(),
                    peer=leg.source,
                    sip_call_id=leg.dialog.id.call_id,
                )
        except BaseException:
            if not terminal.ended:
                means.spawn(means.say_bye(leg))
            raise
        log.info("call %s: answered by %s", leg.call_id, leg.participant)

    def _plan(self, account_id: str, target: Target) -> Plan:
        return plan_for(target, account_id, self._means.dialplan, self._means.agent.is_ours)

    def _client_of(self, target: Target) -> DigestClient | None:
        if not target.username:
            return None
        return DigestClient(Credentials(target.username, target.password), self._means.ids)

    def _codecs_beside(self, beside: str | None) -> tuple[sdp.Codec, ...]:
        """What is offered to somebody who is to be connected with a call: what that speaks."""
        terminal = self._by_call.get(beside or "")
        if terminal is None or terminal.leg.audio is None:
            return (*PLAYED, DIGITS)
        return agreed(terminal.leg.audio)

    # Calls that come in

    def takes(self, source: Source, dialled: str, *, exactly: bool = False) -> bool:
        """Whether a document answers what is dialled; ``exactly``: one for just that number."""
        voice = self.voice
        return voice is not None and voice.takes(source.account_id, dialled, exactly=exactly)

    async def invite(self, incoming: IncomingRequest, source: Source, dialled: str) -> None:
        """Ring, until whoever steers calls says what becomes of it. Raises ``PeerError`` with what
        it is refused with."""
        means, voice = self._means, self.voice
        assert voice is not None
        if self._closing:
            raise Refused(503, "shutting down", [("Retry-After", "10")])
        leg = calling_leg(incoming, source, means)
        if leg.audio is not None:
            agreed(leg.audio)
        call = await means.calls.ringing(call_in(incoming.request, source, dialled))
        leg.call_id = call.id
        terminal = Terminal(source.account_id, leg, incoming, source)
        decided = terminal.decided = asyncio.get_running_loop().create_future()
        self._by_call[call.id] = terminal
        try:
            await means.open(leg)
            incoming.respond(180)
        except BaseException as error:
            terminal.ended = True
            self._forget(terminal)
            status, code = ending(error)
            await means.ended.drop(call.id, status, str(error) or status.value, code)
            terminal.over.set()
            raise
        voice.offered(call.id, source.account_id, dialled)
        cancelled = asyncio.create_task(incoming.wait_cancelled())
        try:
            await asyncio.wait({cancelled, decided}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            cancelled.cancel()
        if not decided.done():
            await self._end(
                terminal, "the caller hung up", Ending.PARTY, CallStatus.CANCELED, code=487
            )
            raise Cancelled
        refusal = decided.result()
        if refusal is not None:
            raise refusal
        try:
            await incoming.acknowledged()
        except PeerError:
            await self._end(terminal, "no ACK for our 200", Ending.PARTY, CallStatus.FAILED)

    async def answer(self, call_id: str) -> None:
        """See :meth:`callreel.calls.voice.Telephone.answer`."""
        await self._answer(self._known(call_id), None)

    async def reject(self, call_id: str, *, busy: bool) -> None:
        """See :meth:`callreel.calls.voice.Telephone.reject`. It ends ``busy``, or ``no-answer``
        where it is declined."""
        terminal = self._by_call.get(call_id)
        if terminal is None or terminal.answered:
            return
        code = 486 if busy else 603
        status = CallStatus.BUSY if busy else CallStatus.NO_ANSWER
        await self._end(terminal, "rejected", Ending.OURS, status, code=code)

    async def _answer(self, terminal: Terminal, other: Terminal | None) -> None:
        """Answer a call that came in; with ``other`` it is connected with that at once."""
        incoming = terminal.incoming
        try:
            async with terminal.lock:
                if terminal.ended:
                    raise NotConnected(CallStatus.CANCELED, "the caller hung up", sip_code=487)
                if terminal.answered or incoming is None:
                    return
                await self._accept(terminal, incoming, other)
            if terminal.leg.theirs is None:
                await self._take_late_answer(terminal, incoming, other)
        except Cancelled as error:
            await self._end(
                terminal, "the caller hung up", Ending.PARTY, CallStatus.CANCELED, code=487
            )
            raise NotConnected(CallStatus.CANCELED, "the caller hung up", sip_code=487) from error
        except (PeerError, MachineError) as error:
            code = error.status if isinstance(error, PeerError) else 500
            await self._end(terminal, str(error), Ending.OURS, CallStatus.FAILED, code=code)
            raise NotConnected(CallStatus.FAILED, str(error), sip_code=code) from error

    async def _accept(
        self, terminal: Terminal, incoming: IncomingRequest, other: Terminal | None
    ) -> None:
        means, leg, source = self._means, terminal.leg, terminal.source
        assert source is not None
        assert terminal.decided is not None
        if leg.audio is not None:
            assert leg.theirs is not None
            codecs = agreed(leg.audio)
            crypto = answer_line(leg.audio.media, None, None, before=(), new_key=leg.new_key)
            body = leg.tell(
                own_answer(
                    leg.theirs, leg.audio, codecs, leg.address, leg.session.next, crypto=crypto
                )
            )
            leg.audio = narrowed(leg.audio, codecs)
            await means.listen(leg)
            await self._hear(terminal, other)
        else:  # we offer, and it answers in its ACK
            codecs = self._codecs_beside(None if other is None else other.call_id)
            wanted = leg.srtp is SrtpPolicy.REQUIRED
            lines = first_lines((), leg.new_key) if wanted else ()
            body = leg.tell(own_offer(codecs, leg.address, leg.session.next, crypto=lines))
        await means.calls.picked_up(leg.call_id, terminal.to_json())
        if source.record is not None:
            account = await means.accounts.get(terminal.account_id)
            assert account is not None, "a source's account exists, or the server would not run"
            call = await means.calls.get(account, leg.call_id)
            await means.record(account, call, source.record)
        if terminal.ended:
            raise NotConnected(CallStatus.CANCELED, "the call was ended here")
        incoming.respond(
            200,
            body=body,
            content_type=sdp.SDP_TYPE,
            headers=leg.timer.headers if leg.timer else (),
        )
        terminal.answered = True
        self._admit(terminal)
        if not terminal.decided.done():
            terminal.decided.set_result(None)

    async def _take_late_answer(
        self, terminal: Terminal, incoming: IncomingRequest, other: Terminal | None
    ) -> None:
        """Wait for the description in the ACK."""
        ack = asyncio.create_task(incoming.acknowledged())
        over = asyncio.create_task(terminal.over.wait())
        try:
            await asyncio.wait({ack, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            if not ack.done():
                ack.cancel()
        if terminal.ended or not ack.done():
            raise NotConnected(CallStatus.COMPLETED, "the caller hung up")
        async with terminal.lock:
            await self._changes.take_answer(terminal.leg, ack.result())
            await self._hear(terminal, other)
            await self._keep(terminal)

    async def _hear(self, terminal: Terminal, other: Terminal | None) -> None:
        """Attend a call; with ``other`` it hears that from the first word, and us once parted."""
        if other is not None:  # first, so that not a packet of ours comes before
            terminal.other, other.other = other, terminal
            await self._means.bridge(terminal.leg, other.leg)
        await self._attend(terminal)

    async def _attend(self, terminal: Terminal) -> None:
        if self._voice_media is None:
            raise Refused(501, "nothing can be played here")
        await refusing(self._voice_media.attend(terminal.call_id))

    # Two that are connected

    async def connect(self, call_id: str, other_id: str) -> None:
        """See :meth:`callreel.calls.voice.Telephone.connect`. Raises ``NotConnected``."""
        one, other = self._known(call_id), self._known(other_id)
        if other.leg.audio is None or not other.answered:
            raise NotConnected(CallStatus.FAILED, "the other party has not answered")
        if one.other is other:
            return
        for each in (one, other):
            if each.other is not None:
                await self._part(each)
        if not one.answered:
            if one.leg.audio is not None:
                one.leg.audio = narrowed(one.leg.audio, agreed(other.leg.audio))
            await self._answer(one, other)
        else:
            await self._bridge(one, other)
        if one.other is not other or one.ended or other.ended:
            raise NotConnected(CallStatus.COMPLETED, "a party hung up")

    async def _bridge(self, one: Terminal, other: Terminal) -> None:
        try:
            await self._changes.fit(other, one)
            if one.ended or other.ended:
                return
            one.other, other.other = other, one
            await self._means.bridge(one.leg, other.leg)
        except PeerError as error:
            one.other = other.other = None
            raise NotConnected(CallStatus.FAILED, str(error), sip_code=error.status) from error

    async def part(self, call_id: str) -> None:
        """See :meth:`callreel.calls.voice.Telephone.part`."""
        terminal = self._by_call.get(call_id)
        if terminal is not None:
            await self._part(terminal)

    async def _part(self, terminal: Terminal) -> None:
        other, terminal.other = terminal.other, None
        if other is None:
            return
        other.other = None
        try:
            await self._means.media.unbridge(terminal.call_id)
        except MachineError as error:  # the worker that had both is gone, and says so itself
            log.warning("call %s: cannot be parted: %s", terminal.call_id, error)

    # Within a call

    async def handle_request(self, incoming: IncomingRequest) -> None:
        """Answer a request in a dialog of ours."""
        request = incoming.request
        terminal = self._by_dialog[DialogId.of_request(request)]
        dialog = terminal.leg.dialog
        assert dialog is not None
        if request.method == "BYE":
            dialog.receive_request(request)
            incoming.respond(200)
            await self._end(terminal, "BYE", Ending.PARTY, CallStatus.COMPLETED, bye=False)
        elif request.method in ("INVITE", "UPDATE"):
            await self._changes.answer(terminal, incoming)
            await self._keep(terminal)
        elif request.method == "OPTIONS":  # whether we are still there
            dialog.receive_request(request)
            incoming.respond(200)
        elif request.method == "INFO":
            dialog.receive_request(request)
            self._hear_info(terminal, request)
            incoming.respond(200)
        elif request.method == "REFER":
            dialog.receive_request(request)
            raise Refused(603, "a call that a document steers is not transferred by its party")
        else:
            raise PeerError(f"{request.method} has no meaning here", status=405)

    def _hear_info(self, terminal: Terminal, request: Request) -> None:
        if not request.body:  # whether the dialog is still there (RFC 6086 §4.2.2)
            return
        key = digit_of(request)
        if self.voice is not None:
            self.voice.heard(DigitHeard(terminal.call_id, key))
        self._changes.pass_info(terminal, request, content_type_of(request))

    async def check_on(self, call_id: str) -> None:
        """Ask a party of which nothing is heard whether it is there; one that is not is gone.

        Being silent is no reason to end it: it may be muted, without comfort noise.
        """
        terminal = self._by_call.get(call_id)
        if terminal is None or not terminal.answered or terminal.leg.dialog is None:
            return
        if await self._changes.is_gone(terminal):
            await self._lost(terminal, "no media, and the party is gone")

    async def _keep(self, terminal: Terminal) -> None:
        if not terminal.ended:
            await self._means.calls.session_changed(terminal.call_id, terminal.to_json())

    # The end

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        """End one call, and no other; False if it is not known."""
        terminal = self._by_call.get(call_id)
        if terminal is None:
            return False
        if terminal.answered:
            await self._end(terminal, reason, Ending.OURS, CallStatus.COMPLETED)
        elif terminal.incoming is not None:
            await self._end(terminal, reason, Ending.OURS, CallStatus.CANCELED)
        else:
            await self._give_up(terminal, reason)
        return True

    async def _give_up(self, terminal: Terminal, reason: str) -> None:
        """Stop dialling."""
        terminal.ended = True
        terminal.reason = terminal.reason or reason
        if terminal.search is not None:
            terminal.search.cancel()
        await terminal.over.wait()

    async def _lost(self, terminal: Terminal, reason: str) -> None:
        await self._end(terminal, reason, Ending.PARTY, CallStatus.COMPLETED)

    async def _end(
        self,
        terminal: Terminal,
        reason: str,
        by: Ending,
        status: CallStatus,
        *,
        code: int | None = None,
        bye: bool = True,
    ) -> None:
        """Tell the party (unless it said so: ``bye``), stop the recordings, give the sockets back;
        whom it is connected with is attended again."""
        if terminal.ended:
            return
        terminal.ended = True
        self._forget(terminal)
        said = None
        if not terminal.answered:
            if terminal.decided is not None and not terminal.decided.done():
                refusal = Refused(code or 480, reason)
                terminal.decided.set_result(refusal)
        elif bye:
            said = self._means.spawn(self._means.say_bye(terminal.leg))
        async with terminal.lock:  # a step that is under way sees that it is over
            await self._part(terminal)
        await self._means.ended.drop(terminal.call_id, status, reason, code)
        terminal.over.set()
        if self.voice is not None:
            self.voice.hung_up(terminal.call_id, by)
        if said is not None:
            await asyncio.wait({said}, timeout=BYE_WAIT_S)

    def _known(self, call_id: str) -> Terminal:
        terminal = self._by_call.get(call_id)
        if terminal is None or terminal.ended:
            raise NotConnected(CallStatus.COMPLETED, "the call is over")
        return terminal

    def _admit(self, terminal: Terminal) -> None:
        assert terminal.leg.dialog is not None
        self._by_dialog[terminal.leg.dialog.id] = terminal
        self._by_call[terminal.call_id] = terminal
        self._changes.arm(terminal)

    def _forget(self, terminal: Terminal) -> None:
        leg = terminal.leg
        if leg.alarm is not None:
            leg.alarm.cancel()
        if leg.dialog is not None:
            self._by_dialog.pop(leg.dialog.id, None)
        if self._by_call.get(terminal.call_id) is terminal:
            del self._by_call[terminal.call_id]

    # After a crash

    def restore(self, call_id: str, state: str) -> Collection[str]:
        """Take up a call of an earlier control process whose media goes on; the calls of it."""
        if call_id not in self._means.media.calls:
            return ()
        try:
            told = json.loads(state)
            if told.get("kind") != KIND:
                return ()
            terminal = Terminal.from_dict(told)
        except (PeerError, ValueError, KeyError, TypeError) as error:
            log.error("call %s cannot be taken up: %s", call_id, error)
            return ()
        assert terminal.leg.dialog is not None
        # What was sent since it was written down is unknown; a gap is allowed (§12.2.1.1).
        terminal.leg.dialog.local_cseq += 1000
        self._admit(terminal)
        log.info("call %s is taken up", call_id)
        return [call_id]

    async def pair_up(self) -> None:
        """Find out whom each call that was taken up is connected with: the workers know."""
        bridges: Mapping[str, str] = {}
        with contextlib.suppress(MachineError):
            bridges = await self._means.media.bridges()
        for terminal in self._by_call.values():
            other = self._by_call.get(bridges.get(terminal.call_id, ""))
            if other is not None:
                terminal.other, other.other = other, terminal
