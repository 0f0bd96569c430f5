"""Add exports, with their shards, and the jobs that draw them."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

IS_TO_CLEAR = "cleared_at IS NULL AND (deleted_at IS NOT NULL OR state IN ('failed', 'cancelled', 'revoked'))"
RUNNING_CHANGE = "state IN ('running', 'verifying') AND operation NOT IN ('evaluate', 'export')"
CHECKS = {
    "operation": (
        "operation IN ('learn', 'forget', 'resize', 'evaluate')",
        "operation IN ('learn', 'forget', 'resize', 'evaluate', 'export')",
    ),
    "output_version": (
        "(state = 'succeeded' AND operation <> 'evaluate') = (output_version IS NOT NULL)",
        "(state = 'succeeded' AND operation NOT IN ('evaluate', 'export')) = (output_version IS NOT NULL)",
    ),
}
"""{constraint of the table jobs: (its condition before, and after)}."""


def upgrade() -> None:
    _create_exports()
    op.add_column("jobs", sa.Column("export_id", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("part", sa.Integer(), nullable=True))
    has_export = sa.text("export_id IS NOT NULL")
    op.create_index(
        "one_job_per_part",
        "jobs",
        ["export_id", "part"],
        unique=True,
        sqlite_where=has_export,
        postgresql_where=has_export,
    )
    op.drop_index("one_running_job_per_model", "jobs")
    running = sa.text(RUNNING_CHANGE)
    op.create_index(
        "one_running_job_per_model",
        "jobs",
        ["model_id"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )
    if op.get_bind().dialect.name == "sqlite":
        _change_checks_on_sqlite()
    else:
        for name, (_, condition) in CHECKS.items():
            op.drop_constraint(op.f(f"ck_jobs_{name}"), "jobs", type_="check")
            op.create_check_constraint(op.f(f"ck_jobs_{name}"), "jobs", condition)
        op.create_check_constraint(
            op.f("ck_jobs_export_id"), "jobs", "(operation = 'export') = (export_id IS NOT NULL)"
        )


def _create_exports() -> None:
    op.create_table(
        "exports",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("shard_images", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("next_part", sa.Integer(), nullable=False),
        sa.Column("images_done", sa.BigInteger(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=True),
        sa.Column("manifest_bytes", sa.Integer(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("removed", sa.JSON(), nullable=True),
        sa.Column("created_by", sa.String(length=40), nullable=True),
        sa.Column("request_id", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("audited_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cleared_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'revoked')",
            name=op.f("ck_exports_state"),
        ),
        sa.CheckConstraint("format IN ('npz', 'webdataset')", name=op.f("ck_exports_format")),
        sa.CheckConstraint(
            "(state IN ('queued', 'running')) = (finished_at IS NULL)", name=op.f("ck_exports_finished_at")
        ),
        sa.CheckConstraint("count >= 1 AND shard_images >= 1", name=op.f("ck_exports_count")),
        sa.CheckConstraint("(manifest IS NULL) = (manifest_bytes IS NULL)", name=op.f("ck_exports_manifest")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_exports_model_id")),
        sa.ForeignKeyConstraint(
            ["model_id", "version"],
            ["versions.model_id", "versions.number"],
            name=op.f("fk_exports_model_id_version"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_index("ix_exports_model_id", "exports", ["model_id"])
    for name, columns, where in (
        ("ix_exports_unfinished", ["model_id", "id"], "finished_at IS NULL"),
        ("ix_exports_to_clear", ["id"], IS_TO_CLEAR),
        ("ix_exports_not_audited", ["id"], "finished_at IS NOT NULL AND audited_at IS NULL"),
    ):
        op.create_index(
            name, "exports", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
    op.create_table(
        "export_shards",
        sa.Column("export_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("rendering", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("number >= 0 AND images >= 1", name=op.f("ck_export_shards_number")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_export_shards_export_id")),
        sa.PrimaryKeyConstraint("export_id", "number", name=op.f("pk_export_shards")),
    )


def _change_checks_on_sqlite() -> None:
    """Change the conditions where SQLite keeps them, as its documentation of ALTER TABLE describes.

    batch_alter_table would rebuild the table, and so lose AUTOINCREMENT and triggers. The rows need not be
    read: each fits the new conditions, because it fits the old ones.
    """
    connection = op.get_bind()
    statement = connection.scalar(sa.text("SELECT sql FROM sqlite_schema WHERE name = 'jobs'"))
    for before, after in CHECKS.values():
        if before not in statement:
            raise RuntimeError(f"the table jobs has no constraint with the condition {before}")
        statement = statement.replace(before, after)
    added = "CONSTRAINT ck_jobs_export_id CHECK ((operation = 'export') = (export_id IS NOT NULL))"
    statement = f"{statement.rstrip().removesuffix(')').rstrip()}, {added})"
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    connection.execute(
        sa.text("UPDATE sqlite_schema SET sql = :sql WHERE type = 'table' AND name = 'jobs'"),
        {"sql": statement},
    )
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
