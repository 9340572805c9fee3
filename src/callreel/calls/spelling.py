"""How ids, times and sources are written for each vendor's clients (contract §§1, 6, 8)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum

from callreel.calls.model import Account, ApiKey, Dialect, RecordingSource

API_VERSION = "2010-04-01"


class Kind(Enum):
    """What an id names; its prefix in the Twilio dialect."""

    ACCOUNT = "AC"
    CALL = "CA"
    RECORDING = "RE"
    CONFERENCE = "CF"
    KEY = "SK"


_SOURCES = {
    RecordingSource.START_CALL_RECORDING_API: ("StartCallRecordingApi", "StartCallRecordingAPI"),
    RecordingSource.OUTBOUND_API: ("OutBoundApi", "OutboundAPI"),
    RecordingSource.TRUNKING: ("Trunking", "Trunking"),
    RecordingSource.DIAL_VERB: ("DialVerb", "DialVerb"),
    RecordingSource.RECORD_VERB: ("RecordVerb", "RecordVerb"),
    # SignalWire has no name for it; Twilio's is the one that clients may know.
    RecordingSource.START_CALL_RECORDING_DOCUMENT: (
        "StartCallRecordingTwiML",
        "StartCallRecordingTwiML",
    ),
}


def spell(kind: Kind, id_: str, dialect: Dialect) -> str:
    """A SID: ``RE`` + 32 hex for Twilio's clients, a dashed UUID for SignalWire's."""
    if dialect is Dialect.TWILIO:
        return kind.value + id_
    return "-".join((id_[:8], id_[8:12], id_[12:16], id_[16:20], id_[20:]))


def account_sid(account: Account) -> str:
    """The SID of an account in its own dialect."""
    return spell(Kind.ACCOUNT, account.id, account.dialect)


def key_sid(key: ApiKey) -> str:
    """The SID of an API key, the user to sign in as: ``SK`` + 32 hex in both dialects."""
    return Kind.KEY.value + key.id


def source_name(source: RecordingSource, dialect: Dialect) -> str:
    """``source`` in the vendor's capitals."""
    return _SOURCES[source][dialect is Dialect.TWILIO]


def rfc2822(moment: datetime) -> str:
    """``Tue, 25 Sep 2018 23:00:00 +0000``: always UTC, always a two-digit day."""
    return format_datetime(moment.astimezone(UTC))


def api_path(account: Account) -> str:
    """The path under which an account's resources lie, in the prefix that its vendor uses."""
    prefix = "" if account.dialect is Dialect.TWILIO else "/api/laml"
    return f"{prefix}/{API_VERSION}/Accounts/{account_sid(account)}"
