"""The story of a call, put together from what is kept of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from callreel.calls.model import Account, Call, CallDirection, CallStatus, Recording
from callreel.calls.spelling import Kind, source_name, spell
from callreel.calls.story import StoryKind, StoryLine
from callreel.service.tries import came_of
from callreel.store.deliveries import Attempt, OwedDelivery


def tell(
    account: Account,
    call: Call,
    noted: Sequence[StoryLine],
    recordings: Sequence[Recording],
    owed: Sequence[tuple[OwedDelivery, Sequence[Attempt]]],
) -> list[StoryLine]:
    """Everything in the order of time; at the same time, the call's beginning before the rest."""
    lines = [
        *_begun(call),
        *noted,
        *(line for one in recordings for line in _recording(account, one)),
        *(line for delivery, attempts in owed for line in _webhook(account, delivery, attempts)),
        *_over(call),
    ]
    return sorted(lines, key=lambda line: line.at)  # stable: what was written first stays first


def public_url_of(url: str) -> str:
    """A URL for people: without its userinfo, query and fragment, which may hold secrets.

    >>> public_url_of("https://me:secret@example.com:8443/voice?token=1#rc=2")
    'https://example.com:8443/voice'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _begun(call: Call) -> Iterator[StoryLine]:
    what = "came in" if call.direction is CallDirection.INBOUND else "was made"
    details: Mapping[str, str | int | None] = {
        "from": call.from_,
        "to": call.to,
        "direction": call.direction.value,
        "peer": call.peer,
        "sip_call_id": call.sip_call_id,
    }
    whence = f" ({call.peer})" if call.peer else ""
    yield StoryLine(
        call.created_at, StoryKind.CALL, f"{what}: {call.from_} to {call.to}{whence}", details
    )
    if call.start_time is not None:
        yield StoryLine(call.start_time, StoryKind.CALL, "answered", {"status": "in-progress"})


def _over(call: Call) -> Iterator[StoryLine]:
    if call.end_time is None:
        return
    answer = "" if call.sip_result_code is None else f", SIP {call.sip_result_code}"
    reason = f": {call.end_reason}" if call.end_reason else ""
    yield StoryLine(
        call.end_time,
        StoryKind.CALL if call.status is not CallStatus.FAILED else StoryKind.ERROR,
        f"{call.status.value} after {call.duration_s} s{answer}{reason}",
        {
            "status": call.status.value,
            "duration_s": call.duration_s,
            "sip_result_code": call.sip_result_code,
            "reason": call.end_reason,
        },
    )


def _recording(account: Account, one: Recording) -> Iterator[StoryLine]:
    sid = spell(Kind.RECORDING, one.id, account.dialect)
    source = source_name(one.source, account.dialect)
    details: Mapping[str, str | int | None] = {
        "recording_sid": sid,
        "source": source,
        "status": one.status.value,
    }

    def line(at: datetime, text: str, **more: str | int | None) -> StoryLine:
        return StoryLine(at, StoryKind.RECORDING, f"{sid} {text}", {**details, **more})

    yield line(
        one.start_time or one.created_at,
        f"begun ({source}, {one.request.channels.value}, {one.request.track.value})",
    )
    if one.end_time is not None:
        yield line(one.end_time, "stopped")
    if not one.is_live and one.duration_ms is not None:
        code = f", error {one.error_code}" if one.error_code else ""
        yield line(
            one.updated_at,
            f"{one.status.value}: {one.duration_s} s{code}",
            duration_s=one.duration_s,
            error_code=one.error_code,
        )


def _webhook(
    account: Account, delivery: OwedDelivery, attempts: Sequence[Attempt]
) -> Iterator[StoryLine]:
    about = (
        "the call"
        if delivery.recording_id is None
        else spell(Kind.RECORDING, delivery.recording_id, account.dialect)
    )
    where = public_url_of(delivery.url)
    yield StoryLine(
        delivery.created_at,
        StoryKind.WEBHOOK,
        f"{delivery.event} of {about} is owed to {where}",
        {"delivery": delivery.id, "event": delivery.event, "state": delivery.state.value},
    )
    for number, one in enumerate(attempts, 1):
        came = came_of(one.outcome, one.status)
        took = f"{'in' if one.status is not None else 'after'} {one.elapsed_ms} ms"
        error = f": {one.error}" if one.error and one.error != came else ""
        yield StoryLine(
            one.at,
            StoryKind.WEBHOOK,
            f"{delivery.event} of {about}, try {number}: {came} {took}{error}",
            {
                "delivery": delivery.id,
                "event": delivery.event,
                "try": number,
                "outcome": one.outcome,
                "http_status": one.status,
                "elapsed_ms": one.elapsed_ms,
            },
        )
