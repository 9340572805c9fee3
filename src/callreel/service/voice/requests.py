"""What a program is told when it is asked for a document (contract §12; the vendors' names)."""

from __future__ import annotations

from collections.abc import Sequence

from callreel.calls.model import Account, Call
from callreel.calls.spelling import API_VERSION, Kind, account_sid, spell
from callreel.service.voice.means import Means


async def request_fields(
    means: Means, account: Account, call_id: str, more: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The usual fields as the call stands now, then ``more``, which wins over them."""
    call = await means.rows.get(call_id)
    usual = {} if call is None else call_fields(account, call)
    return list((usual | dict(more)).items())


def call_fields(account: Account, call: Call) -> dict[str, str]:
    """The usual ones. Pure."""
    fields = {
        "CallSid": spell(Kind.CALL, call.id, account.dialect),
        "AccountSid": account_sid(account),
        "ApiVersion": API_VERSION,
        "CallStatus": call.status.value,
        "Direction": call.direction.value,
        "From": call.from_,
        "To": call.to,
        "Caller": call.from_,
        "Called": call.to,
    }
    if call.caller_name:
        fields["CallerName"] = call.caller_name
    if call.parent_call_id is not None:
        fields["ParentCallSid"] = spell(Kind.CALL, call.parent_call_id, account.dialect)
    return fields
