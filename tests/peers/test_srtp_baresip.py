"""SRTP with somebody else's: baresip calls and is called, with its own SDES and libre's SRTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.peers.baresip import Baresip
from tests.peers.house import CALLEE_HZ, CALLER_HZ, open_house, spans

pytestmark = pytest.mark.peer

SRTP = "module srtp.so\n"
TRUNK = """
[[trunks]]
name = "safe"
uri = "sip:127.0.0.1:{port}"
srtp = "required"

[[routes]]
user = "safe"
to = ["trunk:safe"]
record = "dual"
"""


@pytest.mark.parametrize(
    ("caller_says", "callee_says"),
    [("srtp-mand", "srtp-mand"), ("srtp-mand", ""), ("", "srtp-mand")],
    ids=["both", "the caller", "the callee"],
)
async def test_each_hears_the_other(tmp_path: Path, caller_says: str, callee_says: str) -> None:
    async def baresip(name: str, hz: int, user: str, encryption: str, *, answers: bool) -> Baresip:
        account = f";mediaenc={encryption}" if encryption else ""
        more = SRTP if encryption else ""
        return await Baresip.start(
            tmp_path / name, hz=hz, user=user, account=account, answers=answers, more=more
        )

    user = "safe" if callee_says else "peer"
    callee = await baresip("callee", CALLEE_HZ, user, callee_says, answers=True)
    caller = await baresip("caller", CALLER_HZ, "+15550777", caller_says, answers=False)
    try:
        with open_house(tmp_path, more=TRUNK.format(port=callee.port)) as house:
            dialled = "safe" if callee_says else str(callee.port)
            await caller.command("dial", f"sip:{dialled}@{house.address}")
            await caller.event("CALL_ESTABLISHED")
            await asyncio.sleep(1.5)
            await caller.command("hangup")
            await callee.event("CALL_CLOSED")
            (call, _) = await house.calls_from("+15550777")
            recording = await house.recording(call, tmp_path)
            assert "inline:" not in house.server.log
    finally:
        await caller.close()
        await callee.close()
    assert caller.heard_s(CALLEE_HZ) > 1.0, caller.log
    assert callee.heard_s(CALLER_HZ) > 1.0, callee.log
    assert spans(recording, 1, CALLER_HZ)
    assert spans(recording, 2, CALLEE_HZ)
    assert not spans(recording, 1, CALLEE_HZ)
    assert bool(caller_says) == ("RTP/SAVP" in caller.log)
