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
from chaos.frames import Found, find

FRAME_S = 0.02
FRAME_NS = 20_000_000
RATE_HZ = 8000
EDGE_NS = 40_000_000
"""Of a start, stop or pause: what was said within so much of it is not judged."""
NEAR_NS = 3_000_000_000
"""What is lost up to so long before an accident is its doing."""
STALL_NS = 30_000_000
"""A sender that is so late for a second or more is taken for one that was held up for good: what
follows is put where it arrived. The renderer begins at 40 ms."""
STALL_AT_END_NS = 200_000_000
"""The same within the last second. The renderer begins at 250 ms."""
DRIFT_PPM = 300
"""So fast the renderer follows one that is late for a shorter time."""
LEGS_NS = 20_000_000
"""So far apart the two tracks may be."""
_SECOND = 50
"""Frames."""
_MOVED_S = 0.001
"""Where nobody is late, audio moves by so much at most: each worker has an anchor of its own
between the two clocks of arrival."""
_TIGHT_S = 0.006
"""What is off by more than this is put back in step anywhere, not only behind a gap."""
_EDGE_SAMPLES = 40
_TOLD_SAMPLES = 8
"""A report tells lengths to the millisecond."""
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
    concealed_s: float = 0.0
    """Made up beside gaps that the reports name, over all tracks."""
    late: int = 0
    """Tracks whose packets were sent late for so long that their places are not judged."""
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
        known: list[float] = []
        for place, voice in enumerate(take.voices):
            begin = self._judge_track(f"{name} track {place}", take, place, voice, channels,
                                      report, happened)  # fmt: skip
            if begin is not None:
                known.append(begin)
        if len(known) == 2 and abs(apart := known[0] - known[1]) > LEGS_NS:
            self.blame(f"{name}: its tracks are {apart / 1e6:+.1f} ms apart")

    def _judge_track(
        self,
        name: str,
        take: Take,
        place: int,
        voice: int,
        channels: NDArray[np.int16] | None,
        report: dict[str, Any],
        happened: Sequence[Happened],
    ) -> float | None:
        """Judge a track; when its file would begin by it, ns of wall time, or None."""
        begin: float | None = None
        sent = take.sent_ns[place]
        wanted = expected(take, sent, report, happened)
        unwanted = forbidden(take, sent)
        whole = np.zeros(len(sent), np.bool_)
        if channels is not None:
            stream = _stream(report, place)
            found = find(
                np.ascontiguousarray(channels[:, place]),
                voice,
                len(sent),
                gaps=[gap["start_ms"] * RATE_HZ // 1000 for gap in stream["gaps"]["listed"]],
                moves=stream["reanchored"],
            )
            begin = self._judge_places(name, found, sent, _restarts(report) + 2 * len(take.pauses))
            # Of a packet that follows a step back, what would fall on the one before is left out.
            is_led = begin is None and stream["reanchored"] > 0
            whole = found.touched if is_led else found.whole
            if found.foreign:
                self.blame(f"{name}: {found.foreign} words of another party")
            if found.repeated:
                self.blame(f"{name}: {found.repeated} words twice")
            edges = 2 + 2 * len(take.pauses)
            if found.stray > _EDGE_SAMPLES * edges:
                self.blame(f"{name}: {found.stray} samples that nobody said")
            told_ms = stream["concealed_ms"]
            if found.concealed > told_ms * RATE_HZ // 1000 + _TOLD_SAMPLES:
                self.blame(f"{name}: {found.concealed} samples made up, {told_ms} ms are told of")
            self.concealed_s += found.concealed / RATE_HZ
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
                self.blame(
                    f"{name}: {lost_s:.2f} s lost without an accident, at {sent[first]}, "
                    f"packet {first} of {len(sent)}"
                )
            elif lost_s > (_PROMISED_S if culprit.kind in HITS_WORKERS else 0.0):
                self.blame(
                    f"{name}: {lost_s:.2f} s lost to: {culprit.kind.value}, at {sent[first]}, "
                    f"packet {first} of {len(sent)}; "
                    + ", ".join(
                        f"{one.kind.value} {(one.at_ns - sent[first]) / 1e9:+.2f} s"
                        for one in happened
                        if abs(one.at_ns - int(sent[first])) < NEAR_NS
                    )
                )
        return begin

    def _judge_places(
        self, name: str, found: Found, sent: NDArray[np.int64], steps: int
    ) -> float | None:
        """Whether words are where they belong, of which audio may move so many times for a reason;
        when the file would begin by it, ns of wall time, or None where that cannot be told."""
        self.shifts += found.shifts
        there = np.flatnonzero(found.touched)
        if len(there) == 0:
            return None
        if is_stalled(sent, there):
            # Then the renderer may put it where it arrived: it was the load that stalled.
            self.late += 1
            return None
        earliest = line(sent, there)
        led_s = float(np.ptp(earliest)) / 1e9
        off = np.abs(found.bases - found.bases[0])
        if displaced := int((off > (_MOVED_S + led_s) * RATE_HZ).sum()):
            self.blame(f"{name}: {displaced} words displaced, by {off.max()} samples at most")
        allowed = steps + int(led_s / _TIGHT_S)
        if found.shifts > allowed:
            self.blame(f"{name}: moved {found.shifts} times, {allowed} were to be expected")
        return float(earliest[0]) - float(found.bases[0]) * 1e9 / RATE_HZ


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


def line(sent: NDArray[np.int64], there: NDArray[np.int64]) -> NDArray[np.float64]:
    """By each of these frames, when the first one was sent, as a receiver may put it together: by
    those that were the least late, as fast as it follows; ns, float64[frames]."""
    behind = sent[there] - there * FRAME_NS
    slope = FRAME_NS * DRIFT_PPM / 1e6
    since = there * slope
    before = np.minimum.accumulate(behind - since) + since
    after = np.minimum.accumulate((behind + since)[::-1])[::-1] - since
    earliest: NDArray[np.float64] = np.minimum(before, after)
    return earliest


def is_stalled(sent: NDArray[np.int64], there: NDArray[np.int64]) -> bool:
    """Whether of these frames, all those of a second were sent well behind their time: the machine
    was too busy for the load."""
    behind = sent[there] - there * FRAME_NS
    if len(there) == 0:
        return False
    least = int(behind.min())
    ends = np.searchsorted(there, there + _SECOND, "right")
    for at, end in enumerate(ends.tolist()):
        is_last = int(there[-1]) - int(there[at]) < _SECOND
        if int(behind[at:end].min()) - least > (STALL_AT_END_NS if is_last else STALL_NS):
            return True
    return False


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
    """The accident that a stretch was lost to: the first after its end, or else the last one during
    it. Of several it is one to workers: no other costs anything."""
    near = [one for one in happened if first_ns - EDGE_NS <= one.at_ns <= last_ns + NEAR_NS]
    near = [one for one in near if one.kind in HITS_WORKERS] or near
    # What was said after a worker had died waited for its successor: it is lost to what came next.
    near = [one for one in near if one.at_ns >= last_ns - EDGE_NS] or near
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


def _stream(report: dict[str, Any], place: int) -> dict[str, Any]:
    """What a report says of the stream that is heard in a channel."""
    track = ("inbound", "outbound")[place]
    for stream in report["streams"]:
        if stream["track"] == track:
            found: dict[str, Any] = stream
            return found
    return {"gaps": {"listed": []}, "reanchored": 0, "concealed_ms": 0}


def _restarts(report: dict[str, Any]) -> int:
    return int(report["journal"]["segments"]) - 1


def _ns(text: str) -> int:
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e9)
