"""What a live recorded call costs in memory: control process, media workers and supervisor.

SIPREC sessions of two streams, set up through a real server and recorded, with their media, in two
steps; the difference in proportional set size (PSS) between them, over the calls of the second
step: what is needed once is in neither. The kernel's socket queues are not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.client import HttpClient
from bench.figures import show
from bench.processes import snapshot
from bench.rtp_load import LoadProcess
from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import Party, RecordingClient
from callreel.server.system import RandomIds, SystemClock

AT_ONCE = 16
SETTLE_S = 36.0
"""Of a set-up something is left for half a minute: what answers to repeated requests."""
CONFIG = '[[peers]]\nname = "bench"\naddresses = ["127.0.0.1"]\nrecord = "dual"\n'
_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench memory", description=about)
    parser.add_argument("--first", type=int, default=50, help="calls before (default: 50)")
    parser.add_argument("--more", type=int, default=200, help="calls to measure (default: 200)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as folder:
        return asyncio.run(measure(Path(folder), asked.first, asked.more))


async def measure(folder: Path, first: int, more: int) -> int:
    """One run."""
    config = folder / "callreel.toml"
    await asyncio.to_thread(config.write_text, CONFIG)
    server = OwnServer(
        folder,
        "AC" + secrets.token_hex(16),
        secrets.token_urlsafe(24),
        options=("--config", str(config)),
    )
    loads = [LoadProcess(2 * count) for count in (first, more)]
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    try:
        await asyncio.to_thread(server.start)
        await phone.start()
        assert server.process is not None
        pid = server.process.pid
        found = []
        for load in loads:
            await _set_up(server, phone, load)
            load.start(time.monotonic() + 0.1)
            await asyncio.sleep(SETTLE_S)
            found.append(await asyncio.to_thread(_pss_kib, pid))
        recorded = await _recordings(server)
    finally:
        for load in loads:
            load.kill()
        await phone.close()
        await asyncio.to_thread(server.stop)
    before, after = found
    show("calls", f"{first}, then {more} more, each of two streams and recorded: {recorded}")
    for role in after:
        grown = after[role] - before.get(role, 0)
        show(f"memory, {role}", f"{after[role] / 1024:.0f} MiB; {grown / more:.1f} KiB a call")
    grown = sum(after[role] - before.get(role, 0) for role in ("control", "worker", "supervisor"))
    show("memory, a live recorded call", f"{grown / more:.1f} KiB")
    return 0 if recorded == first + more else 1


async def _set_up(server: OwnServer, phone: RecordingClient, load: LoadProcess) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            await phone.announce(
                server.sip_uri,
                load.streams[2 * number : 2 * number + 2],
                caller=Party(f"sip:{number}@caller.example.com"),
                callee=Party(f"sip:{number}@callee.example.com"),
            )

    await asyncio.gather(*(one(number) for number in range(len(load.streams) // 2)))


async def _recordings(server: OwnServer) -> int:
    http = HttpClient(server.http_url, server.account_sid, server.auth_token)
    path = f"/2010-04-01/Accounts/{server.account_sid}/Recordings.json?PageSize=1000"
    answer = await http.get(path)
    await http.close()
    return sum(one["status"] == "in-progress" for one in answer.json()["recordings"])


def _pss_kib(supervisor: int) -> Mapping[str, int]:
    """Of the processes of a server, by role."""
    found: dict[str, int] = {}
    for pid, usage in snapshot(supervisor).by_pid.items():
        said = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
        found[usage.role] = found.get(usage.role, 0) + (0 if said is None else int(said[1]))
    return found


if __name__ == "__main__":
    sys.exit(main())
