"""From the hang-up to the webhook that says `completed`: how long?

Some SIPREC calls of two streams are recorded for as long as is asked for (300 s is the call of five
minutes; the default is shorter, and says so). Then they hang up one after the other, each once the
one before is told of: from the BYE to the webhook's arrival, with the rendering and the commit to
the disk between them. The rest still talk meanwhile. Exit status 1 if one is not told of.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.client import HttpClient
from bench.figures import quantiles, show
from bench.rtp_load import LoadProcess
from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import WebhookReceiver
from callreel.phone.recording_client import Party, RecordingClient
from callreel.server.system import RandomIds, SystemClock

TOLD_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench hangup", description=about)
    parser.add_argument("--calls", type=int, default=20, help="in all (default: 20)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="of each call before (default: 30)"
    )
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as folder:
        return asyncio.run(measure(Path(folder), asked.calls, asked.seconds))


async def measure(folder: Path, calls: int, seconds: float) -> int:
    """One run."""
    server = OwnServer(folder, "AC" + secrets.token_hex(16), secrets.token_urlsafe(24))
    load = LoadProcess(2 * calls)
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    took_s: list[float] = []
    try:
        await asyncio.to_thread(server.start)
        await phone.start()
        http = HttpClient(server.http_url, server.account_sid, server.auth_token)
        account = f"/2010-04-01/Accounts/{server.account_sid}"
        async with WebhookReceiver() as receiver:
            sessions = [
                await phone.announce(
                    server.sip_uri,
                    load.streams[2 * number : 2 * number + 2],
                    caller=Party(f"sip:{number}@caller.example.com"),
                    callee=Party(f"sip:{number}@callee.example.com"),
                )
                for number in range(calls)
            ]
            load.start(time.monotonic() + 0.1)
            shown = (
                await http.get(f"{account}/Calls.json?Status=in-progress&PageSize=1000")
            ).json()
            sids = {
                int(one["from"].removeprefix("sip:").partition("@")[0]): one["sid"]
                for one in shown["calls"]
            }
            for number in range(calls):
                await http.post(
                    f"{account}/Calls/{sids[number]}/Recordings.json",
                    RecordingChannels="dual",
                    RecordingStatusCallback=receiver.url,
                )
            await asyncio.sleep(seconds)
            busy = os.getloadavg()[0]
            for session in sessions:
                told = len(receiver.received)
                began = time.monotonic()
                await phone.hang_up(session)
                with contextlib.suppress(TimeoutError):
                    await receiver.wait_count(told + 1, TOLD_S)
                    took_s.append(time.monotonic() - began)
        await http.close()
    finally:
        load.kill()
        await phone.close()
        await asyncio.to_thread(server.stop)
    show("calls", f"{calls}, hung up one after the other, the first after {seconds:g} s")
    show("load average", f"{busy:.1f}")
    if took_s:
        show("BYE to completed", quantiles([1000 * one for one in took_s]))
    show("told of", f"{len(took_s)} of {calls}")
    return 0 if len(took_s) == calls else 1


if __name__ == "__main__":
    sys.exit(main())
