"""Indexes for databases of a million jobs: bytes and pages of an owner, deleted jobs, old charges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("dubs_by_bytes", "dubs", ["owner", "deleted_s", "stored_bytes"])
    op.create_index("dubs_by_page", "dubs", ["owner", "state", "id"])
    # Only of deleted ones: else SQLite would take it to find those that are not, which are nearly all.
    deleted = sa.text("deleted_s IS NOT NULL")
    op.create_index("dubs_by_deletion", "dubs", ["deleted_s"], sqlite_where=deleted, postgresql_where=deleted)
    op.create_index("charges_by_time", "charges", ["charged_s"])


def downgrade() -> None:
    op.drop_index("charges_by_time", "charges")
    for name in ("dubs_by_deletion", "dubs_by_page", "dubs_by_bytes"):
        op.drop_index(name, "dubs")
