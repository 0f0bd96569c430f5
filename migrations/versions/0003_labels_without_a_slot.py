"""A temporary label has a network of its own, and so no slot in the main one."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.batch_alter_table("labels") as table:
        table.alter_column("slot", existing_type=sa.Integer(), nullable=True)
