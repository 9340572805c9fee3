"""Kills a server's processes at random instants while calls are recorded, and compares.

Calls by SIPREC and calls that are passed on, with real RTP whose content says which packet it is;
each is recorded by the API, now and again paused, and ended by a BYE or by the API, whether the
server is there or not. The processes are killed with SIGKILL, alone, in company or all at once;
between that the disk is full, the database locked, or a process cannot write, for some seconds;
whoever is told of the recordings fails, stalls and is down for a while. At the end every file is
compared with what was said, frame by frame, each at its place to the sample, up to the cut.

Exit status 1 if a promise of *What can be lost, and when* was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from bench.figures import show
from bench.phones import Phones
from bench.rtp_load import Stream

from callreel.phone.recording_client import RecordingClient
from callreel.server.system import RandomIds, SystemClock
from chaos.accident import FIRST, Accident, choose, comes_at_once
from chaos.conversation import Conversations
from chaos.house import House
from chaos.receiver import BadReceiver
from chaos.speaker import Speaker
from chaos.trouble import Trouble
from chaos.verdict import Verdict

_LOWEST_PORT, _PORTS = 10_000, 4_000
_SETTLE_S = 120.0
_DELIVERED_S, _HURRIED_S = 45.0, 5.0
"""How long callbacks are left to their schedule before they are asked for."""
_PROGRESS_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print; 1 if a promise was broken."""
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m chaos", description=about)
    parser.add_argument("--kills", type=int, default=1000, help="accidents (default: 1000)")
    parser.add_argument("--servers", type=int, default=4, help="at once (default: 4)")
    parser.add_argument("--calls", type=int, default=6, help="at once, a server (default: 6)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between accidents")
    parser.add_argument("--seed", type=int, help="repeat a run's choices")
    parser.add_argument("--keep", type=Path, help="leave the servers' folders here")
    parser.add_argument(
        "--troubled",
        type=float,
        default=0.08,
        help="how often a disk or database fails before an accident, 0 to 1 (default: 0.08)",
    )
    parser.add_argument("--seconds", type=float, help="no accident after so long")
    parser.add_argument(
        "--short", action="store_true", help="one server, as many accidents as 25 s have room for"
    )
    asked = parser.parse_args(arguments)
    if asked.short:
        asked.servers, asked.calls, asked.every = 1, 5, 0.5
        asked.seconds = asked.seconds or 25.0
    if asked.kills < 1 or not 1 <= asked.servers <= 5 or asked.calls < 1 or asked.every <= 0:
        parser.error("at least one accident, 1 to 5 servers, one call or more")
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    print(
        f"{asked.kills} accidents to {asked.servers} servers with {asked.calls} calls each; "
        f"seed {seed}",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="callreel-chaos-") as scratch:
        folder = asked.keep or Path(scratch)
        try:
            return asyncio.run(Run(folder, asked, seed).run())
        except KeyboardInterrupt:
            print(f"interrupted; the same choices again: --seed {seed}")
            return 130


