"""Recordings and calls as JSON objects, in the types of each dialect (contract §§6, 10.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from callreel.calls.model import Account, Call, CallDirection, Dialect, Recording
from callreel.calls.spelling import (
    API_VERSION,
    Kind,
    account_sid,
    rfc2822,
    source_name,
    spell,
)
from callreel.calls.states import is_ended


@dataclass(frozen=True, slots=True)
class View:
    """Whose eyes a resource is shown to."""

    account: Account
    """Decides the dialect."""
    prefix: str
    """``/api/laml`` or empty, as the request came by."""
    public_url: str
    """For the absolute URLs among the fields."""

    @property
    def twilio(self) -> bool:
        """Whether the account answers as Twilio does."""
        return self.account.dialect is Dialect.TWILIO

    @property
    def account_path(self) -> str:
        """The path of the account, relative to the host."""
        return f"{self.prefix}/{API_VERSION}/Accounts/{account_sid(self.account)}"

    def sid(self, kind: Kind, id_: str) -> str:
        """A SID in the account's spelling."""
        return spell(kind, id_, self.account.dialect)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else rfc2822(moment)


def recording_object(view: View, recording: Recording, *, under_call: bool) -> dict[str, Any]:
    """A recording; ``under_call`` where it is shown below its call (contract §§4.3, 6)."""
    sid = view.sid(Kind.RECORDING, recording.id)
    call_sid = view.sid(Kind.CALL, recording.call_id)
    channels = recording.request.channel_count
    common: dict[str, Any] = {
        "sid": sid,
        "account_sid": account_sid(view.account),
        "api_version": API_VERSION,
        "call_sid": call_sid,
        "conference_sid": None,
        "date_created": rfc2822(recording.created_at),
        "date_updated": rfc2822(recording.updated_at),
        "start_time": _time(recording.start_time),
        "price": None,
        "price_unit": "USD",
        "source": source_name(recording.source, view.account.dialect),
        "status": recording.status.value,
        "encryption_details": None,
    }
    path = f"{view.account_path}/Recordings/{sid}"
    if not view.twilio:
        return common | {
            "channel": str(channels),
            "channels": str(channels),
            "end_time": _time(recording.end_time),
            "duration": recording.duration_s,
            "error_code": None if recording.error_code is None else str(recording.error_code),
            "uri": f"{path}.json",
            "subresource_uris": {"transcriptions": f"{path}/Transcriptions.json"},
            "trim": recording.request.trim.value,
        }
    twilio = common | {
        "channels": channels,
        "duration": None if recording.duration_ms is None else str(recording.duration_s),
        "error_code": recording.error_code,
    }
    if under_call:
        return twilio | {
            "uri": f"{view.account_path}/Calls/{call_sid}/Recordings/{sid}.json",
            "track": recording.request.track.value,
        }
    return twilio | {
        "uri": f"{path}.json",
        "subresource_uris": {
            "add_on_results": f"{path}/AddOnResults.json",
            "transcriptions": f"{path}/Transcriptions.json",
        },
        "media_url": f"{view.public_url}{path}",
    }


def call_object(view: View, call: Call) -> dict[str, Any]:
    """A call."""
    sid = view.sid(Kind.CALL, call.id)
    path = f"{view.account_path}/Calls/{sid}"
    parent = call.parent_call_id
    common: dict[str, Any] = {
        "sid": sid,
        "account_sid": account_sid(view.account),
        "api_version": API_VERSION,
        "date_created": rfc2822(call.created_at),
        "date_updated": rfc2822(call.updated_at),
        "parent_call_sid": None if parent is None else view.sid(Kind.CALL, parent),
        "to": call.to,
        "from": call.from_,
        "phone_number_sid": None,
        "status": call.status.value,
        "start_time": _time(call.start_time),
        "end_time": _time(call.end_time),
        "price": None,
        "price_unit": "USD",
        "answered_by": None,
        "forwarded_from": None,
        "caller_name": call.caller_name,
        "group_sid": None,
        "uri": f"{path}.json",
    }
    ended = is_ended(call.status)
    if view.twilio:
        return common | {
            "to_formatted": call.to,
            "from_formatted": call.from_,
            "duration": str(call.duration_s) if ended else None,
            "direction": call.direction.value,
            "queue_time": "0",
            "trunk_sid": None,
            "subresource_uris": {"recordings": f"{path}/Recordings.json"},
        }
    inbound = call.direction is CallDirection.INBOUND
    return common | {
        "formatted_to": call.to,
        "to_formatted": call.to,
        "formatted_from": call.from_,
        "from_formatted": call.from_,
        "duration": call.duration_s,
        "direction": "inbound" if inbound else "outbound",
        "subresource_uris": {"notifications": None, "recordings": f"{path}/Recordings.json"},
        "annotation": None,
        "audio_in_mos": None,
        "sip_result_code": None if call.sip_result_code is None else str(call.sip_result_code),
        "audio_rtt_avg": None,
        "audio_rtt_min": None,
        "audio_rtt_max": None,
        "audio_out_jitter_min": None,
        "audio_out_jitter_max": None,
        "audio_out_jitter_avg": None,
        "audio_out_lost": None,
    }
