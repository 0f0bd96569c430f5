"""Add how an upload was read, what looks wrong with it, its own test images and the hash of its file."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("held_out", sa.JSON(), nullable=True))
    op.add_column("datasets", sa.Column("conversions", sa.JSON(), nullable=True))
    op.add_column("datasets", sa.Column("warnings", sa.JSON(), nullable=True))
    op.add_column("datasets", sa.Column("sent_sha256", sa.String(length=64), nullable=True))
