"""The recordings that a document has asked for, by the names that its interpreter gave them."""

from __future__ import annotations

from callreel.base.errors import CallreelError
from callreel.calls.model import Account, Recording
from callreel.calls.spelling import Kind, spell
from callreel.cxml.actions import StartRecording
from callreel.cxml.events import Event, RecordingFailed, RecordingStarted, RecordingStopped
from callreel.service.callbacks import recording_url
from callreel.service.errors import NotInProgress
from callreel.service.voice.means import Means


class Kept:
    """Of one call. ``ids``: what an earlier control process had begun."""

    def __init__(
        self, means: Means, account: Account, call_id: str, ids: dict[str, str] | None = None
    ) -> None:
        self._means = means
        self._account = account
        self._call_id = call_id
        self.ids = dict(ids or {})
        """Recordings by the interpreter's key."""

    async def start(self, wanted: StartRecording) -> Event:
        """Keep audio from now on."""
        try:
            recording, _ = await self._means.recordings.start(
                self._account, self._call_id, wanted.request, source=wanted.source
            )
        except CallreelError as error:
            return RecordingFailed(wanted.key, str(error))
        self.ids[wanted.key] = recording.id
        return RecordingStarted(
            wanted.key,
            spell(Kind.RECORDING, recording.id, self._account.dialect),
            recording_url(self._account, recording, self._means.context.public_url),
        )

    async def stop(self, key: str) -> Event | None:
        """Keep no more. One that is over, as the call is, says how long it was all the same."""
        recording_id = self.ids.get(key)
        if recording_id is None:
            return None
        try:
            recording = await self._means.recordings.get(self._account, recording_id)
            if recording.is_live:
                recording = await self._means.recordings.stop(recording)
        except NotInProgress:
            recording = await self._means.recordings.get(self._account, recording_id)
        except CallreelError:
            return RecordingStopped(key, 0, empty=True)
        return RecordingStopped(key, _length_s(recording))


def _length_s(recording: Recording) -> int:
    if recording.start_time is None or recording.end_time is None:
        return 0
    return max(0, round((recording.end_time - recording.start_time).total_seconds()))
