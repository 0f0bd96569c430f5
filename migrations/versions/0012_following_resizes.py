"""Add which job a resize follows, what cancels it, and the size policy of models."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    # Not with batch_alter_table, which rebuilds the table on SQLite and so loses AUTOINCREMENT and triggers.
    op.add_column("jobs", sa.Column("follows", sa.String(length=40), nullable=True))
    follows = sa.text("follows IS NOT NULL")
    op.create_index(
        "one_follower_per_job",
        "jobs",
        ["follows"],
        unique=True,
        sqlite_where=follows,
        postgresql_where=follows,
    )
    op.execute(
        "ALTER TABLE models ADD COLUMN size_policy VARCHAR(16) DEFAULT 'fixed' NOT NULL "
        "CONSTRAINT ck_models_size_policy CHECK (size_policy IN ('fixed', 'auto'))"
    )
    if op.get_bind().dialect.name == "sqlite":
        _cancel_followers_on_sqlite()
    else:
        _cancel_followers_on_postgresql()


ENDED_OTHERWISE = "NEW.state IN ('failed', 'rejected', 'cancelled') AND OLD.state <> NEW.state"
"""SQL: the job has just ended, and did not succeed."""
ERROR = (
    "'type', 'followed_job', 'code', 'followed_job_not_succeeded', 'message', "
    "'the resize was to follow job ' || NEW.id || ', which ended as ' || NEW.state || '; so nothing was "
    "resized. Retry that job, and a resize follows the new one, too', 'retryable'"
)
"""SQL: the names and values of the error of a cancelled follower (service/registry/job_errors.py)."""


def _cancel_followers_on_sqlite() -> None:
    cancel = (
        "UPDATE jobs SET state = 'cancelled', finished_at = strftime('%Y-%m-%d %H:%M:%f', 'now'), "
        f"error = json_object({ERROR}, json('false')) WHERE follows = NEW.id AND state = 'queued';"
    )
    op.execute(
        sa.text(
            "CREATE TRIGGER jobs_cancel_follower AFTER UPDATE OF state ON jobs "
            f"WHEN {ENDED_OTHERWISE} BEGIN {_escaped(cancel)} END"
        )
    )


def _cancel_followers_on_postgresql() -> None:
    # With the schema of the jobs, because the search path of the connection may be another one.
    function = f"""
        CREATE FUNCTION cancel_follower_of_job() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            EXECUTE format(
                'UPDATE %I.jobs SET state = ''cancelled'', finished_at = clock_timestamp(), error = $1 '
                'WHERE follows = $2 AND state = ''queued''', TG_TABLE_SCHEMA
            ) USING json_build_object({ERROR}, false), NEW.id;
            RETURN NULL;
        END $$"""
    op.execute(sa.text(_escaped(function)))
    op.execute(
        "CREATE TRIGGER jobs_cancel_follower AFTER UPDATE OF state ON jobs FOR EACH ROW "
        f"WHEN ({ENDED_OTHERWISE}) EXECUTE FUNCTION cancel_follower_of_job()"
    )


def _escaped(statement: str) -> str:
    """Return the statement with the colons escaped that SQLAlchemy would take for parameters."""
    return statement.replace(":", "\\:")
