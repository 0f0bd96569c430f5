"""Add which job a job repeats, when labels expire, webhooks, and events, with their triggers."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    # Not with batch_alter_table, which rebuilds the table on SQLite and so loses AUTOINCREMENT and triggers.
    op.add_column("jobs", sa.Column("retry_of", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("expires_in", sa.Integer(), nullable=True))
    expires = sa.text("expires_in IS NOT NULL")
    op.create_index(
        "ix_jobs_with_expiry", "jobs", ["sequence"], sqlite_where=expires, postgresql_where=expires
    )
    _create_events()
    _create_webhooks()
    if op.get_bind().dialect.name == "sqlite":
        _record_states_on_sqlite()
    else:
        _record_states_on_postgresql()


def _create_events() -> None:
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("type IN ('state', 'progress', 'log')", name=op.f("ck_job_events_type")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id")),
        sa.PrimaryKeyConstraint("job_id", "number", name=op.f("pk_job_events")),
    )
    op.create_index("ix_job_events_at", "job_events", ["at"])


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("types", sa.JSON(), nullable=False),
        sa.Column("secret", sa.String(length=100), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_webhooks_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index("ix_webhooks_project_id", "webhooks", ["project_id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("webhook_id", sa.String(length=40), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'delivered', 'failed')", name=op.f("ck_webhook_deliveries_state")
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (finished_at IS NULL)", name=op.f("ck_webhook_deliveries_finished_at")
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index("ix_webhook_deliveries_webhook_id_id", "webhook_deliveries", ["webhook_id", "id"])
    pending = sa.text("state = 'pending'")
    op.create_index(
        "ix_webhook_deliveries_pending",
        "webhook_deliveries",
        ["next_at"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
    op.create_index("ix_webhook_deliveries_created_at", "webhook_deliveries", ["created_at"])


SHOWN_STATE = (
    "CASE WHEN {row}.cancel_requested AND {row}.state IN ('queued', 'running', 'verifying') "
    "THEN 'cancelling' ELSE {row}.state END"
)
"""SQL: the state that clients see (JobRow.public_state)."""
CHANGED = f"{SHOWN_STATE.format(row='NEW')} <> {SHOWN_STATE.format(row='OLD')}"


def _record_states_on_sqlite() -> None:
    add = (
        "INSERT INTO job_events (job_id, number, type, data, at) VALUES (NEW.id, "
        "(SELECT coalesce(max(number), 0) + 1 FROM job_events WHERE job_id = NEW.id), 'state', "
        f"json_object('state', {SHOWN_STATE.format(row='NEW')}, 'attempt', NEW.attempt, "
        "'code', json_extract(NEW.error, '$.code')), strftime('%Y-%m-%d %H:%M:%f', 'now'));"
    )
    op.execute(
        sa.text(f"CREATE TRIGGER jobs_record_first_state AFTER INSERT ON jobs BEGIN {_escaped(add)} END")
    )
    op.execute(
        sa.text(
            "CREATE TRIGGER jobs_record_state AFTER UPDATE OF state, cancel_requested ON jobs "
            f"WHEN {CHANGED} BEGIN {_escaped(add)} END"
        )
    )


def _record_states_on_postgresql() -> None:
    # With the schema of the jobs, because the search path of the connection may be another one.
    function = f"""
        CREATE FUNCTION record_state_of_job() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            EXECUTE format(
                'INSERT INTO %1$I.job_events (job_id, number, type, data, at) VALUES ($1, '
                '(SELECT coalesce(max(number), 0) + 1 FROM %1$I.job_events WHERE job_id = $1), '
                '''state'', $2, clock_timestamp())', TG_TABLE_SCHEMA
            ) USING NEW.id, json_build_object(
                'state', {SHOWN_STATE.format(row="NEW")}, 'attempt', NEW.attempt, 'code', NEW.error ->> 'code'
            );
            RETURN NULL;
        END $$"""
    op.execute(sa.text(_escaped(function)))
    op.execute(
        "CREATE TRIGGER jobs_record_first_state AFTER INSERT ON jobs FOR EACH ROW "
        "EXECUTE FUNCTION record_state_of_job()"
    )
    op.execute(
        "CREATE TRIGGER jobs_record_state AFTER UPDATE OF state, cancel_requested ON jobs FOR EACH ROW "
        f"WHEN ({CHANGED}) EXECUTE FUNCTION record_state_of_job()"
    )


def _escaped(statement: str) -> str:
    """Return the statement with the colons escaped that SQLAlchemy would take for parameters."""
    return statement.replace(":", "\\:")
