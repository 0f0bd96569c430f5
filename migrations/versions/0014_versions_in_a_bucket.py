"""Add why old versions of deleted images are left in a bucket."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0012"


def upgrade() -> None:
    op.add_column("dataset_deletions", sa.Column("remains", sa.Text(), nullable=True))
