"""Labels may go by another name than their dataset's: which, on the label and on the job that asks for it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("labels", sa.Column("renamed_from", sa.String(length=200), nullable=True))
    op.add_column("jobs", sa.Column("renamed", sa.JSON(), nullable=True))
