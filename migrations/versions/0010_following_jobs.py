"""Add which job a job repeats, when labels expire, and events, with the triggers that add those of states."""

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
