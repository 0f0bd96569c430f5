"""The audit log is a chain: an entry that is changed, removed or inserted afterwards shows."""

import pytest
from sqlalchemy import exc, select, text

from service.registry import audit
from service.registry.database import Database
from service.registry.tables import AuditRow
from tests.registries import Registry


def add(database: Database, count: int) -> None:
    with database.transaction() as session:
        for number in range(count):
            audit.append(
                session,
                "job.submit",
                f"job_{number}",
                actor=None,
                project_id="prj_default",
                request_id="req_1",
                details={"labels": ["é", "7"], "seed": number},
            )


def seal(database: Database) -> int:
    with database.transaction() as session:
        return audit.seal(session)


def verify(database: Database, noted_head: str | None = None) -> audit.Verification:
    with database.reading() as session:
        return audit.verify(session, noted_head=noted_head)


def test_entries_are_sealed_in_order_and_the_chain_verifies(database: Database) -> None:
    assert verify(database) == audit.Verification(0, 0, audit.FIRST_HASH, None, True)
    add(database, 3)
    assert (verify(database).entries, verify(database).unsealed) == (0, 3)
    assert seal(database) == 3
    first = verify(database)
    assert (first.entries, first.unsealed, first.fault) == (3, 0, None)
    add(database, 2)
    assert (seal(database), seal(database)) == (2, 0)
    assert verify(database, first.head).knows_head
    assert not verify(database, "f" * 64).knows_head


@pytest.mark.parametrize("statement", ["DELETE FROM audit_log", "UPDATE audit_log SET actor = 'someone'"])
def test_the_database_refuses_to_change_a_sealed_entry(database: Database, statement: str) -> None:
    add(database, 1)
    seal(database)
    refused = pytest.raises(exc.DBAPIError, match="cannot be changed or deleted")
    with refused, database.transaction() as session:
        session.execute(text(statement))
    assert verify(database).entries == 1


def test_the_entries_about_a_resource_are_found_by_an_index(database: Database) -> None:
    """The plan is asked of an empty table, so PostgreSQL is told not to scan it."""
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    query = "SELECT * FROM audit_log WHERE resource = 'job_1' ORDER BY sequence DESC LIMIT 21"
    with database.reading() as session:
        if not database.is_sqlite:
            session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(str(row) for row in session.execute(text(f"{explain} {query}")))
    assert "ix_audit_log_resource_sequence" in plan


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("UPDATE audit_log SET resource = 'job_9' WHERE position = 2", "the entry 2 (job.submit of job_9)"),
        ("UPDATE audit_log SET actor = 'key_1' WHERE position = 1", "the entry 1"),
        ("UPDATE audit_log SET details = '{}' WHERE position = 3", "the entry 3"),
        ("DELETE FROM audit_log WHERE position = 2", "the entry 2 is missing"),
        ("UPDATE audit_log SET hash = (SELECT hash FROM audit_log WHERE position = 1) WHERE position = 2",
         "the entry 2"),
    ],
)  # fmt: skip
def test_whoever_gets_around_the_triggers_breaks_the_chain(
    database: Database, change: str, fault: str
) -> None:
    add(database, 3)
    seal(database)
    with database.transaction() as session:
        for event in ("update", "delete"):
            on = "" if database.is_sqlite else " ON audit_log"
            session.execute(text(f"DROP TRIGGER audit_log_keeps_entries_on_{event}{on}"))
        session.execute(text(change))
    assert fault in (verify(database).fault or "")


def test_entries_cut_off_at_the_end_show_to_whoever_noted_the_head(database: Database) -> None:
    add(database, 3)
    seal(database)
    head = verify(database).head
    with database.transaction() as session:
        on = "" if database.is_sqlite else " ON audit_log"
        session.execute(text(f"DROP TRIGGER audit_log_keeps_entries_on_delete{on}"))
        session.execute(text("DELETE FROM audit_log WHERE position = 3"))
    found = verify(database, head)
    assert (found.entries, found.fault, found.knows_head) == (2, None, False)


def test_the_end_of_every_job_gets_one_entry(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    registry.submit("learn", "2")
    with registry.database.transaction() as session:
        assert [job.state for job in audit.add_outcomes(session)] == ["succeeded"]
    with registry.database.transaction() as session:
        assert audit.add_outcomes(session) == []
        [entry] = session.scalars(select(AuditRow).where(AuditRow.action == "job.end"))
        assert (entry.actor, entry.project_id) == ("palimpsest", registry.model.project_id)
        assert (entry.details["state"], entry.details["version"]) == ("succeeded", 1)
        assert entry in audit.page(session, project_id=registry.model.project_id, limit=100).rows
