"""Strangers throw packets at every media port while calls are recorded: is anybody harmed?

A media worker records calls, half of them received (two streams), half bridged; a process of its
own sprays all of their ports, RTP and RTCP, at the rate that is asked for, from before the first
call is opened until after the last one is closed. Every packet of the parties must be in the
journals and, of bridged calls, come out at the other party; no packet of the strangers may be in
either. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.figures import quantiles, show
from bench.processes import cpu_s
from bench.rtp_load import LoadProcess
from bench.rtpengine import Bridged, Received
from bench.sweep import raise_file_limit
from callreel.journal.format import Block, Kind
from callreel.journal.reader import read_journal
from callreel.testing.packets import journal_events
from callreel.testing.spray import SSRC, Spray
from callreel.wire.rtp import parse_slab

SETTLE_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Spray, and print what came of it."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench spray", description=about)
    parser.add_argument("--calls", type=int, default=50, help="at once (default: 50)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of talk (default: 10)")
    parser.add_argument("--rate", type=int, default=50_000, help="packets a second of strangers")
    parser.add_argument("--port", type=int, default=14000, help="first for media (default: 14000)")
    asked = parser.parse_args(arguments)
    raise_file_limit()
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as folder:
        return spray(Path(folder), asked.calls, asked.seconds, asked.rate, asked.port)


def spray(folder: Path, calls: int, seconds: float, rate: int, port: int) -> int:
    """One run."""
    bridged = Bridged(folder, port, port + 8 * calls - 1)
    received = Received.beside(bridged)
    load = LoadProcess(2 * calls, hears=True)
    try:
        with Spray(port, port + 4 * calls - 1, rate=rate) as strangers:
            for number in range(calls):
                way = bridged if number % 2 else received
                one, two = load.streams[2 * number : 2 * number + 2]
                to = way.open(number, (one.port, two.port))
                one.remote, two.remote = (("127.0.0.1", port) for port in to)
            # The windows in which sources are learnt: strangers alone speak.
            time.sleep(SETTLE_S)
            load.start(time.monotonic() + 0.1)
            before_s, started = cpu_s(bridged.pid), time.monotonic()
            time.sleep(seconds)
            used_s, took_s = cpu_s(bridged.pid) - before_s, time.monotonic() - started
            sent = load.finish()
            for number in range(calls):
                bridged.close(number)
    finally:
        load.kill()
        bridged.end()
    wrong: list[str] = []
    kept = foreign_kept = refused = 0
    for number in range(calls):
        ssrcs = kept_ssrcs(folder / "journals", f"{number:032x}")
        foreign_kept += int((ssrcs == SSRC).sum())
        kept += len(ssrcs)
        wanted = int((sent.before_ns[2 * number : 2 * number + 2] > 0).sum())
        if len(ssrcs) != wanted:
            wrong.append(f"call {number}: {wanted} packets sent, {len(ssrcs)} kept")
        drops = [
            event
            for event in journal_events(folder / "journals", f"{number:032x}")
            if event["event"] == "drops"
        ]
        refused += sum(int(str(event["foreign"])) for event in drops)
        if any(event["kernel"] for event in drops):
            wrong.append(f"call {number}: strangers are counted as lost")
        if not drops:
            wrong.append(f"call {number}: no stranger was counted")
    heard = [sent.heard[stream] for stream in range(2 * calls) if stream // 2 % 2]
    strange_heard = sum(int((one.stream < 0).sum()) for one in heard)
    relayed = sum(len(one.stream) for one in heard)
    passed = sum(int((sent.before_ns[s] > 0).sum()) for s in range(2 * calls) if s // 2 % 2)
    show(
        "strangers", f"{strangers.sent} packets, {strangers.sent / strangers.seconds:.0f} a second"
    )
    show("  their lateness", f"at most {strangers.late_ms:.0f} ms")
    show("calls", f"{calls}, half of them bridged, {seconds:g} s")
    show("senders' lateness", quantiles(sent.lateness_ms))
    show("packets", f"{int((sent.before_ns > 0).sum())} sent, {kept} kept; {foreign_kept} foreign")
    show("relayed", f"{passed} sent, {relayed} heard; {strange_heard} foreign")
    show("refused, by the journals", str(refused))
    show("worker", f"{100 * used_s / took_s:.0f} % of a core")
    if foreign_kept or strange_heard or relayed != passed:
        wrong.append("strangers were kept or heard, or calls were harmed")
    for sentence in wrong[:20]:
        print(f"  WRONG: {sentence}")
    show("result", "FAILED" if wrong else "no stranger got in, no call was harmed")
    return 1 if wrong else 0


def kept_ssrcs(root: Path, recording_id: str) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """The SSRC of each RTP packet in a journal."""
    found = [np.zeros(0, np.uint32)]
    for _, part in read_journal(root, recording_id):
        if isinstance(part, Block) and part.kind is Kind.RTP:
            slab = part.packets()
            found.append(parse_slab(slab.lengths, slab.data).ssrc.astype(np.uint32))
    return np.concatenate(found)


if __name__ == "__main__":
    sys.exit(main())
