"""What was relayed held against what was sent: packets, delay, gaps. Pure.

A gap is the sender's if it sent nothing for so long itself, and ours otherwise: so a machine that
kept the load from being sent in time is told from a relay that did not pass it on in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.rtp_load import Heard, Sent

GAPS_MS = (40, 60)
"""Two packets, and three, of 20 ms: a jitter buffer of a phone bridges the first."""
WAYS = ("caller to callee", "callee to caller")


@dataclass(slots=True)
class Passage:
    """Sums over all streams of one way, and what is wrong."""

    sent: int = 0
    """Packets that the kernel took from the senders."""
    heard: int = 0
    """Of these, those that came out, once each."""
    repeated: int = 0
    """Packets that came again."""
    disordered: int = 0
    """Packets that came after a later one."""
    strange: int = 0
    """Packets that were none of the other party's."""
    delay_ms: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """From just before sending to arrival, of each; float64[heard]."""
    settled_ms: float = 0.0
    """The longest of those that were sent once all calls were up."""
    worst_at_s: float = 0.0
    """How long after that it was sent."""
    ours: dict[int, int] = field(default_factory=lambda: dict.fromkeys(GAPS_MS, 0))
    """Gaps longer than so many milliseconds for which the sender is not to blame."""
    early: dict[int, int] = field(default_factory=lambda: dict.fromkeys(GAPS_MS, 0))
    """Those of ours that began before all calls were up."""
    senders: dict[int, int] = field(default_factory=lambda: dict.fromkeys(GAPS_MS, 0))
    """Those for which it is."""
    longest_heard_ms: float = 0.0
    """Between two packets that came one after the other."""
    longest_sent_ms: float = 0.0
    """Between two that were sent one after the other."""
    wrong: list[str] = field(default_factory=list)
    """A sentence each."""


def compare(sent: Sequence[Sent], up_ns: int) -> tuple[Passage, Passage]:
    """Both ways, of :data:`WAYS`. In each process the even streams are callers, each odd one the
    callee of the one before. All calls were up at ``up_ns``, wall time.
    """
    ways = (Passage(), Passage())
    delays: tuple[list[NDArray[np.float64]], ...] = ([], [])
    for which, one in enumerate(sent):
        for listener, heard in enumerate(one.heard):
            way = (listener + 1) % 2
            name = f"process {which}, stream {listener}"
            delays[way].append(_follow(ways[way], one, listener ^ 1, heard, up_ns, name))
    for passage, found in zip(ways, delays, strict=True):
        passage.delay_ms = np.concatenate([passage.delay_ms, *found])
    return ways


def _follow(
    way: Passage, sent: Sent, sender: int, heard: Heard, up_ns: int, name: str
) -> NDArray[np.float64]:
    """Add one stream to its way; the delay of each of its packets, in ms."""
    before_ns, after_ns = sent.before_ns[sender], sent.after_ns[sender]
    taken = ~sent.refused[sender] & (before_ns > 0)
    theirs = (heard.stream == sender) & (heard.frame >= 0) & (heard.frame < len(taken))
    frames, arrived_ns = heard.frame[theirs], heard.arrived_ns[theirs]
    _, first = np.unique(frames, return_index=True)
    came, strange = len(first), int((~theirs).sum())
    repeated = len(frames) - came
    fresh = np.sort(first)
    frames, arrived_ns = frames[fresh], arrived_ns[fresh]
    disordered = int((np.diff(frames) < 0).sum())
    way.sent += int(taken.sum())
    way.heard += came
    way.repeated += repeated
    way.disordered += disordered
    way.strange += strange
    for number, sentence in (
        (int(taken.sum()) - came, "packets that were sent did not come"),
        (repeated, "packets came again"),
        (disordered, "packets came after later ones"),
        (strange, "packets are not the other party's"),
    ):
        if number:
            way.wrong.append(f"{name}: {number} {sentence}")
    at = np.flatnonzero(taken)
    # From before one until after the next: all the time that the sender may have let pass.
    pauses_ns = np.zeros(len(taken), np.int64)
    pauses_ns[at[1:]] = after_ns[at[1:]] - before_ns[at[:-1]]
    gaps_ms = np.diff(arrived_ns) / 1e6
    for limit_ms in GAPS_MS:
        for place in np.flatnonzero(gaps_ms > limit_ms):
            between = pauses_ns[frames[place] + 1 : frames[place + 1] + 1]
            late = between.max(initial=0) / 1e6 > limit_ms
            (way.senders if late else way.ours)[limit_ms] += 1
            way.early[limit_ms] += not late and before_ns[frames[place]] < up_ns
    way.longest_heard_ms = max(way.longest_heard_ms, float(gaps_ms.max(initial=0)))
    way.longest_sent_ms = max(way.longest_sent_ms, float(pauses_ns.max(initial=0)) / 1e6)
    delay_ms: NDArray[np.float64] = (arrived_ns - before_ns[frames]) / 1e6
    settled = before_ns[frames] >= up_ns
    if settled.any() and delay_ms[settled].max() > way.settled_ms:
        worst = int(np.flatnonzero(settled)[delay_ms[settled].argmax()])
        way.settled_ms = float(delay_ms[worst])
        way.worst_at_s = float(before_ns[frames[worst]] - up_ns) / 1e9
    return delay_ms
