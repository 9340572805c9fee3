"""Many SIPREC calls at once, each recorded, through a real server: is every packet in the files?

Sender processes stamp every packet of every stream. All recordings are started in mid-call by the
REST API, all at once, and run for the same time; half are stopped by the API, half by BYE. Then
each integrity report is held against the stamps: what was sent between its ``started_at`` and
``ended_at`` must be what it says it received, give or take one packet at either end, whose stamp
and whose arrival may lie on two sides of the instant. Exit status 1 unless all recordings
complete, no packet is lost, every report is clean and every file is the one that its report names.
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

from bench.client import HttpClient
from bench.figures import quantiles, show
from bench.outcome import Findings, fetch_reports
from bench.processes import Snapshot, snapshot
from bench.rtp_load import LoadProcess, Sent
from bench.verdict import hold
from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import ClientCall, Party, RecordingClient
from callreel.server.system import RandomIds, SystemClock

WARM_UP_S = 2.0
SETTLE_S = 3.0
SET_UP_AT_ONCE = 16
POLL_S = 0.1
PACKETS_A_SECOND = 50
ROLES = ("control", "worker", "render", "supervisor")
FINISH_S = 120.0


@dataclass(slots=True)
class BenchCall:
    """One call, from set-up to its finished file."""

    number: int
    """From 0; its streams are those of sender ``number % senders``."""
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
    parser.add_argument("--senders", type=int, default=2, help="sender processes (default: 2)")
    parser.add_argument("--keep", type=Path, help="leave the server's folder here")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(measure(folder, asked.calls, asked.seconds, asked.senders))


def _first_line() -> str:
    return (__doc__ or "").splitlines()[0]


async def measure(folder: Path, calls: int, seconds: float, senders: int) -> int:
    """One run in a folder."""
    print(f"{calls} SIPREC calls at once, each recorded, dual, for {seconds:g} s")
    server = OwnServer(folder, "AC" + secrets.token_hex(16), secrets.token_urlsafe(24))
    loads = [LoadProcess(2 * len(range(index, calls, senders))) for index in range(senders)]
    try:
        await asyncio.to_thread(server.start)
        return await Run(server, loads, seconds).run(calls)
    finally:
        for load in loads:
            load.kill()
        await asyncio.to_thread(server.stop)


class Run:
    """One run against a server that is up."""

    def __init__(self, server: OwnServer, loads: Sequence[LoadProcess], seconds: float) -> None:
        assert server.process is not None
        self._server = server
        self._pid = server.process.pid
        self._loads = loads
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
            at = time.monotonic() + 0.2
            for load in self._loads:
                load.start(at)
            await asyncio.sleep(0.2 + WARM_UP_S)
            await self._find_sids()
            await self._http.connect(calls)
            live = await asyncio.to_thread(snapshot, self._pid)
            steady, full = await self._record()
            await self._finish()
            after = await asyncio.to_thread(snapshot, self._pid)
            sent = [await asyncio.to_thread(load.finish) for load in self._loads]
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
            which, place = number % len(self._loads), number // len(self._loads)
            streams = self._loads[which].streams[2 * place : 2 * place + 2]
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
        answer = await self._http.get(
            f"{self._account}/Calls.json?Status=in-progress&PageSize=1000"
        )
        by_caller = {one["from"]: one["sid"] for one in answer.json()["calls"]}
        for call in self._calls:
            call.sid = next(sid for caller, sid in by_caller.items() if _names(caller, call.number))

    async def _record(self) -> tuple[Snapshot, Snapshot]:
        """Start all, let them run, stop all. The processes once all run, and before the stops."""
        running = [asyncio.create_task(self._one(call)) for call in self._calls]
        settle_s = min(SETTLE_S, self._seconds / 3)
        await asyncio.sleep(settle_s)
        steady = await asyncio.to_thread(snapshot, self._pid)
        await asyncio.sleep(self._seconds - 0.5 - settle_s)
        full = await asyncio.to_thread(snapshot, self._pid)
        await asyncio.gather(*running)
        return steady, full

    async def _one(self, call: BenchCall) -> None:
        path = f"{self._account}/Calls/{call.sid}/Recordings"
        answer = await self._http.post(path + ".json", RecordingChannels="dual")
        if answer.status != 201:
            self._found.unless(False, f"call {call.number}: start answered {answer.status}")
            return
        call.recording, call.start_ms = answer.json()["sid"], answer.elapsed_ms
        await asyncio.sleep(self._seconds)
        call.stopped_at = time.monotonic()
        if call.number % 2:
            await self._phone.hang_up(call.session)
        else:
            stopped = await self._http.post(f"{path}/{call.recording}.json", Status="stopped")
            self._found.unless(
                stopped.status == 200, f"call {call.number}: stop answered {stopped.status}"
            )
        call.stop_ms = (time.monotonic() - call.stopped_at) * 1000

    async def _finish(self) -> None:
        """Wait until all are completed or absent, then end the calls that are left."""
        waiting = {call.recording: call for call in self._calls if call.recording}
        deadline = time.monotonic() + FINISH_S
        while waiting and time.monotonic() < deadline:
            answer = await self._http.get(f"{self._account}/Recordings.json?PageSize=1000")
            for one in answer.json()["recordings"]:
                if one["status"] in ("completed", "absent") and one["sid"] in waiting:
                    call = waiting.pop(one["sid"])
                    call.finish_s = time.monotonic() - call.stopped_at
                    self._found.unless(
                        one["status"] == "completed" and one["channels"] == 2,
                        f"call {call.number}: recording is {one}",
                    )
            await asyncio.sleep(POLL_S)
        for call in waiting.values():
            self._found.unless(False, f"call {call.number}: not finished in {FINISH_S:g} s")
        for call in self._calls:
            if not call.session.ended.is_set():
                await self._phone.hang_up(call.session)

    # What came of it

    def _compare(self, reports: dict[int, dict[str, Any]], sent: Sequence[Sent]) -> int:
        """Print what the reports say; how many packets were received by them."""
        found = hold(reports, sent)
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

    def _show_load(self, sent: Sequence[Sent]) -> None:
        late = quantiles([ms for one in sent for ms in one.lateness_ms])
        cpu_s = sum(one.cpu_s for one in sent)
        packets = sum(one.before_ns.size for one in sent)
        show("senders' lateness", late)
        show("senders' CPU", f"{cpu_s / packets * 1e6:.1f} us a packet, delivery included")

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
