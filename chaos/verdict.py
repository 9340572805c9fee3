"""What the files hold, against what was said: frame by frame, and whose doing a lack is."""

from __future__ import annotations

import hashlib
import io
import wave
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chaos.accident import ENDS_THE_SERVER, HITS_WORKERS, Accident, Happened
from chaos.conversation import Take
from chaos.frames import find

FRAME_S = 0.02
EDGE_NS = 40_000_000
"""Of a start, stop or pause: what was said within so much of it is not judged."""
NEAR_NS = 3_000_000_000
"""What is lost up to so long before an accident is its doing."""
_EDGE_SAMPLES = 40
_PROMISED_S = 0.5
_SHORTEST_S = 0.3


@dataclass(slots=True)
class Verdict:
    """All recordings together."""

    recordings: int = 0
    """Looked at."""
    frames: int = 0
    """Packets that had to be there."""
    seconds: float = 0.0
    """Of audio compared, over all tracks."""
    lost_s: dict[Accident | None, float] = field(default_factory=lambda: defaultdict(float))
    """The most that one accident of a kind cost one track; None: no accident explains it."""
    away_s: float = 0.0
    """The most that one track lost because a second accident came before a worker was back."""
    lost_frames: Counter[Accident | None] = field(default_factory=Counter)
    """Packets lost in all, by the accident."""
    shifts: int = 0
    """Places where audio moved by a sample or more, at a worker's restart or a pause."""
    wrong: list[str] = field(default_factory=list)
    """Broken promises."""
    unplayable: int = 0
    """Completed, and no audio that can be played."""
    stuck: int = 0
    """Neither completed nor absent."""
    absent: int = 0
    """Nothing was recorded of it."""

    def blame(self, text: str) -> None:
        """A promise was broken."""
        self.wrong.append(text)

    def judge(
        self,
        name: str,
        take: Take,
        report: dict[str, Any],
        wav: bytes | None,
        happened: Sequence[Happened],
    ) -> None:
        """Hold one recording against what was said."""
        self.recordings += 1
        channels: NDArray[np.int16] | None = None
        if wav is not None:
            if hashlib.sha256(wav).hexdigest() != report["sha256"]:
                self.unplayable += 1
                self.blame(f"{name}: the file is not the one that the report is of")
                return
            try:
                channels = read(wav)
            except (wave.Error, EOFError, ValueError) as error:
                self.unplayable += 1
                self.blame(f"{name}: cannot be played: {error}")
                return
        else:
            self.absent += 1
        for place, voice in enumerate(take.voices):
            self._judge_track(f"{name} track {place}", take, place, voice, channels, report,
                              happened)  # fmt: skip

    def _judge_track(
        self,
        name: str,
        take: Take,
        place: int,
        voice: int,
        channels: NDArray[np.int16] | None,
        report: dict[str, Any],
        happened: Sequence[Happened],
    ) -> None:
        sent = take.sent_ns[place]
        wanted = expected(take, sent, report, happened)
        unwanted = forbidden(take, sent)
        whole = np.zeros(len(sent), np.bool_)
        if channels is not None:
            found = find(np.ascontiguousarray(channels[:, place]), voice, len(sent))
            whole = found.whole
            if found.foreign:
                self.blame(f"{name}: {found.foreign} words of another party")
            if found.displaced or found.repeated:
                self.blame(f"{name}: {found.displaced} words displaced, {found.repeated} twice")
            self.shifts += found.shifts
            if found.shifts > (allowed := _restarts(report) + 2 * len(take.pauses)):
                self.blame(f"{name}: moved {found.shifts} times, {allowed} were to be expected")
            edges = 2 + 2 * len(take.pauses)
            if found.stray > _EDGE_SAMPLES * edges:
                self.blame(f"{name}: {found.stray} samples that nobody said")
            if (kept := int((found.touched & unwanted).sum())) > 0:
                self.blame(f"{name}: {kept} frames of a pause were kept")
        self.frames += int(wanted.sum())
        self.seconds += float(wanted.sum()) * FRAME_S
        for first, last in runs(wanted & ~whole, wanted):
            lost = wanted & ~whole
            lost[:first] = lost[last + 1 :] = False
            culprit = whose(int(sent[first]), int(sent[last]), happened)
            # A second accident before a worker was back: what was queued for it is gone as well.
            earlier = first_to_hit(int(sent[first]), happened, culprit)
            away = lost & (sent > earlier.at_ns) if earlier is not None else lost & False
            lost_s = int((lost & ~away).sum()) * FRAME_S
            kind = culprit.kind if culprit else None
            self.lost_s[kind] = max(self.lost_s[kind], lost_s)
            self.lost_frames[kind] += int(lost.sum())
            self.away_s = max(self.away_s, int(away.sum()) * FRAME_S)
            if culprit is None:
                self.blame(f"{name}: {lost_s:.2f} s lost without an accident, at {sent[first]}")
            elif lost_s > _PROMISED_S:
                self.blame(
                    f"{name}: {lost_s:.2f} s lost to: {culprit.kind.value}, at {sent[first]}; "
                    + ", ".join(
                        f"{one.kind.value} {(one.at_ns - sent[first]) / 1e9:+.2f} s"
                        for one in happened
                        if abs(one.at_ns - int(sent[first])) < NEAR_NS
                    )
                )


