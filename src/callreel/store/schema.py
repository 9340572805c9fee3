"""The tables, once, for SQLite and PostgreSQL. Migrations under ``migrations`` make them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC as microseconds since 1970: exact, ordered, the same on both engines."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuses a datetime without a zone: nobody could say when it was."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a stored time needs a zone: {value!r}")
        return (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """Always UTC."""
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = MetaData()

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("dialect", String(16), nullable=False),
    Column("auth_token", LargeBinary, nullable=False),  # sealed with the server's key
    Column("signing_key", LargeBinary, nullable=True),  # sealed; null: the token signs
    Column("created_at", UtcTime, nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    Column("token_rotated_at", UtcTime, nullable=True),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("secret_hash", String(64), nullable=False),  # SHA-256, hex
    Column("created_at", UtcTime, nullable=False),
    Index("api_keys_of_account", "account_id", "created_at", "id"),
)

calls = Table(
    "calls",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=False),
    Column("status", String(16), nullable=False),
    Column("direction", String(16), nullable=False),
    Column("from_", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("start_time", UtcTime),
    Column("end_time", UtcTime),
    Column("caller_name", Text),
    Column("peer", Text),
    Column("sip_call_id", Text),
    Column("sip_result_code", Integer),
    Column("parent_call_id", String(32)),
    Column("participants", Text, nullable=False),
    Column("end_reason", Text),
    Index("calls_newest", "account_id", "created_at", "id"),
    Index("calls_status", "status"),
)

call_metadata = Table(
    "call_metadata",
    metadata,
    Column("call_id", String(32), ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("received_at", UtcTime, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

call_callbacks = Table(
    "call_callbacks",  # who wants to be told what becomes of a call
    metadata,
    Column("call_id", String(32), ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("url", LargeBinary, nullable=False),  # sealed: it may carry a password
    Column("method", String(8), nullable=False),
    Column("events", Text, nullable=False),
    Column("owed", Integer, nullable=False),  # events told of so far
    Column("last_delivery_id", String(32)),  # what the next one follows
)

call_events = Table(
    "call_events",  # the story of a call
    metadata,
    Column("call_id", String(32), ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("details", Text, nullable=False),  # JSON
)

sessions = Table(
    "sessions",
    metadata,
    Column("call_id", String(32), ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("state", Text, nullable=False),  # signalling's own, JSON, sealed
)

registrations = Table(
    "registrations",
    metadata,
    Column("user_name", Text, primary_key=True),
    Column("state", Text, nullable=False),  # signalling's own, JSON
)

recordings = Table(
    "recordings",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=False),
    # No foreign key: a call's row may be deleted while its recordings stay.
    Column("call_id", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("source", String(40), nullable=False),
    Column("channels", String(8), nullable=False),
    Column("track", String(8), nullable=False),
    Column("trim", String(16), nullable=False),
    Column("callback_url", LargeBinary),  # sealed: it may carry a password
    Column("callback_method", String(8)),
    Column("callback_events", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("start_time", UtcTime),
    Column("end_time", UtcTime),
    Column("pause_behavior", String(8)),
    Column("duration_ms", BigInteger),
    Column("size_bytes", BigInteger),
    Column("error_code", Integer),
    Column("media_key", Text),
    Column("sha256", String(64)),
    Index("recordings_newest", "account_id", "created_at", "id"),
    Index("recordings_of_call", "call_id", "created_at"),
    Index("recordings_status", "status"),
)

removals = Table(
    "removals",  # recordings whose row is deleted, and whose files are not known to be gone yet
    metadata,
    Column("recording_id", String(32), primary_key=True),
    Column("account_id", String(32), nullable=False),
    Column("media_key", Text),
    Column("created_at", UtcTime, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account_id", String(32), ForeignKey("accounts.id"), nullable=False),
    Column("recording_id", String(32)),
    Column("call_id", String(32)),
    Column("event", String(32), nullable=False),
    Column("url", LargeBinary, nullable=False),  # sealed: it may carry a password
    Column("method", String(8), nullable=False),
    Column("fields", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("next_at", UtcTime),
    Column("after", String(32)),
    Index("deliveries_due", "state", "next_at"),
    Index("deliveries_of_recording", "recording_id"),
    Index("deliveries_of_call", "call_id"),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column(
        "delivery_id", String(32), ForeignKey("deliveries.id", ondelete="CASCADE"), primary_key=True
    ),
    Column("number", Integer, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("outcome", String(24), nullable=False),
    Column("status", Integer),
    Column("elapsed_ms", Integer, nullable=False),
    Column("answer", LargeBinary),
    Column("error", Text),
)
