"""How many gaps a finished recording has, so that those that have some can be listed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Apply. It is null for what was finished before."""
    op.add_column("recordings", sa.Column("gap_count", sa.Integer(), nullable=True))
    some = sa.text("gap_count > 0")
    op.create_index(
        "recordings_with_gaps",
        "recordings",
        ["account_id", "created_at", "id"],
        sqlite_where=some,
        postgresql_where=some,
    )
