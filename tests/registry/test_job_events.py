"""Events of jobs: every state has one, in its transaction, and progress and lines are bounded."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from service.registry import claims, deletions, job_events, jobs, models, sweeping
from service.registry.database import from_now
from service.registry.tables import JobEventRow, JobRow
from tests.registries import Registry


def events(registry: Registry, job: JobRow) -> list[JobEventRow]:
    with registry.database.reading() as session:
        return job_events.page(session, job.id, limit=5000).rows


def states(registry: Registry, job: JobRow) -> list[str]:
    return [row.data["state"] for row in events(registry, job) if row.type == "state"]


def report(registry: Registry, claim: claims.Claim, step: int) -> None:
    with registry.database.transaction() as session:
        claims.require_held(session, claim)
        progress = {"phase": "training", "step": step, "total": 1000, "loss": 1.0}
        job_events.add_progress(session, claim.job_id, progress)


def test_every_state_of_a_published_job_is_an_event(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    with registry.database.transaction() as session:
        claims.start_verifying(session, claim)
    registry.publish(claim)
    assert states(registry, job) == ["queued", "running", "verifying", "succeeded"]
    assert [row.number for row in events(registry, job)] == [1, 2, 3, 4]
    assert [row.data["attempt"] for row in events(registry, job)] == [0, 1, 1, 1]


def cancel(registry: Registry, claim: claims.Claim) -> None:
    with registry.database.transaction() as session:
        jobs.cancel(session, claim.job_id)
    with registry.database.transaction() as session:
        claims.finish_cancelled(session, claim)


def fail(registry: Registry, claim: claims.Claim) -> None:
    with registry.database.transaction() as session:
        claims.finish_failed(session, claim, {"type": "user", "code": "too_wide"})


def lose(registry: Registry, claim: claims.Claim) -> None:
    with registry.database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.id == claim.job_id).values(lease_until=from_now(-1)))
        sweeping.requeue_expired(session)


def give_back(registry: Registry, claim: claims.Claim) -> None:
    with registry.database.transaction() as session:
        claims.release(session, claim)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (cancel, ["cancelling", "cancelled"]),
        (fail, ["failed"]),
        (lose, ["queued"]),
        (give_back, ["queued"]),
    ],
)
def test_every_other_end_of_a_claim_is_an_event(
    registry: Registry, end: Callable[[Registry, claims.Claim], None], expected: list[str]
) -> None:
    job = registry.submit("learn", "1")
    end(registry, registry.claim(job))
    assert states(registry, job) == ["queued", "running", *expected]
    assert events(registry, job)[-1].data["code"] == ("too_wide" if end is fail else None)


def test_a_transaction_that_is_rolled_back_leaves_no_event(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    with registry.database.transaction() as session:
        claims.claim(session, job.id, worker="here:1", lease_seconds=60)
        session.rollback()
    assert states(registry, job) == ["queued"]


def test_the_jobs_of_a_deleted_model_are_cancelled_with_an_event(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    with registry.database.transaction() as session:
        deletions.delete_model(session, models.find(session, registry.model.id), purge=None)
    assert states(registry, job) == ["queued", "cancelled"]


def test_a_change_that_no_client_sees_is_no_event(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    with registry.database.transaction() as session:
        claims.heartbeat(session, claim, lease_seconds=60, progress={"phase": "x", "step": 1})
        sweeping.mark_notified(session, [job.id])
    assert states(registry, job) == ["queued", "running"]


def test_too_many_progress_events_are_thinned_out_evenly(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    for step in range(job_events.MAX_PROGRESS_EVENTS + 3):
        report(registry, claim, step)
    shown = [row for row in events(registry, job) if row.type == "progress"]
    steps = [row.data["step"] for row in shown]
    assert len(shown) == job_events.MAX_PROGRESS_EVENTS // 2 + 3
    assert steps[:4] == [0, 2, 4, 6]
    assert steps[-3:] == [400, 401, 402]
    assert [row.number for row in shown] == sorted(row.number for row in shown)
    newest = shown[-1].number
    report(registry, claim, 1000)
    assert events(registry, job)[-1].number == newest + 1


def test_lines_are_bounded_and_have_no_secret(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    with registry.database.transaction() as session:
        job_events.add_log(session, job.id, "a key pal_abc_secret\nin two lines " + "x" * 1000)
        for _ in range(job_events.MAX_LOG_EVENTS + 5):
            job_events.add_log(session, job.id, "again")
    lines: list[dict[str, Any]] = [row.data for row in events(registry, job) if row.type == "log"]
    assert len(lines) == job_events.MAX_LOG_EVENTS
    assert lines[0]["message"].startswith("a key pal_abc_*** in two lines xxx")
    assert len(lines[0]["message"]) == job_events.MAX_LOG_CHARACTERS


def test_news_are_read_for_many_jobs_at_once(registry: Registry) -> None:
    ended = registry.submit("learn", "1")
    fail(registry, registry.claim(ended))
    waiting = registry.submit("learn", "2")
    found = job_events.read_news(registry.database, {ended.id: 1, waiting.id: 1, "job_unknown": 0})
    assert set(found) == {ended.id, "job_unknown"}
    assert ([row.number for row in found[ended.id].rows], found[ended.id].done) == ([2, 3], True)
    assert found["job_unknown"] == ([], True)
    assert job_events.read_news(registry.database, {ended.id: 3})[ended.id] == ([], True)


def test_old_events_are_deleted_once_their_job_has_ended(registry: Registry) -> None:
    ended, waiting = registry.submit("learn", "1"), registry.submit("learn", "2")
    fail(registry, registry.claim(ended))
    with registry.database.transaction() as session:
        session.execute(update(JobEventRow).values(at=from_now(-3 * 86400)))
        assert job_events.delete_old(session, days=2) == 0
        session.execute(update(JobRow).where(JobRow.id == ended.id).values(finished_at=from_now(-3 * 86400)))
        assert job_events.delete_old(session, days=4) == 0
        assert job_events.delete_old(session, days=2) == 3
    assert (events(registry, ended), states(registry, waiting)) == ([], ["queued"])
