"""Receipts of what was forgotten, and purges of what held it. Forgets before this step get receipts too."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("versions") as table:
        table.add_column(sa.Column("purged_by", sa.String(length=40), nullable=True))
        table.create_foreign_key(op.f("fk_versions_purged_by"), "jobs", ["purged_by"], ["id"])
    op.create_table(
        "purges",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("keys", sa.JSON(), nullable=False),
        sa.Column("kept", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('asked', 'pending', 'done')", name=op.f("ck_purges_state")),
        sa.CheckConstraint("reason IN ('asked', 'retention')", name=op.f("ck_purges_reason")),
        sa.CheckConstraint(
            "(state = 'done') = (finished_at IS NOT NULL)", name=op.f("ck_purges_finished_at")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_purges_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_purges")),
    )
    op.create_index("ix_purges_state", "purges", ["state"])
    op.create_table(
        "receipts",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("envelope", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_receipts_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_receipts")),
    )
    unsigned = sa.text("envelope IS NULL")
    op.create_index(
        "ix_receipts_unsigned", "receipts", ["job_id"], sqlite_where=unsigned, postgresql_where=unsigned
    )
    op.execute(
        "INSERT INTO receipts (job_id) SELECT id FROM jobs WHERE operation = 'forget' AND state = 'succeeded'"
    )
