"""Add the trace of a job's request, which labels a learn makes permanent, and an index of the audit log.

The history of aliases can only be added to from now on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    # Not with batch_alter_table, which rebuilds the table on SQLite and so loses AUTOINCREMENT and triggers.
    op.add_column("jobs", sa.Column("trace_id", sa.String(length=32), nullable=True))
    op.add_column("jobs", sa.Column("made_permanent", sa.JSON(), nullable=True))
    op.create_index("ix_audit_log_resource_sequence", "audit_log", ["resource", "sequence"])
    _refuse_changes_of_the_history_of_aliases()


def _refuse_changes_of_the_history_of_aliases() -> None:
    refusal = "an entry of the history of an alias cannot be changed or deleted"
    if op.get_bind().dialect.name == "sqlite":
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER alias_changes_keep_entries_on_{event.lower()} BEFORE {event} "
                f"ON alias_changes BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION refuse_change_of_alias_changes() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER alias_changes_keep_entries BEFORE UPDATE OR DELETE ON alias_changes FOR EACH ROW "
        "EXECUTE FUNCTION refuse_change_of_alias_changes()"
    )
