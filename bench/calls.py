"""Many SIPREC calls at once, each recorded, through a real server: is every packet in the files?

A sender process stamps what it sends of every stream. All recordings are started in mid-call by
the REST API, as many at once as ``--at-once`` says, and all run together for the same time; then
half are stopped by the API, half by BYE. Then each integrity report is held against the stamps:
what was sent between its ``started_at`` and ``ended_at`` must be what it says it received, give or
take one packet at either end, whose stamp and whose arrival may lie on two sides of the instant.
Exit status 1 unless all recordings complete, no packet is lost, every report is clean and every
file is the one that its report names.

``--search`` doubles the number of calls until a run fails or the sender is late, and then halves
the difference: the highest number that a run was good with.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.barrage import Barraged, BarrageProcess
from bench.client import HttpClient
from bench.figures import quantiles, show
from bench.outcome import Findings, fetch_reports
from bench.processes import Snapshot, snapshot
from bench.sweep import raise_file_limit
from bench.verdict import hold
from callreel.base.errors import PeerError
from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.phone.sender import FRAME_S
from callreel.server.system import RandomIds, SystemClock

WARM_UP_S = 2.0
SETTLE_S = 3.0
SET_UP_AT_ONCE = 16
POLL_S = 0.1
PACKETS_A_SECOND = 50
ROLES = ("control", "worker", "render", "supervisor")
FINISH_S = 120.0
FINISH_S_A_CALL = 0.2
LATE_MS = 100


@dataclass(slots=True)
class BenchCall:
    """One call, from set-up to its finished file."""

    number: int
    """From 0; the sender's streams are two for each call, in turn."""
    session: ClientCall
    """The SIPREC session."""
    sid: str = ""
    """Of the call."""
    recording: str = ""
    """SID of the recording."""
    start_ms: float = 0.0
    """How long the start took."""
    stopped_at: float = 0.0
    """When the stop was asked for; monotonic."""
    stop_ms: float = 0.0
    """How long the stop, or the BYE, took."""
    finish_s: float = 0.0
    """From the stop until the API said completed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if anything was lost or unclean."""
    parser = argparse.ArgumentParser(prog="python -m bench calls", description=_first_line())
    parser.add_argument("--calls", type=int, default=200, help="at once (default: 200)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="length of each recording (default: 30)"
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=200,
        help="requests to start or stop that are under way at once (default: 200)",
    )
    parser.add_argument("--keep", type=Path, help="leave the server's folder here")
    parser.add_argument(
        "--search", action="store_true", help="find the highest number of calls that is good"
    )
    asked = parser.parse_args(arguments)
    raise_file_limit()
    if asked.search:
        return _search(asked.calls, asked.seconds, asked.at_once)
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(measure(folder, asked.calls, asked.seconds, asked.at_once))


