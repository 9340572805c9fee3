"""Callers who all leave a message at once: is each message whole, its own, and called back?

Each call comes in by SIP and is answered by a document: ``Play`` of a greeting, ``Record`` with its
beep. As soon as the program is told that a call is being recorded its caller says a tone of its
own for ten seconds, and hangs up. At the end every file must hold that tone and no other, from its
first packet to its last, and the program must have been told of each: by the action, and by the
recording's webhook. Exit status 1 if a message is missing, not
whole or not called back; never for slow.

CPU a call is the server's, by process, from the first INVITE until all is rendered and called back.
The floor is a bare loop, in the same run, that sends and takes as many packets as the messages had
both ways, from as many sockets, and does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import multiprocessing
import os
import secrets
import socket
import sys
import tempfile
import time
import wave
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.client import HttpClient
from bench.figures import quantiles, show
from bench.outcome import Findings, fetch_reports
from bench.phones import Phones
from bench.processes import Snapshot, snapshot
from bench.rtp_load import LoadProcess
from callreel.audio.tone import tone
from callreel.base.errors import PeerError
from callreel.demo.own_server import OwnServer
from callreel.demo.receiver import Answer, Webhook, WebhookReceiver
from callreel.phone.sources import RATE_HZ
from callreel.testing.ears import dominant_hz, read_wav, tone_spans

MESSAGE_S = 10.0
PLAYED_S = 1.5
"""The greeting and the beep."""
EXTRA_S = 1.0
"""So long each caller stays after its last word: what it said is all within the recording."""
LOWEST_HZ, STEP_HZ = 300, 30
NEAR_HZ = 2.0
EDGE_S = 0.06
"""How much a message's length may be off: a window of the ear at either end."""
SET_UP_AT_ONCE = 16
FINISH_S = 120.0
POLL_S = 1.0
FRAME_S = 0.02
PACKET_BYTES = 172
PAGE = 1000
ROLES = ("control", "worker", "render", "supervisor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if a message is missing, not whole or not called back."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench voicemail", description=about)
    parser.add_argument("--calls", type=int, default=100, help="at once (default: 100)")
    parser.add_argument("--senders", type=int, default=2, help="load processes (default: 2)")
    parser.add_argument("--keep", type=Path, help="leave the server's folder here")
    asked = parser.parse_args(arguments)
    if not 1 <= asked.calls <= 100 or asked.senders < 1:
        parser.error("1 to 100 calls, each has a tone of its own, from one process or more")
    with tempfile.TemporaryDirectory(prefix="callreel-bench-") as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return asyncio.run(measure(folder, asked.calls, min(asked.senders, asked.calls)))


def pitch(number: int) -> int:
    """Whole Hz, so that a second holds whole periods."""
    return LOWEST_HZ + STEP_HZ * number


async def measure(folder: Path, calls: int, senders: int) -> int:
    """One run in a folder."""
    print(f"{calls} callers at once, each leaves a message of {MESSAGE_S:g} s of its own")
    config = folder / "callreel.toml"
    program = Program()
    async with WebhookReceiver(on_webhook=program.take) as receiver:
        program.receiver = receiver
        url = f"http://127.0.0.1:{receiver.port}"
        await asyncio.to_thread(
            config.write_text, f'[[accounts]]\nvoice_url = "{url}/voice"\nvoice_method = "GET"\n'
        )
        server = OwnServer(
            folder,
            "AC" + secrets.token_hex(16),
            secrets.token_urlsafe(24),
            options=("--config", str(config)),
        )
        try:
            await asyncio.to_thread(server.start)
            return await Run(server, program).run(calls, senders)
        finally:
            await asyncio.to_thread(server.stop)


@dataclass(slots=True)
class Program:
    """What steers the calls: it answers with documents, and counts what it is told."""

    receiver: WebhookReceiver | None = None
    begun: dict[int, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    """By caller: whether it is being recorded."""
    callers: dict[str, int] = field(default_factory=dict)
    """By call."""
    after: Counter[str] = field(default_factory=Counter)
    """Calls of which the action told, with ``hangup`` for a key."""
    recorded: Counter[str] = field(default_factory=Counter)
    """Recordings of which a webhook told that they are completed."""

    def take(self, hook: Webhook) -> None:
        """Make up the answer to one request."""
        assert self.receiver is not None
        url = f"http://127.0.0.1:{self.receiver.port}"
        fields = hook.fields
        body, kind = b"", "text/xml"
        if "/voice" in hook.url:
            self.callers[fields["CallSid"]] = _caller(fields["From"])
            body = (
                f"<Response><Play>{url}/greeting.wav</Play>"
                f'<Record maxLength="60" timeout="30" action="{url}/after" '
                f'recordingStatusCallbackEvent="in-progress completed" '
                f'recordingStatusCallback="{url}/recorded"/></Response>'
            ).encode()
        elif "/greeting" in hook.url:
            body, kind = _greeting(), "audio/x-wav"
        elif "/after" in hook.url:
            self.after[fields["CallSid"]] += fields["Digits"] == "hangup"
        elif "/recorded" in hook.url:
            completed = fields["RecordingStatus"] == "completed"
            self.recorded[fields["RecordingSid"]] += completed
            if not completed:
                self.begun[self.callers[fields["CallSid"]]].set()
        self.receiver.answers.append(Answer(200, (("Content-Type", kind),), body))

    async def is_recorded(self, caller: int) -> None:
        """Wait until a caller's message may begin."""
        await self.begun[caller].wait()


class Run:
    """One run against a server that is up."""

    def __init__(self, server: OwnServer, program: Program) -> None:
        assert server.process is not None
        self._server = server
        self._pid = server.process.pid
        self._program = program
        self._http = HttpClient(server.http_url, server.account_sid, server.auth_token)
        self._account = f"/2010-04-01/Accounts/{server.account_sid}"
        self._found = Findings()

    async def run(self, calls: int, senders: int) -> int:
        """Call, speak, hang up, finish, listen, print."""
        pitches = [pitch(number) for number in range(calls)]
        loads = [
            LoadProcess(
                len(pitches[index::senders]),
                tones_hz=pitches[index::senders],
                frames=round(MESSAGE_S / FRAME_S),
            )
            for index in range(senders)
        ]
        phones = Phones()
        await phones.start()
        try:
            before = await asyncio.to_thread(snapshot, self._pid)
            for load in loads:
                load.start(time.monotonic())
            await self._leave_messages(phones, loads, calls)
            sent = [await asyncio.to_thread(load.finish) for load in loads]
            recordings = await self._finish(calls)
            after = await asyncio.to_thread(snapshot, self._pid)
            reports = await fetch_reports(self._http, self._account, recordings, self._found)
            await self._listen(recordings)
        finally:
            for load in loads:
                load.kill()
            await phones.close()
            await self._http.close()
        show("load's lateness", quantiles([ms for one in sent for ms in one.lateness_ms]))
        _show_packets(reports)
        _show_usage(before, after, calls)
        self._found.show()
        result = "every message whole, its own, and called back"
        show("result", "FAILED" if self._found.wrong else result)
        return 1 if self._found.wrong else 0

    async def _leave_messages(
        self, phones: Phones, loads: Sequence[LoadProcess], calls: int
    ) -> None:
        """Each caller speaks once its program was told that it is being recorded."""
        at = self._server.sip_uri.removeprefix("sip:")
        gate = asyncio.Semaphore(SET_UP_AT_ONCE)
        took_ms: list[float] = []
        waited_ms: list[float] = []

        async def one(number: int) -> None:
            load, place = loads[number % len(loads)], number // len(loads)
            async with gate:
                started = time.monotonic()
                try:
                    await phones.call(at, number, load.streams[place])
                except PeerError as error:
                    self._found.unless(False, f"caller {number}: not answered: {error}")
                    return
                answered = time.monotonic()
                took_ms.append((answered - started) * 1000)
            try:
                async with asyncio.timeout(FINISH_S):
                    await self._program.is_recorded(number)
            except TimeoutError:
                self._found.unless(False, f"caller {number}: never recorded")
                return
            waited_ms.append((time.monotonic() - answered) * 1000)
            load.begin(place)
            await asyncio.sleep(MESSAGE_S + EXTRA_S)
            try:
                await phones.hang_up(phones.calls[number])
            except PeerError as error:
                self._found.unless(False, f"caller {number}: not hung up: {error}")

        await asyncio.gather(*(one(number) for number in range(calls)))
        if took_ms and waited_ms:
            show("from INVITE to 200", f"{quantiles(took_ms)}, {SET_UP_AT_ONCE} at a time")
            show("from 200 to being recorded", f"{quantiles(waited_ms)}, 1.5 s of them played")

    async def _finish(self, calls: int) -> dict[int, str]:
        """The recordings by caller, once all are completed or absent, and called back."""
        answer = await self._http.get(f"{self._account}/Calls.json?PageSize={PAGE}")
        numbers = {one["sid"]: _caller(one["from"]) for one in answer.json()["calls"]}
        self._found.unless(len(numbers) == calls, f"the API shows {len(numbers)} calls")
        started = time.monotonic()
        found: list[dict[str, str]] = []
        while time.monotonic() < started + FINISH_S:
            answer = await self._http.get(f"{self._account}/Recordings.json?PageSize={PAGE}")
            found = answer.json()["recordings"]
            over = all(one["status"] in ("completed", "absent") for one in found)
            told = min(self._program.recorded.total(), self._program.after.total())
            if over and told >= len(found) >= calls:
                break
            await asyncio.sleep(POLL_S)
        show("from the last BYE", f"{time.monotonic() - started:.1f} s until all are called back")
        recordings = {}
        for one in found:
            number = numbers.get(one["call_sid"], -1)
            good = one["status"] == "completed" and one["source"] == "RecordVerb"
            self._found.unless(good, f"caller {number}: recording is {one}")
            self._found.unless(number not in recordings, f"caller {number}: a second recording")
            self._found.unless(
                self._program.recorded[one["sid"]] == 1,
                f"caller {number}: {self._program.recorded[one['sid']]} webhooks",
            )
            self._found.unless(
                self._program.after[one["call_sid"]] == 1, f"caller {number}: no action"
            )
            if good:
                recordings[number] = one["sid"]
        show("messages completed", f"{len(recordings)} of {calls}, each called back")
        self._found.unless(len(recordings) == calls, f"only {len(recordings)} were completed")
        return recordings

    async def _listen(self, recordings: dict[int, str]) -> None:
        """Each file holds its caller's tone and no other, all of it."""
        shortest = MESSAGE_S
        for number, sid in recordings.items():
            media = await self._http.get(f"{self._account}/Recordings/{sid}.wav")
            length_s, problem = await asyncio.to_thread(_heard, media.body, number)
            self._found.unless(not problem, f"caller {number}: {problem}")
            shortest = min(shortest, length_s)
        show("shortest message", f"{shortest:.2f} s of {MESSAGE_S:g}")


def _caller(shown: str) -> int:
    """Whose call it is, as the API shows it: a URI, or its number alone."""
    return int(shown.removeprefix("sip:").partition("@")[0])


def _greeting() -> bytes:
    """A second of a tone, as a WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(tone(400, RATE_HZ).astype("<i2").tobytes())
    return file.getvalue()


def _heard(wav: bytes, number: int) -> tuple[float, str]:
    """How long a caller's tone is in its file, seconds, and what is wrong."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(wav)
        file.flush()
        rate_hz, samples = read_wav(Path(file.name))
    spans = tone_spans(samples[:, 0], rate_hz, pitch(number))
    if len(spans) != 1:
        return 0.0, f"its tone is there {len(spans)} times"
    length_s = spans[0][1] - spans[0][0]
    if abs(length_s - MESSAGE_S) > EDGE_S:
        return length_s, f"{length_s:.2f} s of its tone"
    strongest = dominant_hz(samples[:, 0], rate_hz)
    if abs(strongest - pitch(number)) > NEAR_HZ:
        return length_s, f"{strongest:.0f} Hz is louder than its own {pitch(number)}"
    return length_s, ""


def _show_packets(reports: Mapping[int, Mapping[str, Any]]) -> None:
    packets = [stream["packets"] for one in reports.values() for stream in one["streams"]]
    received, lost = (sum(one[name] for one in packets) for name in ("received", "lost"))
    show("packets recorded", f"{received}, {lost} lost on the way")


def _show_usage(before: Snapshot, after: Snapshot, calls: int) -> None:
    used = after.since(before)
    total = sum(used.values())
    parts = ", ".join(f"{role} {used[role] / calls * 1000:.0f}" for role in ROLES if used[role])
    show("CPU a call", f"{total / calls * 1000:.0f} ms ({parts})")
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_floor, args=(there, calls))
    process.start()
    floor_s: float = here.recv()
    process.join()
    show("bare loop, a call", f"{floor_s / calls * 1000:.0f} ms for as many packets")
    show(
        "of the bare loop's",
        f"{total / floor_s:.1f} times, the worker {used['worker'] / floor_s:.1f}",
    )
    show("machine", f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end")


def _floor(pipe: Connection, calls: int) -> None:
    """Send and take a packet a call every 20 ms, as long as a call lasts, and no more than that."""
    pairs = []
    for _ in range(calls):
        ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        theirs.bind(("127.0.0.1", 0))
        ours.connect(theirs.getsockname())
        pairs.append((ours, theirs))
    packet = bytes(PACKET_BYTES)
    frames = round((PLAYED_S + MESSAGE_S + EXTRA_S) / FRAME_S)
    started_s, started = time.process_time(), time.monotonic()
    for frame in range(frames):
        for ours, theirs in pairs:
            ours.send(packet)
            theirs.recv(2048)
        if (early_s := started + (frame + 1) * FRAME_S - time.monotonic()) > 0:
            time.sleep(early_s)
    pipe.send(time.process_time() - started_s)


if __name__ == "__main__":
    sys.exit(main())
