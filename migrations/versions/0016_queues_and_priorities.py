"""Add the queue and the priority of jobs, the queues of workers, and that a worker is to end."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    # Not with batch_alter_table, which rebuilds the table on SQLite and so loses AUTOINCREMENT and triggers.
    for table in ("models", "jobs"):
        queue = sa.Column("queue", sa.String(length=32), server_default=sa.text("'default'"), nullable=False)
        op.add_column(table, queue)
    op.execute(
        "ALTER TABLE jobs ADD COLUMN priority INTEGER DEFAULT 0 NOT NULL "
        "CONSTRAINT ck_jobs_priority CHECK (priority BETWEEN -10 AND 10)"
    )
    op.add_column("workers", sa.Column("queues", sa.JSON(none_as_null=True), nullable=True))
    op.execute(
        "ALTER TABLE workers ADD COLUMN drain VARCHAR(16) "
        "CONSTRAINT ck_workers_drain CHECK (drain IN ('finish', 'hand_back'))"
    )
