"""Every recording held against its row and its report; files that nobody knows of."""

from __future__ import annotations

from pathlib import Path

from callreel.calls.model import Recording
from callreel.service.verification import Finding, Progress, Trouble, Verification
from callreel.store import recordings
from tests.service.conftest import House


async def look(house: House, *, hashes: bool = True) -> tuple[list[Finding], Progress]:
    findings, progress = [], Progress()
    async for one in Verification(house.context, house.renderer, house.store).run(hashes=hashes):
        if isinstance(one, Progress):
            progress = one
        else:
            findings.append(one)
    return findings, progress


def file_of(house: House, recording: Recording, extension: str) -> Path:
    assert recording.media_key is not None
    path = house.store.local_path(f"{recording.media_key}.{extension}")
    assert path is not None
    return path


async def test_what_is_as_it_should_be(house: House) -> None:
    for _ in range(3):
        await house.a_finished_recording()
    findings, progress = await look(house)
    assert findings == []
    assert (progress.recordings, progress.of) == (3, 3)
    assert progress.bytes_read > 0
    _, quick = await look(house, hashes=False)
    assert quick.bytes_read == 0


async def test_each_kind_of_damage_is_found(house: House) -> None:
    some = [await house.a_finished_recording() for _ in range(5)]
    changed, cut, gone, reportless, _ = some
    wav = file_of(house, changed, "wav")
    wav.write_bytes(bytes(len(wav.read_bytes())))
    file_of(house, cut, "wav").write_bytes(b"RI")
    file_of(house, gone, "wav").unlink()
    file_of(house, reportless, "json").unlink()
    findings, progress = await look(house)
    assert {one.about: one.trouble for one in findings} == {
        changed.id: Trouble.CHANGED,
        cut.id: Trouble.CHANGED,
        gone.id: Trouble.MISSING_AUDIO,
        reportless.id: Trouble.MISSING_REPORT,
    }
    assert sum(progress.findings.values()) == 4
    quick, _ = await look(house, hashes=False)
    assert changed.id not in {one.about for one in quick}  # its size is right


async def test_files_that_nobody_knows_of_are_told_and_left(house: House) -> None:
    lost = await house.a_finished_recording()
    async with house.context.database.begin() as connection:
        await recordings.remove(connection, lost.id)
    house.renderer.left = ["a" * 32]
    findings, _ = await look(house)
    assert {(one.trouble, one.about) for one in findings} == {
        (Trouble.ORPHAN_JOURNAL, "a" * 32),
        (Trouble.ORPHAN_MEDIA, f"{lost.media_key}.wav"),
        (Trouble.ORPHAN_MEDIA, f"{lost.media_key}.json"),
    }
    assert not any(one.mended for one in findings)
    assert file_of(house, lost, "wav").exists()


async def test_a_journal_of_what_is_finished_is_deleted(house: House) -> None:
    done = await house.a_finished_recording()
    house.renderer.left = [done.id]
    house.renderer.discarded.clear()
    (finding,), _ = await look(house)
    assert (finding.trouble, finding.mended) == (Trouble.LEFT_JOURNAL, True)
    assert house.renderer.discarded == [done.id]
