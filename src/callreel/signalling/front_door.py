"""Where every SIP request comes in: to the recorder, to a bridged call, to one that
ends here, or back with a refusal."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from callreel.base.errors import PeerError
from callreel.service.calls import CallService
from callreel.signalling.arriving import dialled_in
from callreel.signalling.authentication import Caller, Gate
from callreel.signalling.back_to_back import BackToBack
from callreel.signalling.bridge import Source
from callreel.signalling.recording_server import ACCEPT, RecordingServer, asks_for_recording
from callreel.signalling.refusal import Refused
from callreel.signalling.registrar import Registrar
from callreel.signalling.routing import Routes
from callreel.signalling.terminals import Terminals
from callreel.signalling.user_agent import Cancelled, IncomingRequest

SourceOf = Callable[[Caller], Source]
"""The peer or user who was let in, as a source of calls."""


class FrontDoor:
    """A ``RequestHandler`` for the user agent, and the ``CallControl`` of the use cases."""

    methods = (
        *("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "PRACK"),
        *("INFO", "REFER", "REGISTER"),
    )
    option_tags = ("siprec", "timer", "100rel")

    def __init__(
        self,
        recorder: RecordingServer,
        bridges: BackToBack,
        calls: CallService,
        *,
        gate: Gate,
        registrar: Registrar,
        source_of: SourceOf,
        source_named: Callable[[str], Source | None],
        terminals: Terminals,
        routes: Callable[[], Routes],
    ) -> None:
        self._recorder = recorder
        self._bridges = bridges
        self._calls = calls
        self._gate = gate
        self._registrar = registrar
        self._source_of = source_of
        self._source_named = source_named
        self._terminals = terminals
        self._routes = routes
        self.passes_calls_on = False
        """Whether there are routes or phones at all. Without them only recording sessions are
        taken."""
        self.takes_phones = False
        """Whether somebody could register."""
        self.max_calls = 0
        """Calls at once; beyond it new ones are refused. 0: no limit."""
        self._arriving: set[IncomingRequest] = set()

    def __len__(self) -> int:
        """Calls under way."""
        return len(self._recorder) + len(self._bridges) + len(self._terminals)

    def talks_to(self, host: str) -> bool:
        """Whether a call with this address is under way: it may speak, whatever is configured."""
        calls = (self._recorder, self._bridges, self._terminals)
        return any(one.talks_to(host) for one in calls)

    def refuse_new(self) -> None:
        """Take no new calls: the server is shutting down."""
        self._recorder.refuse_new()
        self._bridges.refuse_new()
        self._terminals.refuse_new()

    async def hang_up(self, call_id: str, *, reason: str) -> bool:
        """End a call; False if it is not known here."""
        for one in (self._recorder, self._bridges, self._terminals):
            if await one.hang_up(call_id, reason=reason):
                return True
        return False

    async def check_on(self, call_id: str) -> None:
        """Nothing is heard from a party: end its call if it is gone."""
        await self._bridges.check_on(call_id)
        await self._terminals.check_on(call_id)

    async def restore(self) -> Collection[str]:
        """Take up what an earlier control process left and the media workers go on with."""
        taken = list(await self._recorder.restore())
        for call_id, state in (await self._calls.sessions()).items():
            taken += self._bridges.restore(call_id, state, self._source_named)
            taken += self._terminals.restore(call_id, state)
        await self._terminals.pair_up()
        return taken

    # RequestHandler

    async def handle_request(self, incoming: IncomingRequest) -> None:
        """Answer one request; a refusal says why in its Warning."""
        try:
            await self._answer(incoming)
        except (Refused, Cancelled):
            raise
        except PeerError as error:
            headers: Sequence[tuple[str, str]] = getattr(error, "headers", ())
            raise Refused(error.status, str(error), headers) from error

    async def _answer(self, incoming: IncomingRequest) -> None:
        request = incoming.request
        if self._bridges.knows(request):
            await self._bridges.handle_request(incoming)
        elif self._terminals.knows(request):
            await self._terminals.handle_request(incoming)
        elif request.to_address.tag is not None:
            await self._recorder.handle_request(incoming)
        elif request.method == "REGISTER":
            if not self.takes_phones:
                others = ", ".join(one for one in self.methods if one != "REGISTER")
                raise Refused(405, "there are no phones here", [("Allow", others)])
            await self._registrar.handle(incoming)
        elif request.method == "OPTIONS":
            # Phones ask as well, to keep a binding of their NAT alive.
            if not self._gate.is_peer(incoming.flow.host) and not (
                self.takes_phones and self._registrar.knows(incoming.flow)
            ):
                raise PeerError("not a peer", status=403)
            incoming.respond(200, headers=[("Accept", ACCEPT)])
        elif request.method != "INVITE":
            await self._recorder.handle_request(incoming)
        elif asks_for_recording(request) or not self._is_for_us(incoming):
            with self._room(incoming):
                await self._recorder.handle_request(incoming)
        else:
            caller = self._gate.admit(incoming)
            if caller is not None:
                with self._room(incoming):
                    await self._take_call(incoming, self._source_of(caller))

    def _is_for_us(self, incoming: IncomingRequest) -> bool:
        """Whether a call is passed on or answered here; all else are recording sessions."""
        if self.passes_calls_on:
            return True
        peer = self._gate.peer_at(incoming.flow.host)
        if peer is None:
            return False
        source = self._source_of(peer)
        return self._terminals.takes(source, dialled_in(incoming.request, source))

    async def _take_call(self, incoming: IncomingRequest, source: Source) -> None:
        """A document for just this number comes first, then the routes, then the account's own."""
        dialled, terminals = dialled_in(incoming.request, source), self._terminals
        if terminals.takes(source, dialled, exactly=True) or (
            self._routes().find(dialled, source.name) is None and terminals.takes(source, dialled)
        ):
            await terminals.invite(incoming, source, dialled)
        else:
            await self._bridges.invite(incoming, source)

    def has_room(self) -> bool:
        """Whether there may be one call more."""
        if not self.max_calls:
            return True
        unanswered = sum(1 for one in self._arriving if one.response is None)
        answered = len(self._recorder) + self._bridges.connected + self._terminals.connected
        return answered + unanswered < self.max_calls

    @contextmanager
    def _room(self, incoming: IncomingRequest) -> Iterator[None]:
        """Room for one call more, which counts from its INVITE on. Raises ``Refused`` (503)."""
        if not self.has_room():
            raise Refused(503, "as many calls as there may be", [("Retry-After", "10")])
        self._arriving.add(incoming)
        try:
            yield
        finally:
            self._arriving.discard(incoming)
