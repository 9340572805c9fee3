"""Calls that end here: attended, played to, listened to; let go of while they are bridged."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from callreel.base.errors import CallreelError, CapacityError, MachineError
from callreel.calls.media import Stream
from callreel.calls.voice import Sound
from callreel.capture.anchor import Anchor
from callreel.capture.changes import Changes
from callreel.capture.disk import Disk
from callreel.capture.hearing import Ear
from callreel.capture.player import Clip, Format, Player, format_for
from callreel.capture.players import Players
from callreel.capture.prompts import Prompts
from callreel.capture.protocol import WorkerEventKind, sounds_from_json, sounds_to_json
from callreel.capture.relay import Relay
from callreel.capture.streams import Attendant, LiveCall, LiveStream
from callreel.capture.successor import sounds_fit

Rewritten = tuple[Format, Sequence[Clip]]
"""A format, and what is being played in it."""

_log = logging.getLogger("callreel.capture")


class Attending:
    """``tell`` is given what was played and heard, ``save`` calls of which a successor must know
    more than before."""

    def __init__(
        self,
        changes: Changes,
        relay: Relay,
        players: Players,
        disk: Disk,
        anchor: Anchor,
        *,
        tell: Callable[..., None],
        save: Callable[[LiveCall], None],
    ) -> None:
        self._changes = changes
        self._relay = relay
        self._players = players
        self._disk = disk
        self._anchor = anchor
        self._tell = tell
        self._save = save
        self._prompts = Prompts()

    def attend(self, call: LiveCall) -> None:
        """From now on the call ends here, while it is not bridged. Raises ``MachineError`` where
        we can play none of its codecs, ``CapacityError``."""
        if call.is_attended:
            return
        if _voice_of(call) is None:
            raise MachineError(f"call {call.id} has no stream with a codec that can be played")
        call.is_attended = True
        try:
            self.resume(call)
        except CapacityError:
            call.is_attended = False
            raise

    def resume(self, call: LiveCall) -> None:
        """Attend a call that is to be and is not: it is bridged no more, or has new streams."""
        voice = _voice_of(call)
        if not call.is_attended or call.other is not None or call.attended is not None:
            return
        if voice is None:
            return
        live, form = voice
        attendant = call.attendant
        if attendant is None:
            player = Player(
                form,
                ssrc=secrets.randbits(32),
                # Small enough for SRTP to find its place whatever is lost (RFC 3711 §3.3.1).
                sequence=secrets.randbits(15),
                timestamp=secrets.randbits(32),
            )
            attendant = call.attendant = Attendant(player, Ear(live.stream.codecs))
        self._suit(attendant, live, form)
        self._changes.attend(live, attendant)

    def let_go(self, call: LiveCall) -> None:
        """Attend it no more for now; what is played is cut off. It is bridged, or ends."""
        live = call.attended
        if live is None or call.attendant is None:
            return
        self._changes.leave(live)
        # What was heard and played until now is told before it is forgotten.
        self.report()
        self._cut_off(call.attendant)
        call.attendant.ear.listen(None, 0)

    def ready(self, call: LiveCall, streams: Iterable[Stream]) -> Rewritten | None:
        """Before its streams become these: what is being played, as it is to be played then; None
        if that stays as it is. Once they have changed, nothing may go out in the former format."""
        voice = _playable(streams)
        if call.attended is None or call.attendant is None or voice is None:
            return None
        if voice[1] == call.attendant.player.format:
            return None
        return self._rewritten(call.attendant, voice[1])

    def update(self, call: LiveCall, rewritten: Rewritten | None) -> None:
        """There was new signalling for its streams."""
        voice, live = _voice_of(call), call.attended
        if live is not None and (voice is None or voice[0] is not live):
            self._changes.leave(live)
        if voice is not None and call.attendant is not None and rewritten is not None:
            call.attendant.player.convert(*rewritten)
        if voice is not None and call.attended is not None and call.attendant is not None:
            self._suit(call.attendant, *voice)
        self.resume(call)

    def play(self, call: LiveCall, play_id: str, sounds: Sequence[Sound], *, token: str) -> None:
        """Play these from now on; asked again with the same token, it is not played again.

        Raises ``MachineError`` if it is not attended now, or for a file that cannot be read;
        ``CapacityError`` for too many sounds.
        """
        live, attendant = self._attended(call)
        if token == attendant.token:
            if attendant.done_id:
                # Whoever did not hear the answer has not heard this either.
                self._tell(WorkerEventKind.PLAYED, call, None, play_id=play_id, token=token)
            return
        if not sounds_fit(sounds):
            raise CapacityError(f"{len(sounds)} sounds are too many to play at once")
        clips = self._clips(attendant.player.format, sounds)
        attendant.player.play(play_id, clips, self._players.next_tick(live))
        attendant.sounds = tuple(sounds)
        attendant.token, attendant.done_id = token, ""

    def stop_playing(self, call: LiveCall) -> None:
        """Cut off what is being played."""
        if call.attendant is not None:
            self._cut_off(call.attendant)

    def listen(self, call: LiveCall, silence_ms: int | None) -> None:
        """Wait for so much silence from now on, or no more. Raises ``MachineError`` if it is not
        attended now."""
        if silence_ms is None and call.attended is None:
            return
        _, attendant = self._attended(call)
        attendant.ear.listen(silence_ms, self._anchor.now().mono_ns)

    def report(self) -> None:
        """Tell what was heard and played, and leave it for a successor."""
        changed: dict[LiveCall, None] = {}
        pressed, self._relay.pressed = self._relay.pressed, set()
        for live in pressed:
            attendant = live.call.attendant
            while attendant is not None and attendant.ear.keys:
                key = attendant.ear.keys.pop(0)
                self._tell(WorkerEventKind.DIGIT, live.call, None, key=key)
            changed[live.call] = None
        players = self._players
        while players.played:
            live, play_id, token = players.played.pop(0)
            self._tell(WorkerEventKind.PLAYED, live.call, None, play_id=play_id, token=token)
            changed[live.call] = None
        while players.silent:
            live, spoke = players.silent.pop(0)
            self._tell(WorkerEventKind.FELL_SILENT, live.call, None, spoke=spoke)
            changed[live.call] = None
        while players.moved:
            changed[players.moved.pop().call] = None
        for call in changed:
            self._save(call)

    # Ends and beginnings of the process

    def to_json(self, call: LiveCall) -> dict[str, Any] | None:
        """What a successor needs to go on; None where there is nothing to go on with."""
        attendant = call.attendant
        if attendant is None:
            return None
        live, player, ear = call.attended, attendant.player, attendant.ear
        return {
            "player": player.to_json(),
            "tick": self._players.tick if live is None else self._players.next_tick(live),
            "number": attendant.number,
            "play": [player.play_id, player.begins, sounds_to_json(attendant.sounds)],
            "last": [attendant.token, attendant.done_id],
            "digit": ear.last_digit,
            "listen": [ear.silence_ms, ear.spoke],
        }

    def revive(self, call: LiveCall, value: Mapping[str, Any] | None) -> None:
        """Give a call back what ``to_json`` said of it. Raises ``ValueError``, ``TypeError`` or
        ``KeyError``."""
        voice = _voice_of(call)
        if value is None or voice is None:
            return
        live, form = voice
        tick = self._players.tick
        ticks = max(0, tick - int(value["tick"]))
        last = value["digit"]
        ear = Ear(live.stream.codecs, None if last is None else (int(last[0]), int(last[1])))
        attendant = Attendant(Player.from_json(form, value["player"], ticks=ticks), ear)
        attendant.joined_tick = tick
        attendant.number = int(value["number"])
        attendant.token, attendant.done_id = map(str, value["last"])
        play_id, begins, sounds = value["play"]
        attendant.sounds = sounds_from_json(sounds)
        if play_id:
            # As yet of no length: its clips are made when there is time for it.
            attendant.player.play(str(play_id), (), int(begins))
        silence_ms, spoke = value["listen"]
        if silence_ms is not None:
            ear.listen(int(silence_ms), self._anchor.now().mono_ns, spoke=bool(spoke))
        call.attendant = attendant

    def hear_again(self, call: LiveCall) -> None:
        """Have a revived call heard, its bridge being settled."""
        voice = _voice_of(call)
        if call.is_attended and call.other is None and voice is not None and call.attendant:
            live = voice[0]
            self._relay.add(live)
            live.attendant = call.attendant
            self._relay.route(live)

    def play_again(self, call: LiveCall) -> None:
        """Play to a revived call, all of them being heard. What was being played is where it would
        be by now."""
        live, attendant = call.attended, call.attendant
        if live is not None and attendant is not None:
            attendant.player.convert(*self._rewritten(attendant, attendant.player.format))
            revived_tick = attendant.joined_tick
            self._players.add(live, at_once=True)
            attendant.player.miss(attendant.joined_tick - revived_tick)
        else:
            self.resume(call)

    def _attended(self, call: LiveCall) -> tuple[LiveStream, Attendant]:
        live = call.attended
        if live is None or live.attendant is None:
            raise MachineError(f"call {call.id} is not attended")
        return live, live.attendant

    def _suit(self, attendant: Attendant, live: LiveStream, form: Format) -> None:
        """Have it play and hear as the stream is now."""
        attendant.ear.learn(live.stream.codecs)
        if attendant.player.format != form:
            attendant.player.convert(*self._rewritten(attendant, form))

    def _rewritten(self, attendant: Attendant, form: Format) -> Rewritten:
        try:
            return form, self._clips(form, attendant.sounds)
        except CallreelError as error:
            # Whoever waits for its end must not wait for ever.
            _log.error("what is being played ends here: %s", error)
            return form, ()

    def _clips(self, form: Format, sounds: Sequence[Sound]) -> Sequence[Clip]:
        return self._disk.run(lambda: self._prompts.clips(sounds, form)) if sounds else ()

    def _cut_off(self, attendant: Attendant) -> None:
        attendant.player.stop()
        attendant.sounds = ()


def _voice_of(call: LiveCall) -> tuple[LiveStream, Format] | None:
    """The stream that is attended, and what it is played in: the first that can be."""
    found = _playable(live.stream for live in call.streams.values())
    return None if found is None else (call.streams[found[0]], found[1])


def _playable(streams: Iterable[Stream]) -> tuple[int, Format] | None:
    for stream in sorted(streams, key=lambda stream: stream.number):
        form = format_for(stream.codecs)
        if form is not None:
            return stream.number, form
    return None
