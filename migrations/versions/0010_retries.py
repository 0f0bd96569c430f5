"""Add which job a job repeats."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # Not with batch_alter_table, which rebuilds the table on SQLite and so loses AUTOINCREMENT.
    op.add_column("jobs", sa.Column("retry_of", sa.String(length=40), nullable=True))
