"""What the console asks of the use cases: waveforms, bundles, live calls, gaps."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from callreel.base.errors import MachineError
from callreel.calls.media import StreamState
from callreel.calls.model import CallStatus, RecordingRequest, Track
from callreel.service.accounts import AccountService
from callreel.service.bundle import BundleService
from callreel.service.errors import NotFound
from callreel.service.live import LiveService
from callreel.service.media import MediaFormat
from callreel.service.sign_in import SignInService
from tests.service.conftest import House
from tests.service.test_deletion import a_stranger, kept


async def test_a_waveform_is_drawn_once_and_goes_with_its_recording(
    house: House, tmp_path: Path
) -> None:
    recording = await house.a_finished_recording()
    drawn = await house.audio.peaks(recording)
    assert drawn is not None
    (file,) = (tmp_path / "media").rglob("*.peaks")
    file.write_bytes(b"kept")
    assert await house.audio.peaks(recording) == b"kept"
    await house.deletion.delete(house.account, recording.id)
    assert kept(tmp_path) == []


async def test_what_is_not_finished_has_no_waveform(house: House) -> None:
    call = await house.a_call()
    started, _ = await house.recordings.start(house.account, call.id, RecordingRequest())
    assert await house.audio.peaks(started) is None


async def bundle_of(house: House, ids: Sequence[str]) -> zipfile.ZipFile:
    service = BundleService(house.recordings, house.calls, house.audio)
    pieces = [one async for one in service.stream(house.account, ids, MediaFormat.WAV)]
    archive = zipfile.ZipFile(io.BytesIO(b"".join(pieces)))
    assert archive.testzip() is None
    return archive


async def test_a_bundle_holds_audio_reports_and_what_they_are(house: House) -> None:
    first, second = await house.a_finished_recording(), await house.a_finished_recording()
    archive = await bundle_of(house, [first.id, second.id])
    assert len(archive.namelist()) == 5
    listed = json.loads(archive.read("manifest.json"))["recordings"]
    for recording, entry in zip((first, second), listed, strict=True):
        assert entry["wav_sha256"] == recording.sha256
        assert (entry["from"], entry["to"]) == ("+15550100", "+15550199")
        assert archive.getinfo(entry["file"]).file_size == entry["size_bytes"]


async def test_what_has_no_audio_is_in_the_manifest_alone(house: House) -> None:
    call = await house.a_call()
    live, _ = await house.recordings.start(house.account, call.id, RecordingRequest())
    archive = await bundle_of(house, [live.id])
    assert archive.namelist() == ["manifest.json"]
    (entry,) = json.loads(archive.read("manifest.json"))["recordings"]
    assert (entry["file"], entry["status"]) == (None, "in-progress")


async def test_a_bundle_of_another_account_begins_with_nothing(house: House) -> None:
    recording = await house.a_finished_recording()
    service = BundleService(house.recordings, house.calls, house.audio)
    pieces = service.stream(await a_stranger(house), [recording.id], MediaFormat.WAV)
    with pytest.raises(NotFound):
        await anext(pieces)


class Watch:
    """Says of every call what it is told to."""

    def __init__(self) -> None:
        self.away = False

    async def observe(self, call_id: str) -> Sequence[StreamState]:
        if self.away:
            raise MachineError("no media worker has it")
        return [StreamState(0, Track.INBOUND, "PCMU")]


async def test_live_calls_are_the_accounts_newest_first_with_their_recordings(
    house: House,
) -> None:
    watch = Watch()
    live = LiveService(house.context, watch)
    over, first, second = [await house.a_call() for _ in range(3)]
    await house.calls.ended(over.id, CallStatus.COMPLETED, reason="BYE")
    started, _ = await house.recordings.start(house.account, first.id, RecordingRequest())
    found = await live.calls(house.account)
    assert [one.call.id for one in found] == [second.id, first.id]
    assert [one.recording and one.recording.id for one in found] == [None, started.id]
    assert await live.calls(await a_stranger(house)) == []
    assert [len(one) for one in await live.streams(found)] == [1, 1]
    watch.away = True
    assert [len(one) for one in await live.streams(found)] == [0, 0]


async def test_a_session_opens_what_it_was_begun_for_and_ends_with_its_token(
    house: House,
) -> None:
    accounts = AccountService(house.context)
    service = SignInService(house.context, accounts, idle_s=1e6)
    account = house.account
    sid = account.id
    assert await service.sign_in(sid, "wrong", source="192.0.2.1") is None
    secret = await service.sign_in(sid, account.auth_token, source="192.0.2.1")
    assert secret is not None
    found = await service.find(secret)
    assert found is not None
    assert found.account == account
    assert not found.is_own_form("")
    assert found.is_own_form(found.session.form_token)
    assert await service.find("another") is None
    await accounts.rotate_token(account)
    assert await service.find(secret) is None


async def test_a_session_of_a_key_outlives_the_token_and_not_the_key(house: House) -> None:
    accounts = AccountService(house.context)
    service = SignInService(house.context, accounts, idle_s=1e6)
    key, password = await accounts.create_key(house.account)
    secret = await service.sign_in(f"SK{key.id}", password, source="192.0.2.1")
    assert secret is not None
    await accounts.rotate_token(house.account)
    assert await service.find(secret) is not None
    await accounts.delete_key(f"SK{key.id}")
    assert await service.find(secret) is None
