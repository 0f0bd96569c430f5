"""Projects, API keys, idempotency keys, an audit log, snapshots of running jobs, clients' data on jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

DEFAULT_PROJECT = "prj_default"
NOT_DELETED = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    _create_projects()
    _create_keys()
    _create_sessions()
    _move_models_into_projects()
    _move_datasets_into_projects()
    _add_columns_of_jobs()
    _create_repeated_requests()
    _create_model_deletions()
    _create_deletions_of_images()
    _add_erasure_log_to_receipts()
    _create_snapshots()
    _create_idempotency_keys()
    _create_audit_log()
    _create_store_tables()


def _create_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )
    op.execute(
        "INSERT INTO projects (id, name, created_at) "
        f"VALUES ('{DEFAULT_PROJECT}', 'default', CURRENT_TIMESTAMP)"
    )


def _create_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_api_keys_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )


def _create_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_sessions_key_id")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_sessions_project_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_sessions")),
    )


def _move_models_into_projects() -> None:
    with op.batch_alter_table("models") as table:
        table.add_column(sa.Column("project_id", sa.String(length=40), nullable=True))
        table.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("deletion_logged_at", sa.DateTime(timezone=True), nullable=True))
        table.drop_constraint(op.f("uq_models_name"), type_="unique")
    op.execute(f"UPDATE models SET project_id = '{DEFAULT_PROJECT}'")
    with op.batch_alter_table("models") as table:
        table.alter_column("project_id", existing_type=sa.String(length=40), nullable=False)
        table.create_foreign_key(op.f("fk_models_project_id"), "projects", ["project_id"], ["id"])
    op.create_index(
        "one_model_per_name",
        "models",
        ["project_id", "name"],
        unique=True,
        sqlite_where=NOT_DELETED,
        postgresql_where=NOT_DELETED,
    )


def _move_datasets_into_projects() -> None:
    """Give datasets a primary key of project and name: two projects may use the same name."""
    op.rename_table("datasets", "datasets_0007")
    op.create_table(
        "datasets",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("images", sa.JSON(), nullable=False),
        sa.Column("stored", sa.JSON(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("label_digests", sa.JSON(), nullable=True),
        sa.Column("deleted_labels", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_datasets_project_id")),
    )
    op.execute(
        "INSERT INTO datasets (project_id, name, images, sha256, created_at) "
        f"SELECT '{DEFAULT_PROJECT}', name, images, sha256, created_at FROM datasets_0007"
    )
    op.drop_table("datasets_0007")
    with op.batch_alter_table("datasets") as table:  # only now is the name of the key free
        table.create_primary_key(op.f("pk_datasets"), ["project_id", "name"])


def _add_columns_of_jobs() -> None:
    # Not with batch_alter_table, which rebuilds the table on SQLite and so loses AUTOINCREMENT.
    for column in (
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=True),
        sa.Column("started_from", sa.Integer(), nullable=True),
        sa.Column("guarantee", sa.String(length=16), nullable=True),
        sa.Column("already_forgotten", sa.JSON(), nullable=True),
        sa.Column("elsewhere", sa.JSON(), nullable=True),
        sa.Column("created_by", sa.String(length=40), nullable=True),
        sa.Column("progress_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("audited_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stalls_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("store_failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
    ):
        op.add_column("jobs", column)
    op.execute("UPDATE jobs SET audited_at = finished_at")  # the audit log begins with this release
    not_audited = sa.text("finished_at IS NOT NULL AND audited_at IS NULL")
    op.create_index(
        "ix_jobs_not_audited", "jobs", ["sequence"], sqlite_where=not_audited, postgresql_where=not_audited
    )
    op.execute("UPDATE jobs SET started_from = output_version - 1 WHERE output_version > 1")
    op.create_index("ix_samples_model_id", "samples", ["model_id"])


def _create_repeated_requests() -> None:
    op.create_table(
        "repeated_requests",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=True),
        sa.Column("request_id", sa.String(length=200), nullable=True),
        sa.Column("created_by", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_repeated_requests_job_id")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_repeated_requests")),
    )


def _create_model_deletions() -> None:
    op.create_table(
        "model_deletions",
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("purge", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("keys", sa.JSON(), nullable=False),
        sa.Column("kept", sa.JSON(), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("created_by", sa.String(length=40), nullable=True),
        sa.Column("request_id", sa.String(length=200), nullable=True),
        sa.Column("envelope", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'done') = (finished_at IS NOT NULL)", name=op.f("ck_model_deletions_finished_at")
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_model_deletions_model_id")),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_model_deletions")),
    )


def _create_deletions_of_images() -> None:
    op.create_table(
        "dataset_deletions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("dataset", sa.String(length=200), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=True),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("replaced_by", sa.String(length=64), nullable=True),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("logged_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('requested', 'pending', 'done')", name=op.f("ck_dataset_deletions_state")
        ),
        sa.CheckConstraint(
            "(state = 'requested') = (sha256 IS NULL)", name=op.f("ck_dataset_deletions_sha256")
        ),
        sa.CheckConstraint(
            "(state = 'done') = (finished_at IS NOT NULL)", name=op.f("ck_dataset_deletions_finished_at")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_dataset_deletions_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_deletions")),
    )
    op.create_index("ix_dataset_deletions_job_id", "dataset_deletions", ["job_id"])
    for name, condition in (("unfinished", "state <> 'done'"), ("not_logged", "logged_at IS NULL")):
        where = sa.text(condition)
        op.create_index(
            f"ix_dataset_deletions_{name}",
            "dataset_deletions",
            ["id"],
            sqlite_where=where,
            postgresql_where=where,
        )
    op.create_table(
        "image_erasures",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("waits_for", sa.String(length=40), nullable=True),
        sa.Column("datasets", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('requested', 'pending', 'done')", name=op.f("ck_image_erasures_state")),
        sa.CheckConstraint(
            "(state = 'done') = (finished_at IS NOT NULL)", name=op.f("ck_image_erasures_finished_at")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_image_erasures_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_image_erasures")),
    )
    op.create_index("ix_image_erasures_state", "image_erasures", ["state"])


def _add_erasure_log_to_receipts() -> None:
    op.add_column("receipts", sa.Column("logged_at", sa.DateTime(timezone=True), nullable=True))
    not_logged = sa.text("logged_at IS NULL")
    op.create_index(
        "ix_receipts_not_logged", "receipts", ["job_id"], sqlite_where=not_logged, postgresql_where=not_logged
    )


def _create_snapshots() -> None:
    op.create_table(
        "snapshots",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_snapshots_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_snapshots")),
    )


def _create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("request_sha256", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("resource_id", sa.String(length=200), nullable=False),
        sa.Column("already_forgotten", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_idempotency_keys_project_id")),
        sa.PrimaryKeyConstraint("project_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def _create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=True),
        sa.Column("actor", sa.String(length=40), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("resource", sa.String(length=200), nullable=False),
        sa.Column("request_id", sa.String(length=200), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("hash", sa.String(length=64), nullable=True),
        sa.CheckConstraint("(position IS NULL) = (hash IS NULL)", name=op.f("ck_audit_log_sealed")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit_log")),
        sa.UniqueConstraint("position", name=op.f("uq_audit_log_position")),
        sqlite_autoincrement=True,
    )
    unsealed = sa.text("position IS NULL")
    op.create_index(
        "ix_audit_log_unsealed", "audit_log", ["sequence"], sqlite_where=unsealed, postgresql_where=unsealed
    )
    _refuse_changes_of_the_audit_log()


def _refuse_changes_of_the_audit_log() -> None:
    """Let the database refuse to delete an entry, or to change one that is sealed."""
    refusal = "an entry of the audit log cannot be changed or deleted"
    if op.get_bind().dialect.name == "sqlite":
        for event, condition in (("UPDATE", "WHEN OLD.position IS NOT NULL"), ("DELETE", "")):
            op.execute(
                f"CREATE TRIGGER audit_log_keeps_entries_on_{event.lower()} BEFORE {event} ON audit_log "
                f"{condition} BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION refuse_change_of_audit_log() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_log_keeps_entries_on_update BEFORE UPDATE ON audit_log FOR EACH ROW "
        "WHEN (OLD.position IS NOT NULL) EXECUTE FUNCTION refuse_change_of_audit_log()"
    )
    op.execute(
        "CREATE TRIGGER audit_log_keeps_entries_on_delete BEFORE DELETE ON audit_log FOR EACH ROW "
        "EXECUTE FUNCTION refuse_change_of_audit_log()"
    )


def _create_store_tables() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "artifact_faults",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("fault", sa.String(length=16), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "fault IN ('missing', 'corrupt', 'unreadable')", name=op.f("ck_artifact_faults_fault")
        ),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_artifact_faults")),
    )
