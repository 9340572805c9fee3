"""A session recording client (RFC 7866): sends a made-up call to a recorder by SIPREC."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from callreel.base.clock import Clock
from callreel.base.errors import PeerError
from callreel.base.ids import IdSource
from callreel.phone.sender import FrameSource, OutgoingStream, Pacer, RtpSender
from callreel.phone.sources import AudioSource, encode_source
from callreel.signalling.new_keys import random_key
from callreel.signalling.transport import routed_host
from callreel.signalling.user_agent import IncomingRequest, UserAgent
from callreel.wire import sdp
from callreel.wire.rtp import Packetizer
from callreel.wire.sdes import Crypto, Key, Suite
from callreel.wire.sip.dialog import Dialog, DialogId
from callreel.wire.sip.flow import Transport
from callreel.wire.sip.session_timer import answer_timer
from callreel.wire.siprec import metadata as siprec, multipart

_BOUNDARY = "callreel-siprec"


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody on the call."""

    aor: str
    """``sip:`` URI."""
    name: str = ""
    """Display name."""


@dataclass(slots=True)
class ClientCall:
    """A session under way."""

    dialog: Dialog
    """The SIP dialog."""
    streams: Sequence[OutgoingStream]
    """One a track."""
    offer: sdp.SessionDescription
    """What we offered last."""
    metadata: bytes
    """What we said of the parties last."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once either side has ended it."""

    @property
    def packets_sent(self) -> int:
        """Over all tracks."""
        return sum(stream.packets_sent for stream in self.streams)


class RecordingClient:
    """Places SIPREC sessions; many at once share one SIP endpoint and one pacer."""

    methods = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE")
    option_tags = ("siprec", "timer")

    def __init__(self, *, clock: Clock, ids: IdSource, local_host: str = "0.0.0.0") -> None:
        self._ids = ids
        self._local_host = local_host
        self._calls: dict[DialogId, ClientCall] = {}
        self._pacer = Pacer(clock)
        self._agent = UserAgent(
            clock=clock, ids=ids, handler=self, user_agent_header="callreel-phone", user="src"
        )

    async def start(self) -> None:
        """Take a port for SIP."""
        await self._agent.listen_udp(self._local_host, 0)

    async def close(self) -> None:
        """End what is left, without a word to the peer."""
        await self._pacer.close()
        await self._agent.close()

    async def call(
        self,
        uri: str,
        tracks: Sequence[AudioSource | FrameSource],
        *,
        caller: Party,
        callee: Party,
        codec: str = "PCMU",
        transport: Transport = Transport.UDP,
        metadata: bytes | None = None,
        suite: Suite | None = None,
    ) -> ClientCall:
        """Begin a session; returns once it is answered and audio flows.

        The first track is the caller's; a live source gives frames of ``codec``. ``metadata``
        replaces what we would say of the parties. With a ``suite`` the media is SRTP.
        Raises ``PeerError`` when the recorder refuses or does not answer.
        """
        flow = await self._agent.resolve(uri, transport)
        local_host = self._local_host
        if local_host == "0.0.0.0":
            local_host = routed_host(flow.host, flow.port)
        keys = [None if suite is None else random_key(suite) for _ in tracks]
        senders = [
            RtpSender(
                local_host,
                encode_source(source, codec) if isinstance(source, AudioSource) else source,
                self._packetizer(codec),
                key,
            )
            for source, key in zip(tracks, keys, strict=True)
        ]
        try:
            call = await self.announce(
                uri,
                senders,
                caller=caller,
                callee=callee,
                codec=codec,
                transport=transport,
                metadata=metadata,
                keys=keys,
            )
        except BaseException:
            self._pacer.remove(senders)
            raise
        self._pacer.add(senders)
        return call

    async def announce(
        self,
        uri: str,
        streams: Sequence[OutgoingStream],
        *,
        caller: Party,
        callee: Party,
        codec: str = "PCMU",
        transport: Transport = Transport.UDP,
        metadata: bytes | None = None,
        keys: Sequence[Key | None] = (),
    ) -> ClientCall:
        """Begin a session whose packets are sent by others; returns once it is answered.

        ``keys`` are those of the streams that are SRTP. Then ``remote`` of each stream says where
        its packets are to go. As :meth:`call` otherwise.
        """
        flow = await self._agent.resolve(uri, transport)
        host = routed_host(flow.host, flow.port)
        labels = [str(number + 1) for number in range(len(streams))]
        offer = _offer(host, streams, labels, codec, int(self._ids.new_id()[:8], 16), keys)
        about = metadata or _metadata(self._ids, labels, [caller, callee])
        request = self._agent.new_request(
            "INVITE",
            uri,
            from_uri=f'"{_plain(caller.name)}" <{caller.aor}>' if caller.name else caller.aor,
            to_uri=callee.aor,
            body=_body(offer, about),
            content_type=f"multipart/mixed;boundary={_BOUNDARY}",
            headers=[("Require", "siprec")],
        )
        request.headers.set("Contact", f"<{self._agent.contact(flow)}>;+sip.src")
        dialog, response = await self._agent.invite(request, flow)
        call = ClientCall(dialog, streams, offer, about)
        self._aim(call, sdp.SessionDescription.parse(response.body))
        self._calls[dialog.id] = call
        return call

    async def hold(self, call: ClientCall, *, on: bool) -> None:
        """Put all tracks on hold (``inactive``), or take them off again."""
        direction = sdp.Direction.INACTIVE if on else sdp.Direction.SENDONLY
        for stream in call.streams:
            stream.held = on or stream.held
        offer = replace(
            call.offer,
            session_version=call.offer.session_version + 1,
            media=tuple(replace(media, direction=direction) for media in call.offer.media),
        )
        response = await self._agent.request_in_dialog(
            call.dialog,
            "INVITE",
            body=_body(offer, call.metadata),
            content_type=f"multipart/mixed;boundary={_BOUNDARY}",
        )
        if response.code >= 300:
            raise PeerError(f"re-INVITE: {response.code} {response.phrase}", status=response.code)
        call.offer = offer
        self._aim(call, sdp.SessionDescription.parse(response.body))
        for stream in call.streams:
            stream.held = on

    async def hang_up(self, call: ClientCall) -> None:
        """End a session with a BYE."""
        self._forget(call)
        response = await self._agent.request_in_dialog(call.dialog, "BYE")
        if response.code >= 300:
            raise PeerError(f"BYE: {response.code} {response.phrase}", status=response.code)

    # RequestHandler

    async def handle_request(self, incoming: IncomingRequest) -> None:
        """Answer the recorder: it may end a session, or ask whether we are there."""
        request = incoming.request
        call = self._calls.get(DialogId.of_request(request))
        if call is None and request.method != "OPTIONS":
            raise PeerError("no such session", status=481)
        if call is not None:
            call.dialog.receive_request(request)
        if request.method == "BYE" and call is not None:
            self._forget(call)
            incoming.respond(200)
        elif request.method == "UPDATE":
            timer = answer_timer(request)
            incoming.respond(200, headers=timer.headers if timer else ())
        elif request.method == "OPTIONS":
            incoming.respond(200)
        else:
            raise PeerError(f"{request.method} is not for a recording client", status=488)

    # Within

    def _forget(self, call: ClientCall) -> None:
        self._calls.pop(call.dialog.id, None)
        self._pacer.remove(call.streams)
        call.ended.set()

    def _packetizer(self, codec: str) -> Packetizer:
        entropy = self._ids.new_id()
        return Packetizer(
            ssrc=int(entropy[:8], 16),
            payload_type=8 if codec.upper() == "PCMA" else 0,
            sequence=int(entropy[8:12], 16),
            timestamp=int(entropy[12:20], 16),
        )

    @staticmethod
    def _aim(call: ClientCall, answer: sdp.SessionDescription) -> None:
        for stream, media in zip(call.streams, answer.media, strict=False):
            host = media.address or answer.address
            stream.remote = (host, media.port) if host and media.port else None