def _search(calls: int, seconds: float, at_once: int) -> int:
    """The highest number of calls, within a sixteenth, that nothing was lost with."""
    good, bad = 0, 0
    while not bad or bad - good > max(50, good // 16):
        wanted = (good + bad) // 2 if bad else max(calls, 2 * good)
        with tempfile.TemporaryDirectory(prefix="callreel-bench-") as scratch:
            try:
                failed = asyncio.run(measure(Path(scratch), wanted, seconds, at_once))
            except PeerError as error:
                print(f"  {error}")
                failed = 1
        if failed:
            bad = wanted
        else:
            good = wanted
        print(f"{wanted} calls: {'not good' if failed else 'good'}\n")
    show("highest number of calls with nothing lost", str(good))
    return 0 if good else 1


def _first_line() -> str:
    return (__doc__ or "").splitlines()[0]


async def measure(folder: Path, calls: int, seconds: float, at_once: int) -> int:
    """One run in a folder."""
    print(f"{calls} SIPREC calls at once, each recorded, dual, for {seconds:g} s")
    server = OwnServer(folder, "AC" + secrets.token_hex(16), secrets.token_urlsafe(24))
    load = BarrageProcess(2 * calls)
    try:
        await asyncio.to_thread(server.start)
        return await Run(server, load, seconds, at_once).run(calls)
    finally:
        load.kill()
        await asyncio.to_thread(server.stop)


class Run:
    """One run against a server that is up."""

    def __init__(
        self, server: OwnServer, load: BarrageProcess, seconds: float, at_once: int
    ) -> None:
        assert server.process is not None
        self._server = server
        self._pid = server.process.pid
        self._load = load
        self._gate = asyncio.Semaphore(at_once)
        self._at_once = at_once
        self._seconds = seconds
        self._phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
        self._http = HttpClient(server.http_url, server.account_sid, server.auth_token)
        self._account = f"/2010-04-01/Accounts/{server.account_sid}"
        self._calls: list[BenchCall] = []
        self._found = Findings()

    async def run(self, calls: int) -> int:
        """Set up, record, stop, finish, compare, print."""
        await self._phone.start()
        try:
            before = await asyncio.to_thread(snapshot, self._pid)
            await self._set_up(calls)
            self._load.start(time.monotonic() + 0.2)
            await asyncio.sleep(0.2 + WARM_UP_S)
            await self._find_sids()
            await self._http.connect(min(calls, self._at_once))
            live = await asyncio.to_thread(snapshot, self._pid)
            steady, full = await self._record()
            await self._finish()
            after = await asyncio.to_thread(snapshot, self._pid)
            sent = await asyncio.to_thread(self._load.finish)
            recordings = {call.number: call.recording for call in self._calls}
            reports = await fetch_reports(self._http, self._account, recordings, self._found)
        finally:
            await self._http.close()
            await self._phone.close()
        self._show_load(sent)
        received = self._compare(reports, sent)
        self._show_latencies()
        recorded_s = received / (2 * PACKETS_A_SECOND)
        _show_usage(before, live, full, after, calls, recorded_s)
        _show_capture(live, steady, full, after, received, PACKETS_A_SECOND * 2 * calls)
        self._found.show()
        show("result", "FAILED" if self._found.wrong else "nothing lost, every report clean")
        return 1 if self._found.wrong else 0

    # The steps

    async def _set_up(self, count: int) -> None:
        gate = asyncio.Semaphore(SET_UP_AT_ONCE)

        async def one(number: int) -> BenchCall:
            streams = self._load.streams[2 * number : 2 * number + 2]
            async with gate:
                session = await self._phone.announce(
                    self._server.sip_uri,
                    streams,
                    caller=Party(f"sip:{number}@caller.example.com"),
                    callee=Party(f"sip:{number}@callee.example.com"),
                )
            return BenchCall(number, session)

        started = time.monotonic()
        self._calls = list(await asyncio.gather(*(one(number) for number in range(count))))
        took_s = time.monotonic() - started
        show("set up", f"{count} sessions in {took_s:.1f} s, {SET_UP_AT_ONCE} at a time")

    async def _find_sids(self) -> None:
        listed = await self._list(f"{self._account}/Calls.json?Status=in-progress&", "calls")
        by_caller = {one["from"]: one["sid"] for one in listed}
        for call in self._calls:
            call.sid = next(sid for caller, sid in by_caller.items() if _names(caller, call.number))

    async def _list(self, path: str, key: str) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        page: str | None = f"{path}PageSize=1000"
        while page:
            answer = (await self._http.get(page)).json()
            found += answer[key]
            page = answer["next_page_uri"]
        return found

    async def _record(self) -> tuple[Snapshot, Snapshot]:
        """Start all, let them run, stop all. The processes once all run, and before the stops."""
        began = time.monotonic()
        await asyncio.gather(*(self._start(call) for call in self._calls))
        show("started", f"{len(self._calls)} in {time.monotonic() - began:.1f} s")
        settle_s = min(SETTLE_S, self._seconds / 3)
        await asyncio.sleep(settle_s)
        steady = await asyncio.to_thread(snapshot, self._pid)
        await asyncio.sleep(self._seconds - 0.5 - settle_s)
        full = await asyncio.to_thread(snapshot, self._pid)
        await asyncio.sleep(0.5)
        await asyncio.gather(*(self._stop(call) for call in self._calls if call.recording))
        return steady, full

    async def _start(self, call: BenchCall) -> None:
        async with self._gate:
            path = f"{self._account}/Calls/{call.sid}/Recordings.json"
            answer = await self._http.post(path, RecordingChannels="dual")
        if answer.status != 201:
            self._found.unless(False, f"call {call.number}: start answered {answer.status}")
            return
        call.recording, call.start_ms = answer.json()["sid"], answer.elapsed_ms

    async def _stop(self, call: BenchCall) -> None:
        async with self._gate:
            call.stopped_at = time.monotonic()
            if call.number % 2:
                await self._phone.hang_up(call.session)
            else:
                path = f"{self._account}/Calls/{call.sid}/Recordings/{call.recording}.json"
                stopped = await self._http.post(path, Status="stopped")
                self._found.unless(
                    stopped.status == 200, f"call {call.number}: stop answered {stopped.status}"
                )
            call.stop_ms = (time.monotonic() - call.stopped_at) * 1000

    async def _finish(self) -> None:
        """Wait until all are completed or absent, then end the calls that are left."""
        waiting = {call.recording: call for call in self._calls if call.recording}
        deadline = time.monotonic() + FINISH_S + len(self._calls) * FINISH_S_A_CALL
        while waiting and time.monotonic() < deadline:
            for one in await self._list(f"{self._account}/Recordings.json?", "recordings"):
                if one["status"] in ("completed", "absent") and one["sid"] in waiting:
                    call = waiting.pop(one["sid"])
                    call.finish_s = time.monotonic() - call.stopped_at
                    self._found.unless(
                        one["status"] == "completed" and one["channels"] == 2,
                        f"call {call.number}: recording is {one}",
                    )
            await asyncio.sleep(POLL_S * (1 + len(self._calls) // 200))
        for call in waiting.values():
            self._found.unless(False, f"call {call.number}: not finished in time")
        for call in self._calls:
            if not call.session.ended.is_set():
                await self._phone.hang_up(call.session)

    # What came of it

    def _compare(self, reports: dict[int, dict[str, Any]], sent: Barraged) -> int:
        """Print what the reports say; how many packets were received by them."""
        found = hold(reports, [sent])
        calls = len(self._calls)
        completed = sum(call.finish_s > 0 for call in self._calls)
        self._found.wrong += found.wrong
        self._found.unless(completed == calls, f"only {completed} recordings completed")
        self._found.unless(found.clean == calls, f"only {found.clean} reports are clean")
        show("recordings completed", f"{completed} of {calls}")
        show(
            "packets",
            f"{found.sent} sent between start and stop; by the reports "
            f"{found.expected} expected, {found.received} received, {found.lost} lost",
        )
        show("sent and received", f"differ by at most {found.furthest} packets in any stream")
        show("dropped by the kernel", str(found.dropped_by_kernel))
        show("reports clean", f"{found.clean} of {calls}")
        return found.received

    def _show_load(self, sent: Barraged) -> None:
        show("sender's lateness", quantiles(sent.lateness_ms.tolist()))
        share = sent.cpu_s / (sent.before_ns.shape[1] * FRAME_S)
        cost_us = sent.cpu_s / sent.packets * 1e6
        show("sender's CPU", f"{cost_us:.1f} us a packet, delivery included; {share:.0%} of a core")
        self._found.unless(not sent.refused, f"the sender could not send {sent.refused} packets")
        most = sent.lateness_ms.max()
        if most > LATE_MS:
            print(
                f"  the sender was up to {most:.0f} ms late: what is late in reports is its doing"
            )

    def _show_latencies(self) -> None:
        api = [call for call in self._calls if call.number % 2 == 0]
        bye = [call for call in self._calls if call.number % 2]
        show("start, all at once", quantiles(call.start_ms for call in self._calls))
        show("stop by the API", quantiles(call.stop_ms for call in api))
        if bye:
            show("stop by BYE", quantiles(call.stop_ms for call in bye))
        show("stop to completed", quantiles((call.finish_s for call in self._calls), "s"))


def _show_usage(
    idle: Snapshot,
    live: Snapshot,
    full: Snapshot,
    after: Snapshot,
    calls: int,
    recorded_s: float,
) -> None:
    for title, since, until in (
        ("start and recording", live, full),
        ("stop to completed", full, after),
    ):
        used = until.since(since)
        text = ", ".join(f"{role} {used.get(role, 0):.2f} s" for role in ROLES)
        show(f"CPU, {title}", text)
    in_all_ms = sum(after.since(live).values()) * 1000
    show("CPU, all told", f"{in_all_ms / recorded_s:.2f} ms for each second of a recorded call")
    for role in ROLES:
        sizes, first = after.rss_mib().get(role, []), idle.rss_mib().get(role, [])
        text = " ".join(f"{size:.0f}" for size in sizes) + " MiB"
        if first and role != "render":  # those are still starting
            text += ", before the calls " + " ".join(f"{size:.0f}" for size in first)
        show(f"memory, {role}", text)
    grown_kib = 1024 * sum(
        sum(after.rss_mib()[role]) - sum(idle.rss_mib()[role]) for role in ("control", "worker")
    )
    in_all_mib = sum(sum(sizes) for sizes in after.rss_mib().values())
    show("memory, all processes", f"{in_all_mib:.0f} MiB")
    show("memory, a call", f"{grown_kib / calls:.0f} KiB more in control and workers")


def _show_capture(
    live: Snapshot,
    steady: Snapshot,
    full: Snapshot,
    after: Snapshot,
    received: int,
    packets_a_second: int,
) -> None:
    worker_s = full.since(steady).get("worker", 0.0)
    packets = packets_a_second * (full.at - steady.at)
    all_told_s = after.since(live).get("worker", 0.0)
    show(
        "capture",
        f"{worker_s / packets * 1e6:.2f} us of CPU a packet while all record; "
        f"{all_told_s / max(1, received) * 1e6:.2f} with starts and stops",
    )


def _names(caller: str, number: int) -> bool:
    return caller.removeprefix("sip:").partition("@")[0] == str(number)


if __name__ == "__main__":
    sys.exit(main())
