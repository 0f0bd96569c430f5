"""Aliases of versions with their history, what clients write about models and versions,
and the deletion of versions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    _create_aliases()
    for table in ("models", "versions"):  # not with batch_alter_table, which rebuilds the table on SQLite
        op.add_column(table, sa.Column("description", sa.Text(), nullable=True))
        op.add_column(table, sa.Column("metadata", sa.JSON(), nullable=True))
    op.add_column("versions", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    _create_version_deletions()


def _create_aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_aliases_revision")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_aliases_model_id")),
        sa.ForeignKeyConstraint(
            ["model_id", "version"],
            ["versions.model_id", "versions.number"],
            name=op.f("fk_aliases_model_id_version"),
        ),
        sa.PrimaryKeyConstraint("model_id", "name", name=op.f("pk_aliases")),
    )
    op.create_table(
        "alias_changes",
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("alias", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("from_version", sa.Integer(), nullable=True),
        sa.Column("to_version", sa.Integer(), nullable=True),
        sa.Column("restored", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("created_by", sa.String(length=40), nullable=True),
        sa.Column("request_id", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("action IN ('set', 'rollback', 'delete')", name=op.f("ck_alias_changes_action")),
        sa.CheckConstraint(
            "(action = 'delete') = (to_version IS NULL)", name=op.f("ck_alias_changes_to_version")
        ),
        sa.CheckConstraint(
            "(action = 'rollback') = (restored IS NOT NULL)", name=op.f("ck_alias_changes_restored")
        ),
        sa.CheckConstraint("number >= 1", name=op.f("ck_alias_changes_number")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_alias_changes_model_id")),
        sa.PrimaryKeyConstraint("model_id", "alias", "number", name=op.f("pk_alias_changes")),
    )


def _create_version_deletions() -> None:
    op.create_table(
        "version_deletions",
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("keys", sa.JSON(), nullable=False),
        sa.Column("kept", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=40), nullable=True),
        sa.Column("request_id", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('pending', 'done')", name=op.f("ck_version_deletions_state")),
        sa.CheckConstraint(
            "(state = 'done') = (finished_at IS NOT NULL)", name=op.f("ck_version_deletions_finished_at")
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_version_deletions_model_id")),
        sa.ForeignKeyConstraint(
            ["model_id", "number"],
            ["versions.model_id", "versions.number"],
            name=op.f("fk_version_deletions_model_id_number"),
        ),
        sa.PrimaryKeyConstraint("model_id", "number", name=op.f("pk_version_deletions")),
    )
    op.create_index("ix_version_deletions_state", "version_deletions", ["state"])
    not_logged = sa.text("logged_at IS NULL")
    op.create_index(
        "ix_version_deletions_not_logged",
        "version_deletions",
        ["model_id"],
        sqlite_where=not_logged,
        postgresql_where=not_logged,
    )