class Run:
    """One run."""

    def __init__(self, folder: Path, asked: argparse.Namespace, seed: int) -> None:
        self._folder = folder
        self._asked = asked
        self._random = random.Random(seed)
        self._speaker = Speaker()
        self._streams: list[Stream] = []
        self._receiver = BadReceiver(random.Random(self._random.random()))
        self._houses: list[House] = []
        self._conversations: list[Conversations] = []
        self._verdict = Verdict()
        self._left = asked.kills

    async def run(self) -> int:
        """All of it; the exit status."""
        begun = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            await self._receiver.start()
            stack.push_async_callback(self._receiver.close)
            self._speaker.start()
            stack.callback(self._speaker.close)
            for index in range(self._asked.servers):
                await self._add_house(index, stack)
            talks = [asyncio.create_task(one.run(self._asked.calls)) for one in self._conversations]
            watch = asyncio.create_task(self._watch(begun))
            await asyncio.sleep(2.0)
            await asyncio.gather(
                *(
                    self._torment(house, random.Random(self._random.random()))
                    for house in self._houses
                )
            )
            for conversation in self._conversations:
                conversation.stop()
            await asyncio.gather(*talks)
            watch.cancel()
            tormented_s = time.monotonic() - begun
            await self._receiver.behave()
            for house, conversation in zip(self._houses, self._conversations, strict=True):
                await self._look_at(house, conversation)
            owed = await self._deliveries()
        return self._print(tormented_s, time.monotonic() - begun, owed)

    async def _add_house(self, index: int, stack: contextlib.AsyncExitStack) -> None:
        phone = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
        await phone.start()
        stack.push_async_callback(phone.close)
        streams: list[Stream] = []
        callers, callees = Phones(), Phones(streams)
        await callers.start()
        stack.push_async_callback(callers.close)
        await callees.start()
        stack.push_async_callback(callees.close)
        low = _LOWEST_PORT + index * _PORTS
        host, port = callees.address
        house = House(
            self._folder / f"server-{index}",
            sip_target=f"{host}:{port}",
            ports=(low, low + _PORTS - 1),
        )
        stack.push_async_callback(house.close)
        await house.start()
        self._houses.append(house)
        self._conversations.append(
            Conversations(
                house,
                self._speaker,
                phone,
                callers,
                callees,
                streams,
                self._receiver,
                random.Random(self._random.random()),
            )
        )

    async def _torment(self, house: House, random_: random.Random) -> None:
        first = list(FIRST) if self._asked.short else []
        troubles = list(Trouble)
        over_at = time.monotonic() + (self._asked.seconds or 1e9)
        while self._left > 0 and (time.monotonic() < over_at or first):
            if not comes_at_once(random_):
                await house.recover()
                if troubles or random_.random() < self._asked.troubled:
                    trouble = troubles.pop() if troubles else random_.choice(list(Trouble))
                    await house.go_through(trouble, random_)
                    await house.recover(wholly=True)
            await asyncio.sleep(random_.uniform(0.0, 2 * self._asked.every))
            if self._left <= 0 or (time.monotonic() > over_at and not first):
                return
            kind = first.pop(0) if first else choose(random_)
            if await house.suffer(kind, random_) is not None:
                self._left -= 1

    async def _watch(self, begun: float) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_S)
            accidents = sum(len(house.happened) for house in self._houses)
            takes = sum(len(one.takes) for one in self._conversations)
            print(
                f"  {time.monotonic() - begun:5.0f} s: {accidents} accidents, {takes} recordings, "
                f"{sum(map(len, self._receiver.came.values()))} callbacks",
                flush=True,
            )

    # What came of it

    async def _look_at(self, house: House, conversation: Conversations) -> None:
        """Wait until nothing is under way any more, then compare."""
        verdict = self._verdict
        deadline = time.monotonic() + _SETTLE_S
        while True:
            found = await house.every("Recordings")
            unfinished = [one for one in found if one["status"] not in ("completed", "absent")]
            if not unfinished or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        for one in unfinished:
            verdict.stuck += 1
            verdict.blame(f"{one['sid']} is {one['status']} for good")
        by_sid = {str(one["sid"]): one for one in found}
        for take in conversation.takes:
            shown = by_sid.pop(take.recording, None)
            name = f"server {house.server.folder.name} call {take.number} {take.recording}"
            if shown is None:
                verdict.blame(f"{name}: its recording is gone")
                continue
            if take.dropped:
                verdict.blame(f"{name}: the server ended the call")
            if shown["status"] not in ("completed", "absent"):
                continue
            files = await self._fetch(house, shown, name)
            if files is not None:
                await asyncio.to_thread(verdict.judge, name, take, *files, house.happened)
        for sid, shown in by_sid.items():
            # Started by a request whose answer was lost: nobody knows what was said when.
            if shown["status"] in ("completed", "absent"):
                await self._fetch(house, shown, sid)
        left = [one.name for one in (house.server.data / "journals").iterdir() if one.is_dir()]
        if left and not unfinished:
            verdict.blame(f"{len(left)} journals are left of recordings that are finished")

    async def _fetch(
        self, house: House, shown: dict[str, object], name: str
    ) -> tuple[dict[str, Any], bytes | None] | None:
        verdict = self._verdict
        sid = shown["sid"]
        report = await house.ask("GET", f"/Recordings/{sid}/Integrity.json")
        if report is None or report.status_code != 200:
            verdict.blame(f"{name}: has no integrity report")
            return None
        if shown["status"] == "absent":
            return report.json(), None
        wav = await house.ask("GET", f"/Recordings/{sid}.wav")
        if wav is None or wav.status_code != 200 or len(wav.content) <= 44:
            verdict.unplayable += 1
            verdict.blame(f"{name}: completed, and there is no audio")
            return None
        return report.json(), wav.content

    async def _deliveries(self) -> dict[str, int]:
        """Wait for what is owed: by the schedule for a while, then asked for."""
        counts = Counter[str]()
        for house in self._houses:
            patience_s = _HURRIED_S if self._asked.short else _DELIVERED_S
            deadline = time.monotonic() + patience_s
            async with httpx.AsyncClient(
                transport=httpx.AsyncHTTPTransport(uds=house.admin), base_url="http://callreel"
            ) as admin:
                while True:
                    pending = (
                        await admin.get("/deliveries", params={"state": "pending", "limit": "1000"})
                    ).json()
                    if not pending:
                        break
                    if time.monotonic() > deadline:
                        counts["asked for"] += len(pending)
                        for one in pending:
                            await admin.post(f"/deliveries/{one['sid']}/replay")
                        deadline = time.monotonic() + patience_s
                    await asyncio.sleep(0.5)
            for shown in await house.every("Recordings"):
                self._check_callbacks(shown, counts)
        for (sid, event), ids in self._receiver.came.items():
            counts["received"] += len(ids)
            counts["duplicates"] += len(ids) - 1
            if len(set(ids)) != 1 or not ids[0]:
                self._verdict.blame(f"{sid} {event}: came under {len(set(ids))} ids")
        return counts

    def _check_callbacks(self, shown: dict[str, object], counts: Counter[str]) -> None:
        sid = str(shown["sid"])
        begun = shown["start_time"] is not None
        for event in (*(("in-progress",) if begun else ()), str(shown["status"])):
            counts["owed"] += 1
            if (sid, event) not in self._receiver.came:
                counts["lost"] += 1
                self._verdict.blame(f"{sid}: the callback {event} never came")
        if self._receiver.order[sid][-1:] == ["in-progress"]:
            counts["late in-progress"] += 1

    def _print(self, tormented_s: float, all_s: float, owed: dict[str, int]) -> int:
        verdict = self._verdict
        happened = [one for house in self._houses for one in house.happened]
        by_kind = Counter(one.kind for one in happened)
        show("accidents", f"{len(happened)} in {tormented_s:.0f} s; {all_s:.0f} s in all")
        show("processes killed", str(sum(one.killed for one in happened)))
        show("recordings", f"{verdict.recordings}, {verdict.absent} of them absent")
        show("audio compared", f"{verdict.seconds / 60:.1f} min, {verdict.frames} packets")
        for kind in Accident:
            show(
                f"  {kind.value}",
                f"{by_kind[kind]} times; at most {verdict.lost_s.get(kind, 0.0):.2f} s of a track "
                f"lost, {verdict.lost_frames[kind]} packets in all",
            )
        show(
            "  a second one too soon",
            f"at most {verdict.away_s:.2f} s more: what was queued for a worker that was not back",
        )
        troubles = Counter(one for house in self._houses for one in house.troubles)
        for trouble in Trouble:
            show(f"  {trouble.value}", f"{troubles[trouble]} times; may cost nothing")
        show("lost without an accident", f"{verdict.lost_frames[None]} packets")
        show(
            "moved at a restart",
            f"{verdict.shifts} times, by a millisecond at most; {verdict.late} tracks that the "
            "load sent late are not judged by that",
        )
        show("made up beside gaps", f"{verdict.concealed_s:.2f} s, each as its report says")
        show("unplayable", str(verdict.unplayable))
        show("stuck", str(verdict.stuck))
        restarts = [s for house in self._houses for s in house.starting_s[1:]]
        if restarts:
            show("server started anew", f"{len(restarts)} times, in {max(restarts):.1f} s at most")
        show(
            "calls refused", f"{sum(one.refused for one in self._conversations)} while it was away"
        )
        unanswered = [why for one in self._conversations for why in one.unanswered]
        show("BYE unanswered", f"{len(unanswered)} {', '.join(sorted(set(unanswered)))}")
        show(
            "callbacks",
            f"{owed['owed']} owed, {owed['received']} received, {owed['lost']} lost, "
            f"{owed['duplicates']} came again under the same id",
        )
        show(
            "receiver",
            f"{self._receiver.failed} not taken, down {self._receiver.outages} times; "
            f"{owed['asked for']} sent by deliveries replay rather than waited for",
        )
        for text in verdict.wrong[:40]:
            print(f"  BROKEN: {text}")
        if len(verdict.wrong) > 40:
            print(f"  … and {len(verdict.wrong) - 40} more")
        show("result", "FAILED" if verdict.wrong else "nothing lost that was promised")
        return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
