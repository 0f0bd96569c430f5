"""Rename the column rung_at to notified_at, stranger_steps to naive_steps, `asked` to `requested`."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

RENAMED_PARAMS = {"stranger_steps": "naive_steps"}


def upgrade() -> None:
    # Not with batch_alter_table, which rebuilds the table on SQLite and so loses AUTOINCREMENT.
    op.execute("ALTER TABLE jobs RENAME COLUMN rung_at TO notified_at")
    _rename_params()
    _rename_purge_words()


def _rename_params() -> None:
    """Rename params in every job, including finished ones, because this release reads all of them.

    Signed receipts keep the old names, because their bytes are stored as they were signed.
    """
    jobs = sa.table("jobs", sa.column("id", sa.String), sa.column("params", sa.JSON))
    connection = op.get_bind()
    for old, new in RENAMED_PARAMS.items():
        named = sa.cast(jobs.c.params, sa.Text).contains(f'"{old}"')
        for job_id, params in connection.execute(sa.select(jobs.c.id, jobs.c.params).where(named)).all():
            renamed = {new if name == old else name: value for name, value in params.items()}
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(params=renamed))


def _rename_purge_words() -> None:
    """Rename the state and the reason `asked` of purges to `requested`."""
    checked = {"state": ("requested", "pending", "done"), "reason": ("requested", "retention")}
    with op.batch_alter_table("purges") as table:
        for column in checked:
            table.drop_constraint(op.f(f"ck_purges_{column}"), type_="check")
    for column in checked:
        op.execute(f"UPDATE purges SET {column} = 'requested' WHERE {column} = 'asked'")
    with op.batch_alter_table("purges") as table:
        for column, words in checked.items():
            listed = ", ".join(f"'{word}'" for word in words)
            table.create_check_constraint(op.f(f"ck_purges_{column}"), f"{column} IN ({listed})")
