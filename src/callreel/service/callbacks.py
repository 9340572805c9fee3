"""What a recording's webhook says (contract §12.1)."""

from __future__ import annotations

from datetime import datetime

from callreel.calls.model import Account, CallbackEvent, Recording
from callreel.calls.spelling import (
    Kind,
    account_sid,
    api_path,
    rfc2822,
    source_name,
    spell,
)
from callreel.store.deliveries import OwedDelivery


def recording_url(account: Account, recording: Recording, public_url: str) -> str:
    """Where the media is: absolute, without an extension."""
    sid = spell(Kind.RECORDING, recording.id, account.dialect)
    return f"{public_url}{api_path(account)}/Recordings/{sid}"


def owed(
    account: Account,
    recording: Recording,
    event: CallbackEvent,
    *,
    delivery_id: str,
    public_url: str,
    now: datetime,
    after: str | None = None,
) -> OwedDelivery | None:
    """The webhook owed for an event, or None if nobody asked for it."""
    callback = recording.request.callback
    if callback is None or event not in callback.events:
        return None
    fields = {
        "AccountSid": account_sid(account),
        "CallSid": spell(Kind.CALL, recording.call_id, account.dialect),
        "RecordingSid": spell(Kind.RECORDING, recording.id, account.dialect),
        "RecordingUrl": recording_url(account, recording, public_url),
        "RecordingStatus": event.value,
        "RecordingDuration": str(recording.duration_s),
        "RecordingChannels": str(recording.request.channel_count),
        "RecordingSource": source_name(recording.source, account.dialect),
        "RecordingTrack": recording.request.track.value,
        "ErrorCode": str(recording.error_code or 0),
    }
    if recording.start_time is not None:
        fields["RecordingStartTime"] = rfc2822(recording.start_time)
    return OwedDelivery(
        id=delivery_id,
        account_id=account.id,
        event=event.value,
        url=callback.url,
        method=callback.method,
        fields=fields,
        created_at=now,
        recording_id=recording.id,
        call_id=recording.call_id,
        after=after,
    )
