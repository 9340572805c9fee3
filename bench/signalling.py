"""SIPREC sessions set up and ended as fast as they come, without media.

SIPp plays the session recording clients where it is installed (Debian: sip-tester), our own client
otherwise. Each session is INVITE with SDP and metadata, 200, ACK, BYE, 200; of each, the server
keeps a call's row and its metadata. CPU is that of the server's processes, whoever calls. Exit
status 1 unless every session ends as it should.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.peers.sipp import scenario

from bench.client import HttpClient
from bench.figures import show
from bench.processes import snapshot
from callreel.base.errors import PeerError
from callreel.demo.own_server import OwnServer
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock

SIPP_RATE = 2000
SETTLE_S = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a session failed."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench signalling", description=about)
    parser.add_argument("--sessions", type=int, default=2000, help="in all (default: 2000)")
    parser.add_argument("--at-once", type=int, default=32, help="under way (default: 32)")
    parser.add_argument(
        "--rate", type=int, default=SIPP_RATE, help="new ones a second at most, by SIPp"
    )
    parser.add_argument("--own-client", action="store_true", help="even if there is a SIPp")
    asked = parser.parse_args(arguments)
    sipp = None if asked.own_client else shutil.which("sipp")
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as scratch:
        return asyncio.run(measure(Path(scratch), sipp, asked.sessions, asked.at_once, asked.rate))


async def measure(folder: Path, sipp: str | None, sessions: int, at_once: int, rate: int) -> int:
    """One run."""
    server = OwnServer(folder, "AC" + secrets.token_hex(16), secrets.token_urlsafe(24))
    await asyncio.to_thread(server.start)
    try:
        assert server.process is not None
        pid = server.process.pid
        before = await asyncio.to_thread(snapshot, pid)
        started = time.monotonic()
        if sipp is not None:
            failed = await _sipp(sipp, server, folder, sessions, at_once, rate)
        else:
            failed = await _own_client(server, sessions, at_once)
        took_s = time.monotonic() - started
        ended = await _ended(server, sessions)
        used = (await asyncio.to_thread(snapshot, pid)).since(before)
    finally:
        await asyncio.to_thread(server.stop)
    client = "SIPp" if sipp else "our own client, which shares the machine"
    show("sessions", f"{sessions}, {at_once} at a time, by {client}")
    show("set up and ended", f"{sessions / took_s:.0f} a second")
    for role in ("control", "worker", "supervisor"):
        show(f"CPU, {role}", f"{used.get(role, 0) / sessions * 1000:.2f} ms a session")
    show("completed calls", f"{ended} of {sessions}, {failed} failed")
    return 0 if ended == sessions and not failed else 1


async def _sipp(
    program: str, server: OwnServer, folder: Path, sessions: int, at_once: int, rate: int
) -> int:
    await asyncio.to_thread((folder / "scenario.xml").write_text, scenario())
    process = await asyncio.create_subprocess_exec(
        *(program, server.sip_uri.removeprefix("sip:"), "-sf", "scenario.xml", "-i", "127.0.0.1"),
        *("-m", str(sessions), "-l", str(at_once), "-r", str(rate), "-nostdin"),
        *("-trace_err", "-error_file", "errors.log", "-timeout", "300", "-timeout_error"),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    status = await process.wait()
    errors = folder / "errors.log"
    if status and errors.exists():
        print(await asyncio.to_thread(errors.read_text))
    return 1 if status else 0


async def _own_client(server: OwnServer, sessions: int, at_once: int) -> int:
    phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await phone.start()
    party, silence = Party("sip:bench@pbx.example.com"), parse_source("silence")
    left = iter(range(sessions))
    failed = 0

    async def some() -> None:
        nonlocal failed
        for _ in left:
            try:
                call = await phone.call(
                    server.sip_uri, [silence, silence], caller=party, callee=party
                )
                await phone.hang_up(call)
            except PeerError as error:
                failed += 1
                print(f"  {error}")

    await asyncio.gather(*(some() for _ in range(at_once)))
    await phone.close()
    return failed


async def _ended(server: OwnServer, sessions: int) -> int:
    """How many calls the API shows as completed, once none is left in progress."""
    http = HttpClient(server.http_url, server.account_sid, server.auth_token)
    path = f"/2010-04-01/Accounts/{server.account_sid}/Calls.json"
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        live = await http.get(f"{path}?Status=in-progress&PageSize=1")
        if not live.json()["calls"]:
            break
        await asyncio.sleep(0.1)
    ended, uri = 0, f"{path}?Status=completed&PageSize=1000"
    while uri and ended <= sessions:
        page = (await http.get(uri)).json()
        ended += len(page["calls"])
        uri = page["next_page_uri"]
    await http.close()
    return ended


if __name__ == "__main__":
    sys.exit(main())
