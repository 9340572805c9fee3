"""Calls passed on and recorded by a real server: does every packet come out, and in the files?

Each call is set up by SIP: a caller's INVITE, a route that sends it on and has it recorded in
stereo, a callee that answers. From then on both send 20 ms of G.711 fifty times a second, while the
other calls are being set up; the time counts once all are up. The load comes from processes of
their own, which stamp every packet and keep what they hear with the kernel's stamps. Packets out
are held against packets in, one by one; the added delay is from just before sending to arrival, and
so has the loopback in it twice. A gap counts against the sender if it sent nothing for so long
itself; how long the media workers were ready to run and the machine had no core for them is shown
beside it. At the end each integrity report is held against the stamps, and every file against its
report. Exit status 1 if a packet was lost, a recording is missing or a report is not clean; never
for slow. Calls whose packets the kernel would not take from the load are not judged, but named.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.client import HttpClient
from bench.figures import quantiles, show
from bench.outcome import Findings, fetch_reports
from bench.passage import GAPS_MS, WAYS, Passage, compare
from bench.phones import Phones
from bench.processes import Snapshot, snapshot, waited_s
from bench.rtp_load import LoadProcess, Sent, Stream
from bench.verdict import hold
from callreel.base.errors import PeerError
from callreel.demo.own_server import OwnServer

SET_UP_AT_ONCE = 16
LEAD_S = 1.0
"""After the last call was set up all of it has settled."""
TAIL_S = 0.3
"""Each call goes on for so long after its last packet: all are within its recording."""
POLL_S = 0.2
WATCH_S = 0.1
FINISH_S = 120.0
PAGE = 1000
ROLES = ("control", "worker", "render", "supervisor")
_ENDED_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if anything was lost or unclean."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench bridged", description=about)
    parser.add_argument("--calls", type=int, default=100, help="at once (default: 100)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of talk (default: 60)")
    parser.add_argument("--senders", type=int, default=2, help="load processes (default: 2)")
    parser.add_argument("--keep", type=Path, help="leave the server's folder here")
    asked = parser.parse_args(arguments)
    if not 1 <= asked.calls <= PAGE // 2 or asked.seconds <= 0 or asked.senders < 1:
        parser.error(f"1 to {PAGE // 2} calls, for a while, from one process or more")
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(measure(folder, asked.calls, asked.seconds, asked.senders))


async def measure(folder: Path, calls: int, seconds: float, senders: int) -> int:
    """One run in a folder."""
    print(f"{calls} bridged calls at once, each recorded, dual, for {seconds:g} s")
    senders = min(senders, calls)
    loads = [
        LoadProcess(2 * len(range(index, calls, senders)), hears=True) for index in range(senders)
    ]
    streams = [
        loads[number % senders].streams[2 * (number // senders) :][:2] for number in range(calls)
    ]
    callers, callees = Phones(), Phones([theirs for _, theirs in streams])
    config = folder / "callreel.toml"
    server = OwnServer(
        folder,
        "AC" + secrets.token_hex(16),
        secrets.token_urlsafe(24),
        options=("--config", str(config)),
    )
    try:
        await callers.start()
        await callees.start()
        host, port = callees.address
        route = f'[[routes]]\nprefix = ""\nto = ["sip:{{number}}@{host}:{port}"]\nrecord = "dual"\n'
        await asyncio.to_thread(config.write_text, route)
        await asyncio.to_thread(server.start)
        run = Run(server, loads, callers, callees)
        return await run.run([ours for ours, _ in streams], seconds)
    finally:
        for load in loads:
            load.kill()
        await callers.close()
        await callees.close()
        await asyncio.to_thread(server.stop)


class Run:
    """One run against a server that is up."""

    def __init__(
        self, server: OwnServer, loads: Sequence[LoadProcess], callers: Phones, callees: Phones
    ) -> None:
        assert server.process is not None
        self._server = server
        self._pid = server.process.pid
        self._loads = loads
        self._callers = callers
        self._callees = callees
        self._http = HttpClient(server.http_url, server.account_sid, server.auth_token)
        self._account = f"/2010-04-01/Accounts/{server.account_sid}"
        self._found = Findings()
        self._waits_ms: dict[int, list[float]] = {}

    async def run(self, streams: Sequence[Stream], seconds: float) -> int:
        """Set up, talk, hang up, finish, compare, print."""
        calls = len(streams)
        idle = await asyncio.to_thread(snapshot, self._pid)
        try:
            for load in self._loads:
                load.start(time.monotonic())
            await self._set_up(streams)
            await asyncio.sleep(LEAD_S)
            up_ns = time.time_ns()
            before = await asyncio.to_thread(snapshot, self._pid)
            workers = [pid for pid, one in before.by_pid.items() if one.role == "worker"]
            watch = asyncio.create_task(self._watch(workers))
            sent = await self._talk(seconds)
            watch.cancel()
            after = await asyncio.to_thread(snapshot, self._pid)
            load_average = os.getloadavg()[0]
            await asyncio.sleep(TAIL_S)
            await self._hang_up()
            recordings = await self._finish(calls)
            finished = await asyncio.to_thread(snapshot, self._pid)
            reports = await fetch_reports(self._http, self._account, recordings, self._found)
        finally:
            await self._http.close()
        self._show_load(sent, load_average)
        for name, way in zip(WAYS, compare(sent, up_ns), strict=True):
            self._show_way(name, way)
        self._judge(reports, sent, calls)
        _show_usage(idle, before, after, finished, calls)
        for pid, waits_ms in self._waits_ms.items():
            share = (after.by_pid[pid].cpu_s - before.by_pid[pid].cpu_s) / (after.at - before.at)
            show(
                f"worker {pid}",
                f"{100 * share:.0f} % of a core while all talk; ready and without a core for "
                f"{sum(waits_ms) / (after.at - before.at):.1f} ms a second, at most "
                f"{max(waits_ms):.1f} ms in {1000 * WATCH_S:.0f}",
            )
        self._found.show()
        show("result", "FAILED" if self._found.wrong else "nothing lost, every report clean")
        return 1 if self._found.wrong else 0

    # The steps

    async def _set_up(self, streams: Sequence[Stream]) -> None:
        at = self._server.sip_uri.removeprefix("sip:")
        gate = asyncio.Semaphore(SET_UP_AT_ONCE)
        took_ms: list[float] = []

        async def one(number: int) -> None:
            async with gate:
                started = time.monotonic()
                await self._callers.call(at, number, streams[number])
                took_ms.append((time.monotonic() - started) * 1000)
            place, which = divmod(number, len(self._loads))
            for stream in (2 * place, 2 * place + 1):
                self._loads[which].begin(stream)

        started = time.monotonic()
        await asyncio.gather(*(one(number) for number in range(len(streams))))
        took_s = time.monotonic() - started
        show(
            "set up",
            f"{len(took_ms)} calls, {len(took_ms) / took_s:.0f} a second, "
            f"{SET_UP_AT_ONCE} at a time, those that are up being relayed",
        )
        show("from INVITE to 200", quantiles(took_ms))

    async def _talk(self, seconds: float) -> list[Sent]:
        """All calls at once for so long, until all are told to stop."""
        await asyncio.sleep(seconds)
        return list(await asyncio.gather(*(asyncio.to_thread(load.finish) for load in self._loads)))

    async def _watch(self, workers: Sequence[int]) -> None:
        """Note how long each worker was kept from running by whatever else the machine does."""
        self._waits_ms = {pid: [] for pid in workers}
        before_s = {pid: waited_s(pid) for pid in workers}
        while True:
            await asyncio.sleep(WATCH_S)
            for pid in workers:
                now_s = waited_s(pid)
                self._waits_ms[pid].append((now_s - before_s[pid]) * 1000)
                before_s[pid] = now_s

    async def _hang_up(self) -> None:
        """Half of the calls are ended by the caller, half by the callee."""

        async def one(number: int) -> None:
            sides = (self._callers, self._callees)
            ours, theirs = sides if number % 2 else sides[::-1]
            try:
                await ours.hang_up(ours.calls[number])
                await asyncio.wait_for(theirs.calls[number].ended.wait(), _ENDED_S)
            except (PeerError, TimeoutError) as error:
                self._found.unless(False, f"call {number}: not ended: {error or 'no BYE'}")

        started = time.monotonic()
        await asyncio.gather(*(one(number) for number in range(len(self._callers.calls))))
        show("ended", f"on both sides in {time.monotonic() - started:.2f} s, all at once")

    async def _finish(self, calls: int) -> dict[int, str]:
        """The recordings by call, once all are completed or absent."""
        answer = await self._http.get(f"{self._account}/Calls.json?PageSize={PAGE}")
        numbers = {
            one["sid"]: int(one["from"].removeprefix("sip:").partition("@")[0])
            for one in answer.json()["calls"]
            if one["parent_call_sid"] is None
        }
        self._found.unless(len(numbers) == calls, f"the API shows {len(numbers)} calls")
        started = time.monotonic()
        found: list[dict[str, str]] = []
        while time.monotonic() < started + FINISH_S:
            answer = await self._http.get(f"{self._account}/Recordings.json?PageSize={PAGE}")
            found = answer.json()["recordings"]
            if all(one["status"] in ("completed", "absent") for one in found):
                break
            await asyncio.sleep(POLL_S)
        show("from BYE to completed", f"{time.monotonic() - started:.1f} s for all")
        recordings = {}
        for one in found:
            number = numbers.get(one["call_sid"])
            good = one["status"] == "completed" and int(one["channels"]) == 2
            self._found.unless(good, f"call {number}: recording is {one}")
            self._found.unless(
                number is not None and number not in recordings,
                f"recording {one['sid']} is of no call that came in, or its second",
            )
            if good and number is not None:
                recordings[number] = one["sid"]
        show("recordings completed", f"{len(recordings)} of {calls}")
        self._found.unless(len(recordings) == calls, f"only {len(recordings)} were completed")
        return recordings

    # What came of it

    def _show_load(self, sent: Sequence[Sent], load_average: float) -> None:
        show("machine", f"{os.cpu_count()} cores, load average {load_average:.1f} at the end")
        show("load's lateness", quantiles([ms for one in sent for ms in one.lateness_ms]))
        refused = sum(int(one.refused.sum()) for one in sent)
        if refused:
            show("not taken from the load", f"{refused} packets")
        packets = sum(one.before_ns.size for one in sent)
        show("load's CPU", f"{sum(one.cpu_s for one in sent) / packets * 1e6:.1f} us a packet")

    def _show_way(self, name: str, way: Passage) -> None:
        self._found.wrong += way.wrong
        self._found.unless(way.heard > 0, f"nothing came, {name}")
        show(
            name,
            f"{way.sent} packets in, {way.heard} out, {way.sent - way.heard} missing, "
            f"{way.repeated} repeated, {way.disordered} out of order",
        )
        if way.heard:
            p50, p99, p999 = np.percentile(way.delay_ms, [50, 99, 99.9])
            show(
                "  added delay",
                f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99.9 {p999:.2f} ms, "
                f"at most {way.delay_ms.max():.2f} ms",
            )
            show(
                "  once all calls are up",
                f"at most {way.settled_ms:.2f} ms, {way.worst_at_s:.1f} s later",
            )
        for limit_ms in GAPS_MS:
            show(
                f"  gaps > {limit_ms} ms",
                f"{way.ours[limit_ms]}, {way.early[limit_ms]} of them while calls were set up; "
                f"{way.senders[limit_ms]} more were sent so",
            )
        show(
            "  longest pause",
            f"{way.longest_sent_ms:.1f} ms sent, {way.longest_heard_ms:.1f} ms heard",
        )

    def _judge(
        self, reports: dict[int, dict[str, object]], sent: Sequence[Sent], calls: int
    ) -> None:
        """Hold the reports against what was sent, but for calls that were not sent in full."""
        whole = {number: one for number, one in reports.items() if not _refused(sent, number)}
        if len(whole) < len(reports):
            show("not judged", f"{sorted(set(reports) - set(whole))}: not all could be sent")
        verdict = hold(whole, sent)
        self._found.wrong += verdict.wrong
        self._found.unless(
            verdict.furthest == 0,
            "not all was kept, and each call was up before its first packet and after its last",
        )
        show(
            "recorded",
            f"{verdict.sent} packets sent; by the reports {verdict.expected} expected, "
            f"{verdict.received} received, {verdict.lost} lost",
        )
        show("dropped by the kernel", str(verdict.dropped_by_kernel))
        show("reports clean", f"{sum(bool(one['clean']) for one in reports.values())} of {calls}")


def _refused(sent: Sequence[Sent], number: int) -> bool:
    """Whether the kernel would not take a packet of either party of a call."""
    place, which = divmod(number, len(sent))
    return bool(sent[which].refused[2 * place : 2 * place + 2].any())


def _show_usage(
    idle: Snapshot, before: Snapshot, after: Snapshot, finished: Snapshot, calls: int
) -> None:
    for title, since, until in (("set-up", idle, before), ("end and files", after, finished)):
        used = until.since(since)
        text = ", ".join(f"{role} {used.get(role, 0):.2f} s" for role in ROLES)
        show(f"CPU, {title}", text)
    call_seconds = calls * (after.at - before.at)
    used = after.since(before)
    text = ", ".join(f"{role} {used.get(role, 0) / call_seconds * 1000:.2f} ms" for role in ROLES)
    show("CPU, a second of a call", text)
    first, last = idle.rss_mib(), after.rss_mib()
    for role in ROLES:
        sizes = " ".join(f"{size:.0f}" for size in last.get(role, []))
        earlier = " ".join(f"{size:.0f}" for size in first.get(role, []))
        show(f"memory, {role}", f"{sizes} MiB, before the calls {earlier}")
    grown_kib = 1024 * sum(
        sum(last.get(role, [])) - sum(first.get(role, [])) for role in ("control", "worker")
    )
    show("memory, a call", f"{grown_kib / calls:.0f} KiB more in control and workers")


if __name__ == "__main__":
    sys.exit(main())
