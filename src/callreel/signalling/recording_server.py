"""The session recording server: calls that come in by SIPREC (RFC 7866)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.base.ids import IdSource
from callreel.calls.media import MediaPlane
from callreel.calls.model import Call, CallStatus
from callreel.service.accounts import AccountService
from callreel.service.calls import CallService, NewCall
from callreel.service.errors import Unavailable
from callreel.service.recordings import RecordingService
from callreel.signalling.ended_calls import EndedCalls
from callreel.signalling.negotiation import Offered, acceptable, answer, keys_for, streams_of
from callreel.signalling.new_keys import random_key
from callreel.signalling.parties import Heard, Parties, find_parties, one_line
from callreel.signalling.peers import Peer, PeerDirectory
from callreel.signalling.refusal import Refused, refusing
from callreel.signalling.security import KeyExchange
from callreel.signalling.session import MAX_VERSIONS, Body, Session, read_body
from callreel.signalling.user_agent import Cancelled, IncomingRequest, UserAgent
from callreel.wire import sdp
from callreel.wire.sip.dialog import Dialog, DialogId
from callreel.wire.sip.glare import Glare
from callreel.wire.sip.message import Request
from callreel.wire.sip.session_timer import USUAL_SECONDS, SessionTimer, answer_timer
from callreel.wire.siprec import metadata as siprec, multipart

log = logging.getLogger(__name__)

ACCEPT = "application/sdp, multipart/mixed, application/rs-metadata+xml"
"""The bodies that are understood, for Accept."""


class RecordingServer:
    """Answers SRCs: a ``RequestHandler`` for the user agent, and the ``CallControl`` of services.

    ``agent`` is set by ``server`` once the user agent exists.
    """

    methods = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE")
    option_tags = ("siprec", "timer")

    def __init__(
        self,
        *,
        peers: PeerDirectory,
        media: MediaPlane,
        accounts: AccountService,
        calls: CallService,
        recordings: RecordingService,
        ended: EndedCalls,
        clock: Clock,
        ids: IdSource,
        keys: KeyExchange | None = None,
    ) -> None:
        self.agent: UserAgent | None = None
        self.keys = keys or KeyExchange()
        self._peers = peers
        self._media = media
        self._accounts = accounts
        self._calls = calls
        self._recordings = recordings
        self._ended = ended
        self._clock = clock
        self._ids = ids
        self._by_dialog: dict[DialogId, Session] = {}
        self._by_call: dict[str, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def __len__(self) -> int:
        """Sessions under way."""
        return len(self._by_call)

    def talks_to(self, host: str) -> bool:
        """Whether a session with this address is under way."""
        flows = (session.dialog.flow for session in self._by_call.values())
        return any(flow is not None and flow.host == host for flow in flows)

    # CallControl

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        """End a session with a BYE; False if there is none for this call."""
        session = self._by_call.get(call_id)
        if session is None:
            return False
        bye = self._spawn(self._say_bye(session))
        await self._end(session, CallStatus.COMPLETED, reason)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(bye), 2.0)
        return True

    async def restore(self) -> Collection[str]:
        """Take up the sessions of an earlier control process whose media goes on; their calls."""
        going_on = set(self._media.calls)
        for call_id, state in (await self._calls.sessions()).items():
            if call_id not in going_on:
                continue
            try:
                session = Session.from_json(call_id, state, self._peers)
            except (PeerError, ValueError, KeyError, TypeError) as error:
                log.error("call %s cannot be taken up: %s", call_id, error)
                continue
            if session is not None:
                # What was sent since it was written down is unknown; a gap is allowed (§12.2.1.1).
                session.dialog.local_cseq += 1000
                self._admit(session)
                log.info("call %s is taken up", call_id)
        return list(self._by_call)

    def refuse_new(self) -> None:
        """Take no new sessions: the server is shutting down."""
        self._closing = True

    # RequestHandler

    async def handle_request(self, incoming: IncomingRequest) -> None:
        """Answer one request of a peer; a refusal says why in its Warning."""
        try:
            await self._answer(incoming)
        except (Refused, Cancelled):
            raise
        except PeerError as error:
            headers = getattr(error, "headers", ())
            raise Refused(error.status, str(error), headers) from error

    async def _answer(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        if request.method == "OPTIONS":
            incoming.respond(200, headers=[("Accept", ACCEPT)])
            return
        session = self._by_dialog.get(DialogId.of_request(request))
        if request.to_address.tag is None and request.method == "INVITE":
            await self._invite(incoming)
            return
        if session is None:
            raise PeerError("no such session", status=481)
        if request.method == "BYE":
            session.dialog.receive_request(request)
            incoming.respond(200)
            await self._end(session, CallStatus.COMPLETED, "BYE")
        elif request.method in ("INVITE", "UPDATE"):
            await self._change(session, incoming)
        else:
            raise PeerError(f"{request.method} has no meaning here", status=405)

    # A new session

    async def _invite(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        peer = self._peers.find(incoming.flow.host)
        if peer is None:
            raise Refused(403, "not a configured peer")
        if self._closing:
            raise Refused(503, "shutting down", [("Retry-After", "10")])
        # First of all: to a peer without a sound Contact we could never say BYE.
        dialog = incoming.dialog()
        timer = answer_timer(request, wished_seconds=USUAL_SECONDS)
        body = read_body(request)
        offer = _recording_offer(request, body)
        srtp = self.keys.policy(peer.srtp, incoming.flow)
        taken = acceptable(offer, source_host=incoming.flow.host, srtp=srtp)
        sip_from, sip_to = str(request.from_address.uri), str(request.to_address.uri)
        parties = _parties(taken, body.metadata, sip_from, sip_to, peer)
        raw = body.raw_metadata
        call_id = self._ids.new_id()
        new = NewCall(
            account_id=peer.account_id,
            direction=parties.direction,
            from_=parties.from_,
            to=parties.to,
            caller_name=parties.caller_name or _name(request),
            peer=peer.name,
            sip_call_id=request.call_id[:256],
            participants=parties.participants,
            metadata=None if raw is None else (raw.content_type, raw.body),
        )
        try:
            session = await self._set_up(
                incoming, dialog, call_id, new, peer, body, offer, taken, parties, timer
            )
        except BaseException as error:
            status = CallStatus.CANCELED if isinstance(error, Cancelled) else CallStatus.FAILED
            code = error.status if isinstance(error, PeerError) else 500
            try:
                await self._calls.missed(call_id, new)
            finally:
                await self._ended.drop(call_id, status, str(error) or "failed", code)
            raise
        await self._acknowledged(session, incoming, offered=False)

    async def _set_up(
        self,
        incoming: IncomingRequest,
        dialog: Dialog,
        call_id: str,
        new: NewCall,
        peer: Peer,
        body: Body,
        offer: sdp.SessionDescription,
        taken: Sequence[Offered],
        parties: Parties,
        timer: SessionTimer | None,
    ) -> Session:
        """Everything that must be so before the 200: sockets, rows, and audio being kept."""
        request = incoming.request
        lines = keys_for(taken, None, random_key)
        if lines:
            self.keys.note(peer.name, incoming.flow)
        streams = streams_of(taken, parties.tracks, parties.heard, lines)
        addresses = await refusing(self._media.open(call_id, streams))
        if incoming.cancelled:
            raise Cancelled
        if self._closing:  # since it was checked first
            raise Refused(503, "shutting down", [("Retry-After", "10")])
        ours = answer(
            offer,
            taken,
            addresses,
            session_id=int(self._ids.new_id()[:8], 16),
            session_version=1,
            lines=lines,
        )
        session = Session(
            call_id=call_id,
            peer=peer,
            dialog=dialog,
            sip_from=str(request.from_address.uri),
            sip_to=str(request.to_address.uri),
            offer=offer,
            answer=ours,
            metadata=body.metadata,
            versions=1 if body.raw_metadata else 0,
            timer=timer,
            allow=(request.headers.get("Allow") or "").upper(),
            knows_timers=_knows_timers(request),
        )
        call = await self._calls.connected(call_id, new, session.to_json())
        await self._record_automatically(call, peer)
        incoming.respond(
            200,
            body=ours.serialize(),
            content_type=sdp.SDP_TYPE,
            headers=timer.headers if timer else (),
        )
        self._admit(session)
        log.info(
            "call %s: %s to %s from peer %s, %d streams",
            call.id,
            parties.from_,
            parties.to,
            peer.name,
            len(taken),
        )
        if body.problem is not None:
            log.warning("call %s: metadata kept but not understood: %s", call.id, body.problem)
        return session

    def _admit(self, session: Session) -> None:
        self._by_dialog[session.dialog.id] = session
        self._by_call[session.call_id] = session
        self._arm(session)

    async def _record_automatically(self, call: Call, peer: Peer) -> None:
        if peer.record is None:
            return
        account = await self._accounts.get(call.account_id)
        assert account is not None, "a peer's account exists, or the server would not have started"
        try:
            await self._recordings.begin_with_call(account, call.id, peer.record)
        except Unavailable as error:
            raise Refused(503, str(error), [("Retry-After", "10")]) from None

    async def _acknowledged(
        self, session: Session, incoming: IncomingRequest, *, offered: bool
    ) -> None:
        """Wait for the ACK of our 2xx; without one the session ends."""
        try:
            ack = await incoming.acknowledged()
        except PeerError:
            if not session.ended:
                self._spawn(self._say_bye(session))
                await self._end(session, CallStatus.FAILED, "no ACK for our 200")
            return
        if offered and not session.ended:
            theirs = read_body(ack).offer
            if theirs is None:
                log.warning("call %s: no answer in the ACK to our offer", session.call_id)
                return
            async with session.lock:
                await self._apply(session, theirs, session.metadata, incoming.flow.host)

    # Changes within a session

    async def _change(self, session: Session, incoming: IncomingRequest) -> None:
        """A re-INVITE or UPDATE: hold, streams added or dropped, new metadata, a refresh."""
        request = incoming.request
        if session.lock.locked():
            raise Refused(500, "another change is under way", [("Retry-After", "1")])
        async with session.lock, session.target_kept_if_refused():
            session.dialog.receive_request(request)
            timer = answer_timer(request, wished_seconds=USUAL_SECONDS)
            body = read_body(request)
            known = session.metadata
            if body.metadata is not None and session.versions < MAX_VERSIONS:
                known = siprec.merge(known, body.metadata)
            if body.offer is not None:
                sdp.check_reoffer(session.offer, body.offer)
                await self._apply(session, body.offer, known, incoming.flow.host)
            elif body.metadata is not None:
                await self._apply(session, session.offer, known, incoming.flow.host)
            await self._keep_metadata(session, body)
            late_offer = body.offer is None and request.method == "INVITE"
            described = body.offer is not None or late_offer
            session.allow = (request.headers.get("Allow") or session.allow).upper()
            session.knows_timers = _knows_timers(request)
            session.timer = timer
            await self._calls.session_changed(session.call_id, session.to_json())
            incoming.respond(
                200,
                body=session.answer.serialize() if described else b"",
                content_type=sdp.SDP_TYPE if described else None,
                headers=timer.headers if timer else (),
            )
            self._arm(session)
        if request.method == "INVITE":
            await self._acknowledged(session, incoming, offered=late_offer)

    async def _apply(
        self,
        session: Session,
        theirs: sdp.SessionDescription,
        known: siprec.Recording | None,
        source_host: str,
    ) -> None:
        """Make the streams those of a new description, or of new metadata for the same one.

        The session stays as it was where they are refused.
        """
        flow = session.dialog.flow
        wanted = session.peer.srtp
        srtp = wanted if flow is None else self.keys.policy(wanted, flow)
        taken = acceptable(theirs, source_host=source_host, srtp=srtp)
        lines = keys_for(taken, session.answer, random_key)
        parties = _parties(taken, known, session.sip_from, session.sip_to, session.peer)
        streams = streams_of(taken, parties.tracks, parties.heard, lines)
        addresses = await refusing(self._media.update(session.call_id, streams))
        fresh = answer(
            theirs,
            taken,
            addresses,
            session_id=session.answer.session_id,
            session_version=session.answer.session_version,
            lines=lines,
        )
        if fresh != session.answer:
            fresh = replace(fresh, session_version=session.answer.session_version + 1)
        session.offer, session.answer, session.metadata = theirs, fresh, known

    async def _keep_metadata(self, session: Session, body: Body) -> None:
        part = body.raw_metadata
        if part is None or session.versions >= MAX_VERSIONS:
            return
        session.versions += 1
        heard = [
            Heard(number, media.label or "")
            for number, media in enumerate(session.offer.media)
            if media.port
        ]
        parties = find_parties(
            heard,
            session.metadata,
            sip_from=session.sip_from,
            sip_to=session.sip_to,
            our_side=session.peer.our_side,
        )
        await self._calls.metadata_received(
            session.call_id,
            part.content_type,
            part.body,
            from_=parties.from_,
            to=parties.to,
            participants=parties.participants,
        )

    # The end

    async def _end(self, session: Session, status: CallStatus, reason: str) -> None:
        if session.ended:
            return
        session.ended = True
        if session.alarm is not None:
            session.alarm.cancel()
        self._by_dialog.pop(session.dialog.id, None)
        self._by_call.pop(session.call_id, None)
        await self._ended.drop(session.call_id, status, reason)

    async def _say_bye(self, session: Session) -> None:
        assert self.agent is not None
        try:
            await self.agent.request_in_dialog(session.dialog, "BYE")
        except PeerError as error:
            log.info("call %s: BYE was not answered: %s", session.call_id, error)

    # Session timer (RFC 4028)

    def _arm(self, session: Session) -> None:
        timer = session.timer
        if session.alarm is not None:
            session.alarm.cancel()
            session.alarm = None
        if timer is None or session.ended:
            return
        now = self._clock.monotonic()
        due = timer.refresh_at(now) if timer.we_refresh else timer.expires_at(now)
        step = self._refresh if timer.we_refresh else self._expire
        assert due is not None
        session.alarm = asyncio.get_running_loop().call_later(
            max(0.0, due - now), lambda: self._spawn(step(session))
        )

    async def _expire(self, session: Session) -> None:
        log.warning("call %s: the peer did not refresh the session", session.call_id)
        self._spawn(self._say_bye(session))
        await self._end(session, CallStatus.COMPLETED, "session timer expired")

    async def _refresh(self, session: Session) -> None:
        """Refresh as agreed; a peer that knows no timers is only asked whether it is there."""
        assert self.agent is not None
        assert session.timer is not None
        method, body, headers = "OPTIONS", b"", []
        if session.knows_timers:
            method = "UPDATE" if "UPDATE" in session.allow else "INVITE"
            interval = session.timer.interval_seconds
            headers = [("Session-Expires", f"{interval};refresher=uac")]
        if method == "INVITE":
            body = session.answer.serialize()
        try:
            response = await self.agent.request_in_dialog(
                session.dialog,
                method,
                body=body,
                content_type=sdp.SDP_TYPE if body else None,
                headers=headers,
            )
            gone = response.code in (408, 481)
        except Glare:
            gone = False  # the peer is changing the session, which shows that it is there
        except PeerError:
            gone = True
        if session.ended:
            return
        if gone:
            await self._end(session, CallStatus.COMPLETED, "the peer is gone")
        else:
            self._arm(session)

    # Within

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _name(request: Request) -> str | None:
    """The display name in From, fit to be shown and stored."""
    return one_line(request.from_address.name or "")[:256].strip() or None


def _knows_timers(request: Request) -> bool:
    supported = " ".join(request.headers.getlist("Supported")).lower()
    return "timer" in supported


def asks_for_recording(request: Request) -> bool:
    """Whether an INVITE says that it begins a recording session (RFC 7866 §6.1.1)."""
    required = " ".join(request.headers.getlist("Require")).lower()
    contact = " ".join(request.headers.getlist("Contact")).lower()
    if "siprec" in required or "+sip.src" in contact:
        return True
    try:
        return read_body(request).raw_metadata is not None
    except PeerError:
        return False  # whoever it is meant for says what is wrong with it


def _recording_offer(request: Request, body: Body) -> sdp.SessionDescription:
    """The offer of an INVITE, if it asks for a recording session (RFC 7866 §6.1)."""
    if body.offer is None:
        kind = multipart.parse_content_type(request.headers.get("Content-Type") or "")[0]
        if request.body and kind and not kind.startswith("multipart/") and not body.raw_metadata:
            raise Refused(415, f"a body of {kind}", [("Accept", ACCEPT)])
        raise Refused(488, "a recording session begins with an offer: no SDP in the INVITE")
    required = " ".join(request.headers.getlist("Require")).lower()
    contact = " ".join(request.headers.getlist("Contact")).lower()
    one_way = all(
        media.direction in (sdp.Direction.SENDONLY, sdp.Direction.INACTIVE)
        for media in body.offer.media
        if media.port
    )
    if "siprec" in required or "+sip.src" in contact or body.raw_metadata or one_way:
        return body.offer
    raise Refused(488, "only SIPREC sessions are taken here: no Require: siprec, no metadata")


def _parties(
    taken: Sequence[Offered],
    metadata: siprec.Recording | None,
    sip_from: str,
    sip_to: str,
    peer: Peer,
) -> Parties:
    heard = [Heard(one.number, one.media.label or "") for one in taken]
    return find_parties(heard, metadata, sip_from=sip_from, sip_to=sip_to, our_side=peer.our_side)
