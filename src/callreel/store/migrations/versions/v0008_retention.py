"""After how many days recordings are deleted, by account and by recording."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Apply."""
    op.add_column("accounts", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.add_column("recordings", sa.Column("retention_days", sa.Integer(), nullable=True))
