"""Evidence: jobs that only measure a version, what they measured, what a job took, a model's own criteria."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

RUNNING_CHANGE = "state IN ('running', 'verifying') AND operation <> 'evaluate'"


def upgrade() -> None:
    op.add_column("models", sa.Column("acceptance", sa.JSON(), nullable=True))
    op.drop_index("one_running_job_per_model", table_name="jobs")
    with op.batch_alter_table("jobs", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("evaluated_version", sa.Integer(), nullable=True))
        table.add_column(sa.Column("cost", sa.JSON(), nullable=True))
        for name in ("operation", "output_version"):
            table.drop_constraint(op.f(f"ck_jobs_{name}"), type_="check")
        table.create_check_constraint(
            op.f("ck_jobs_operation"), "operation IN ('learn', 'forget', 'resize', 'evaluate')"
        )
        table.create_check_constraint(
            op.f("ck_jobs_output_version"),
            "(state = 'succeeded' AND operation <> 'evaluate') = (output_version IS NOT NULL)",
        )
        table.create_check_constraint(
            op.f("ck_jobs_evaluated_version"),
            "(operation = 'evaluate') = (evaluated_version IS NOT NULL)",
        )
    op.create_index(
        "one_running_job_per_model",
        "jobs",
        ["model_id"],
        unique=True,
        sqlite_where=sa.text(RUNNING_CHANGE),
        postgresql_where=sa.text(RUNNING_CHANGE),
    )
    op.create_table(
        "reports",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("level IN ('quick', 'full')", name=op.f("ck_reports_level")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_reports_job_id")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_reports_model_id")),
        sa.ForeignKeyConstraint(
            ["model_id", "version"],
            ["versions.model_id", "versions.number"],
            name=op.f("fk_reports_model_id_version"),
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_reports")),
    )
    op.create_index("ix_reports_model_id_version", "reports", ["model_id", "version"])
