"""What a call's webhook says (contract §12.2), and owing it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from callreel.calls.model import Account, Call, CallEvent, CallStatus, Recording, RecordingSource
from callreel.calls.spelling import API_VERSION, Kind, account_sid, rfc2822, spell
from callreel.service.callbacks import recording_url
from callreel.service.context import Context
from callreel.store import accounts, call_callbacks, deliveries, recordings
from callreel.store.deliveries import OwedDelivery

SOURCE = "call-progress-events"


def call_fields(
    account: Account,
    call: Call,
    event: CallEvent,
    *,
    number: int,
    now: datetime,
    public_url: str,
    recording: Recording | None = None,
) -> dict[str, str]:
    """The fields of a call's webhook. Pure.

    ``number`` counts the call's webhooks from 0. ``recording``: the one that was asked for when the
    call was made; it is told of at the end, and need not be rendered by then.
    """
    fields = {
        "AccountSid": account_sid(account),
        "ApiVersion": API_VERSION,
        "CallSid": spell(Kind.CALL, call.id, account.dialect),
        "CallStatus": _status(call, event),
        "CallbackSource": SOURCE,
        "Direction": call.direction.value,
        "From": call.from_,
        "To": call.to,
        "SequenceNumber": str(number),
        "Timestamp": rfc2822(now),
    }
    if call.parent_call_id is not None:
        fields["ParentCallSid"] = spell(Kind.CALL, call.parent_call_id, account.dialect)
    if call.caller_name:
        fields["CallerName"] = call.caller_name
    if event is not CallEvent.COMPLETED:
        return fields
    fields["CallDuration"] = str(call.duration_s)
    if call.sip_result_code is not None:
        # SignalWire's name, and Twilio's.
        fields["SipResultCode"] = fields["SipResponseCode"] = str(call.sip_result_code)
    if recording is not None:
        fields["RecordingSid"] = spell(Kind.RECORDING, recording.id, account.dialect)
        fields["RecordingUrl"] = recording_url(account, recording, public_url)
        fields["RecordingDuration"] = str(_recorded_s(recording))
    return fields


async def owe(
    context: Context, connection: AsyncConnection, call: Call, event: CallEvent, *, now: datetime
) -> bool:
    """Owe the webhook of an event from the end of this transaction on; False: nobody asked for it.

    The caller tells ``context.delivery_owed`` then. Events arrive in order: each follows the one
    that was owed before it.
    """
    seal = context.database.seal
    kept = await call_callbacks.get(connection, seal, call.id)
    if kept is None or event not in kept.callback.events:
        return False
    account = await accounts.get(connection, seal, call.account_id)
    if account is None:
        return False
    asked = [
        one
        for one in await recordings.of_call(connection, seal, call.id)
        if one.source is RecordingSource.OUTBOUND_API
    ]
    fields = call_fields(
        account,
        call,
        event,
        number=kept.owed,
        now=now,
        public_url=context.public_url,
        recording=asked[-1] if asked else None,
    )
    delivery = OwedDelivery(
        id=context.ids.new_id(),
        account_id=account.id,
        event=event.value,
        url=kept.callback.url,
        method=kept.callback.method,
        fields=fields,
        created_at=now,
        call_id=call.id,
        after=kept.last_delivery_id,
    )
    await deliveries.add(connection, seal, delivery)
    await call_callbacks.count(connection, call.id, delivery.id)
    return True


def _status(call: Call, event: CallEvent) -> str:
    """``initiated`` is never a call's own status; the rest is what its row says by now."""
    if event is CallEvent.ANSWERED:
        return CallStatus.IN_PROGRESS.value
    return call.status.value if event is CallEvent.COMPLETED else event.value


def _recorded_s(recording: Recording) -> int:
    """Whole seconds kept; from start to stop where the file is not made yet."""
    if recording.duration_ms is not None:
        return recording.duration_s
    if recording.start_time is None or recording.end_time is None:
        return 0
    return max(0, round((recording.end_time - recording.start_time).total_seconds()))
