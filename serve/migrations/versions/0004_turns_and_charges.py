"""Sources that are fetched before a job runs, turns between owners, a ledger of charges, and stored bytes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Columns are added in place. Alembic's batches would make the table anew, and in SQLite that deletes, by foreign keys,
# the events and languages of every job.


def upgrade() -> None:
    op.add_column("dubs", sa.Column("is_fetched", sa.Boolean(), nullable=False, server_default=sa.true()))
    op.add_column("dubs", sa.Column("claimed_s", sa.Double(), nullable=False, server_default="0"))
    op.add_column("dubs", sa.Column("num_spoken", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("dubs", sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE dubs SET is_fetched = false WHERE source_url IS NOT NULL AND state IN ('queued', 'running')")
    op.add_column("deliveries", sa.Column("owner", sa.String(length=80), nullable=False, server_default=""))
    op.execute("UPDATE deliveries SET owner = COALESCE((SELECT owner FROM dubs WHERE dubs.id = deliveries.dub_id), '')")
    op.create_index("dubs_by_claim", "dubs", ["owner", "claimed_s"])
    op.create_table(
        "charges",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("dub_id", sa.String(length=40), nullable=False),
        sa.Column("media_s", sa.Double(), nullable=False),
        sa.Column("charged_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("charges_by_owner", "charges", ["owner", "charged_s"])
    op.execute(
        "INSERT INTO charges (id, owner, dub_id, media_s, charged_s) "
        "SELECT id, owner, id, charged_s, created_s FROM dubs WHERE charged_s > 0"
    )


def downgrade() -> None:
    op.drop_table("charges")
    op.drop_index("dubs_by_claim", "dubs")
    op.drop_column("deliveries", "owner")
    for name in ("is_fetched", "claimed_s", "num_spoken", "stored_bytes"):
        op.drop_column("dubs", name)
