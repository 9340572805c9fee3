"""SIGHUP on the real process: what is routed where changes, what is under way does not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callreel.demo.own_server import OwnServer
from callreel.phone.call import CallFailed, Ending, PhoneCall
from callreel.phone.recording_client import Party, RecordingClient
from callreel.phone.softphone import Phone
from callreel.phone.sources import parse_source
from callreel.server.system import RandomIds, SystemClock
from callreel.signalling.user_agent import RequestRefused
from callreel.wire.sip.values import URI
from tests.phone.phones import Phones

CALLER, CALLEE = Party("sip:+15550100@pbx.example.com"), Party("sip:+15550199@pbx.example.com")
TONE = parse_source("tone:440")
SID, TOKEN = "AC" + "cd" * 16, "a-token-of-tests"


class House(OwnServer):
    """A server whose file is written anew."""

    @property
    def config(self) -> Path:
        return self.folder / "callreel.toml"

    def write(self, text: str, says: str) -> str:
        """Give it another file, and wait until its log ``says`` so; all that it logged."""
        self.config.write_text(text)
        before = len(self.log)
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while says not in self.log[before:] or not self.log.endswith("\n"):
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return self.log[before:]

    def crash(self) -> None:
        """Have the control process killed, and wait until there is another."""
        state = self.data / "server.json"
        before = json.loads(state.read_text())["pid"]
        os.kill(before, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while json.loads(state.read_text())["pid"] == before:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def number(self, number: str) -> str:
        at = URI.parse(self.sip_uri)
        return f"sip:{number}@{at.host}:{at.port}"


READ = "the settings were read anew"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("rereading")
    (folder / "callreel.toml").write_text("")
    options = ("--config", str(folder / "callreel.toml"))
    server = House(folder, SID, TOKEN, options)
    with server:
        yield server
    assert "Traceback" not in server.log


@pytest.fixture
async def phones() -> AsyncIterator[Phones]:
    phones = Phones()
    yield phones
    await phones.close()


def route(prefix: str, phone: Phone) -> str:
    at = URI.parse(phone.uri())
    return f'[[routes]]\nprefix = "{prefix}"\nto = ["sip:{{number}}@{at.host}:{at.port}"]\n'


async def connected(caller: Phone, callee: Phone, uri: str) -> tuple[PhoneCall, PhoneCall]:
    dialling = asyncio.create_task(caller.call(uri))
    theirs = await asyncio.wait_for(callee.next_call(), 5)
    callee.answer(theirs)
    return await dialling, theirs


async def ended(call: PhoneCall, by: Ending) -> None:
    await asyncio.wait_for(call.ended.wait(), 5)
    assert (call.ended_by, call.status) == (by, 200), call.reason


async def refused(caller: Phone, uri: str) -> int:
    with pytest.raises(CallFailed) as failed:
        await caller.call(uri)
    return failed.value.call.status or 0


async def test_a_new_route_works_for_the_next_call(server: House, phones: Phones) -> None:
    caller = await phones.make()
    one, two = await phones.make(takes_calls=True), await phones.make(takes_calls=True)
    await asyncio.to_thread(server.write, route("1", one), READ)
    ours, theirs = await connected(caller, one, server.number("100"))
    assert await refused(caller, server.number("200")) == 404
    said = await asyncio.to_thread(server.write, route("2", two), READ)
    assert "changed: routes" in said
    ours_2, theirs_2 = await connected(caller, two, server.number("200"))
    assert await refused(caller, server.number("100")) == 404
    # The call whose route is gone is there all the same, until one of the two hangs up.
    assert caller.live_calls == 2
    await one.hang_up(theirs)
    await ended(ours, Ending.PEER)
    await caller.hang_up(ours_2)
    await ended(theirs_2, Ending.PEER)


async def test_a_broken_file_changes_nothing(server: House, phones: Phones) -> None:
    caller, one = await phones.make(), await phones.make(takes_calls=True)
    await asyncio.to_thread(server.write, route("1", one), READ)
    stays = "the settings stay as they are"
    broken = '[[routes]]\nprefix = "2"\n\nto = ["trunk:none"]\n'
    said = await asyncio.to_thread(server.write, broken, stays)
    assert f"{server.config}, line 4: routes.0.to: there is no 'trunk:none'" in said
    said = await asyncio.to_thread(server.write, "max_calls = 7\nnonsense", stays)
    assert "line 2" in said
    nobody = '[[peers]]\nname = "x"\naddresses = ["192.0.2.1"]\naccount_sid = "AC' + "0" * 32
    said = await asyncio.to_thread(server.write, nobody + '"\n', stays)
    assert "there is no account" in said
    server.config.unlink()
    ours, theirs = await connected(caller, one, server.number("100"))
    await caller.hang_up(ours)
    await ended(theirs, Ending.PEER)


async def test_what_needs_a_restart_is_named_and_left(server: House, phones: Phones) -> None:
    caller, one = await phones.make(), await phones.make(takes_calls=True)
    others = 'rtp_ports = "20000-21000"\nworkers = 3\nlog_level = "warning"\n'
    said = await asyncio.to_thread(
        server.write, others + route("1", one), "until the next start: rtp_ports, workers"
    )
    assert READ not in said  # the new level of the log is that of this very line
    said = await asyncio.to_thread(server.write, route("1", one), READ)
    assert "changed: log_level" in said
    assert "until the next start" not in said
    ours, _ = await connected(caller, one, server.number("100"))
    await caller.hang_up(ours)


@pytest.mark.parametrize("crashes", [False, True])
async def test_who_may_not_call_any_more_can_still_hang_up(
    server: House, phones: Phones, crashes: bool
) -> None:
    caller, one = await phones.make(), await phones.make(takes_calls=True)
    await asyncio.to_thread(server.write, route("1", one), READ)
    ours, theirs = await connected(caller, one, server.number("100"))
    shut = "accept_loopback = false\n" + route("1", one)
    await asyncio.to_thread(server.write, shut, READ)
    assert await refused(caller, server.number("100")) == 403
    if crashes:
        await asyncio.to_thread(server.crash)
    await caller.hang_up(ours)
    await ended(theirs, Ending.PEER)
    assert ours.status == 200
    await asyncio.to_thread(server.write, route("1", one), READ)


async def test_no_more_calls_than_there_may_be(server: House, phones: Phones) -> None:
    caller, one = await phones.make(), await phones.make(takes_calls=True)
    await asyncio.to_thread(server.write, "max_calls = 2\n" + route("1", one), READ)
    ours, _ = await connected(caller, one, server.number("100"))
    ringing = asyncio.create_task(caller.call(server.number("100")))
    theirs = await asyncio.wait_for(one.next_call(), 5)
    one.ring(theirs)  # what rings counts too
    assert await refused(caller, server.number("100")) == 503
    src = RecordingClient(clock=SystemClock(), ids=RandomIds(), local_host="127.0.0.1")
    await src.start()
    try:
        with pytest.raises(RequestRefused) as none_left:
            await src.call(server.sip_uri, [TONE, TONE], caller=CALLER, callee=CALLEE)
        assert none_left.value.status == 503
        assert none_left.value.response.headers.get("Retry-After") == "10"
        one.answer(theirs)
        await ringing
        assert await refused(caller, server.number("100")) == 503
        await caller.hang_up(ours)
        session = await src.call(server.sip_uri, [TONE, TONE], caller=CALLER, callee=CALLEE)
        assert await refused(caller, server.number("100")) == 503
        await src.hang_up(session)
    finally:
        await src.close()
    await asyncio.to_thread(server.write, route("1", one), READ)
    assert theirs.is_answered
    await connected(caller, one, server.number("100"))