def read(wav: bytes) -> NDArray[np.int16]:
    """Samples; int16[n, channels]. Raises ``wave.Error``, ``EOFError`` or ``ValueError``."""
    with wave.open(io.BytesIO(wav)) as file:
        if file.getframerate() != 8000 or file.getsampwidth() != 2 or file.getnchannels() != 2:
            raise ValueError("not 16 bits, 8 kHz, two channels")
        data = file.readframes(file.getnframes())
        if len(data) != file.getnframes() * 4:
            raise ValueError("shorter than its header says")
        return np.frombuffer(data, "<i2").astype(np.int16).reshape(-1, 2)


def expected(
    take: Take, sent: NDArray[np.int64], report: dict[str, Any], happened: Sequence[Happened]
) -> NDArray[np.bool_]:
    """Which frames have to be there: said between the answer to the start and the wish to end it,
    or the death of everything, and not in a pause; bool[frames]."""
    until = take.ending_ns or take.ended_ns
    for one in happened:
        if one.kind in ENDS_THE_SERVER and one.at_ns > take.started_ns:
            until = min(until, one.at_ns)
            if one.kind is Accident.SUPERVISOR and report["end_reason"] is not None:
                # The rest of the server ends calls in order, a moment later or sooner.
                until = min(until, _ns(report["ended_at"]))
    wanted = (sent >= take.started_ns + EDGE_NS) & (sent <= until - EDGE_NS)
    for pause in take.pauses:
        until_ns = pause.resumed_ns or 1 << 62
        wanted &= (sent < pause.asked_ns - EDGE_NS) | (sent > until_ns + EDGE_NS)
    return wanted


def forbidden(take: Take, sent: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which frames must not be there: said while a pause was known to be effective."""
    unwanted = np.zeros(len(sent), np.bool_)
    for pause in take.pauses:
        if pause.effective_ns:
            until_ns = pause.resuming_ns or take.ending_ns or take.ended_ns
            unwanted |= (sent > pause.effective_ns + EDGE_NS) & (sent < until_ns - EDGE_NS)
    return unwanted


def runs(lacking: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each stretch of wanted frames that all lack."""
    found: list[tuple[int, int]] = []
    open_at = -1
    last = -1
    for at in np.flatnonzero(wanted).tolist():
        if lacking[at]:
            open_at = at if open_at < 0 else open_at
            last = at
        elif open_at >= 0:
            found.append((open_at, last))
            open_at = -1
    if open_at >= 0:
        found.append((open_at, last))
    return found


def whose(first_ns: int, last_ns: int, happened: Sequence[Happened]) -> Happened | None:
    """The accident that a stretch was lost to: the first one after its end, or during it."""
    near = [one for one in happened if first_ns - EDGE_NS <= one.at_ns <= last_ns + NEAR_NS]
    return min(near, key=lambda one: abs(one.at_ns - last_ns)) if near else None


def first_to_hit(
    first_ns: int, happened: Sequence[Happened], culprit: Happened | None
) -> Happened | None:
    """The first accident to workers within a stretch that another one ended, or None."""
    if culprit is None:
        return None
    hits = [
        one
        for one in happened
        if one.kind in HITS_WORKERS and first_ns - EDGE_NS <= one.at_ns < culprit.at_ns
    ]
    return min(hits, key=lambda one: one.at_ns) if hits else None


def _restarts(report: dict[str, Any]) -> int:
    return int(report["journal"]["segments"]) - 1


def _ns(text: str) -> int:
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e9)