def _plain(name: str) -> str:
    return "".join(char for char in name if char.isprintable() and char not in '"\\')


def _offer(
    host: str,
    streams: Sequence[OutgoingStream],
    labels: Sequence[str],
    codec: str,
    session_id: int,
    keys: Sequence[Key | None],
) -> sdp.SessionDescription:
    payload_type = 8 if codec.upper() == "PCMA" else 0
    media = tuple(
        sdp.Media(
            kind="audio",
            port=stream.port,
            protocol="RTP/AVP" if key is None else "RTP/SAVP",
            formats=(str(payload_type),),
            codecs=(sdp.Codec(payload_type, codec.upper(), 8000),),
            direction=sdp.Direction.SENDONLY,
            label=label,
            attributes=() if key is None else (("crypto", Crypto(1, key).serialize()),),
        )
        for stream, label, key in zip(streams, labels, keys or [None] * len(streams), strict=True)
    )
    return sdp.SessionDescription(
        media=media,
        origin_username="callreel-phone",
        session_id=session_id,
        session_version=1,
        origin_address=host,
        address=host,
    )


def _metadata(ids: IdSource, labels: Sequence[str], parties: Sequence[Party]) -> bytes:
    session_id = ids.new_id()[:22]
    people = [
        siprec.Participant(ids.new_id()[:22], (siprec.NameID(party.aor, party.name),))
        for party in parties
    ]
    streams = [siprec.Stream(ids.new_id()[:22], session_id, label) for label in labels]
    heard = [
        siprec.ParticipantStreamAssoc(person.id, send=(stream.id,))
        for person, stream in zip(people, streams, strict=False)
    ]
    return siprec.serialize(
        siprec.Recording(
            sessions=(siprec.Session(session_id),),
            participants=tuple(people),
            streams=tuple(streams),
            participant_session_assocs=tuple(
                siprec.ParticipantSessionAssoc(person.id, session_id) for person in people
            ),
            participant_stream_assocs=tuple(heard),
        )
    )


def _body(offer: sdp.SessionDescription, metadata: bytes) -> bytes:
    return multipart.serialize(
        [
            multipart.Part(sdp.SDP_TYPE, offer.serialize(), content_disposition="session"),
            multipart.Part(
                "application/rs-metadata+xml",
                metadata,
                content_disposition="recording-session",
            ),
        ],
        _BOUNDARY,
    )
