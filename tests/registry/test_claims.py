"""At most one worker at a time runs a job, and only as long as it extends its lease."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import exc, update

from service.registry import claims, jobs, sweeping
from service.registry.errors import FencedOff
from service.registry.tables import JobRow
from tests.registries import Registry


def sweep(registry: Registry) -> None:
    with registry.database.transaction() as session:
        assert sweeping.try_sweep_lock(session)
        sweeping.requeue_expired(session)
        sweeping.cancel_queued(session)


def due(registry: Registry) -> list[str]:
    with registry.database.reading() as session:
        return sweeping.find_due(session, queue="default", notify_again_seconds=3600, limit=10)


def test_a_second_claim_of_the_same_job_gets_nothing(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    assert registry.claim(job).fence == 1
    assert registry.try_claim(job) is None


def test_only_one_of_many_workers_gets_a_job(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda number: registry.try_claim(job, worker=f"here:{number}"), range(8)))
    assert sum(claim is not None for claim in claimed) == 1
    assert registry.job(job).attempt == 1


def test_jobs_of_one_model_run_one_after_another_in_order(registry: Registry) -> None:
    first, second = registry.submit("learn", "1"), registry.submit("learn", "2")
    assert registry.try_claim(second) is None
    running = registry.claim(first)
    assert registry.try_claim(second) is None
    registry.publish(running)
    assert registry.try_claim(second) is not None


def test_jobs_of_different_models_run_side_by_side(
    registry: Registry, new_model: Callable[[str], Registry]
) -> None:
    assert registry.try_claim(registry.submit("learn", "1")) is not None
    other = new_model("other")
    assert other.try_claim(other.submit("learn", "1")) is not None


def test_the_database_itself_refuses_two_running_jobs_of_a_model(registry: Registry) -> None:
    first, second = registry.submit("learn", "1"), registry.submit("learn", "2")
    registry.claim(first)
    second_claim = (
        update(JobRow).where(JobRow.id == second.id).values(state="running", lease_until=first.created_at)
    )
    with pytest.raises(exc.IntegrityError), registry.database.transaction() as session:
        session.execute(second_claim)


def test_a_job_whose_lease_expired_is_queued_again_and_a_message_is_due_at_once(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    registry.claim(job, lease_seconds=-1)
    sweep(registry)
    assert registry.job(job).state == "queued"
    assert due(registry) == [job.id]
    again = registry.claim(job)
    assert (again.fence, again.attempt) == (2, 2)


def test_a_heartbeat_extends_the_lease_and_writes_the_progress(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job, lease_seconds=-1)
    with registry.database.transaction() as session:
        progress = {"phase": "learning", "step": 3, "total": 9, "loss": 1.0}
        assert claims.heartbeat(session, claim, lease_seconds=60, progress=progress) == "held"
    sweep(registry)
    assert registry.job(job).state == "running"
    assert registry.job(job).progress == progress


def test_a_job_fails_as_worker_lost_once_its_attempts_are_used_up(registry: Registry) -> None:
    job = registry.submit("learn", "1", max_attempts=2)
    for _ in range(2):
        registry.claim(job, lease_seconds=-1)
        sweep(registry)
    lost = registry.job(job)
    assert (lost.state, lost.attempt) == ("failed", 2)
    assert lost.error is not None
    assert (lost.error["type"], lost.error["retryable"]) == ("worker_lost", True)
    assert registry.try_claim(job) is None


def test_a_worker_that_was_replaced_changes_nothing(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    replaced = registry.claim(job, lease_seconds=-1)
    sweep(registry)
    successor = registry.claim(job)
    with registry.database.transaction() as session:
        assert claims.heartbeat(session, replaced, lease_seconds=60, progress=None) == "lost"
    for write in (claims.start_verifying, claims.finish_cancelled, claims.release):
        with pytest.raises(FencedOff), registry.database.transaction() as session:
            write(session, replaced)
    with pytest.raises(FencedOff):
        registry.publish(replaced)
    assert registry.head() is None
    assert registry.publish(successor).number == 1


def test_a_released_job_is_queued_and_its_attempt_does_not_count(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    with registry.database.transaction() as session:
        claims.release(session, claim := claim_of(session, job))
    released = registry.job(job)
    assert (released.state, released.attempt, released.worker) == ("queued", 0, None)
    assert due(registry) == [job.id]
    assert registry.claim(job).fence == claim.fence + 1


def claim_of(session: object, job: JobRow) -> claims.Claim:
    claim = claims.claim(session, job.id, worker="here:1", lease_seconds=60)  # type: ignore[arg-type]
    assert claim is not None
    return claim


def test_the_next_heartbeat_of_a_running_job_reports_that_it_was_cancelled(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    with registry.database.transaction() as session:
        assert jobs.cancel(session, job.id).public_state == "cancelling"
    with registry.database.transaction() as session:
        assert claims.heartbeat(session, claim, lease_seconds=60, progress=None) == "cancel_requested"
        claims.finish_cancelled(session, claim)
    assert registry.job(job).state == "cancelled"


def test_a_job_does_not_publish_after_a_cancel_was_accepted(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    with registry.database.transaction() as session:
        jobs.cancel(session, job.id)
    with pytest.raises(FencedOff):
        registry.publish(claim)
    assert registry.head() is None


def test_a_cancelled_job_whose_worker_died_is_not_run_again(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    registry.claim(job, lease_seconds=-1)
    with registry.database.transaction() as session:
        jobs.cancel(session, job.id)
    sweep(registry)
    assert registry.job(job).state == "cancelled"


def test_jobs_of_a_dead_worker_are_queued_before_their_lease_expires(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    registry.claim(job)
    with registry.database.transaction() as session:
        sweeping.expire_leases_of(session, "elsewhere:1")
    sweep(registry)
    assert registry.job(job).state == "running"
    with registry.database.transaction() as session:
        sweeping.expire_leases_of(session, "here:1")
    sweep(registry)
    assert registry.job(job).state == "queued"


def test_messages_are_due_only_for_the_next_job_of_each_model(
    registry: Registry, new_model: Callable[[str], Registry]
) -> None:
    first, _ = registry.submit("learn", "1"), registry.submit("learn", "2")
    other = new_model("other").submit("learn", "1")
    assert due(registry) == []  # messages were sent when they were submitted
    with registry.database.transaction() as session:
        assert sweeping.find_due(session, queue="default", notify_again_seconds=-1, limit=10) == [
            first.id,
            other.id,
        ]
        sweeping.mark_notified(session, [first.id])
    with registry.database.reading() as session:
        assert sweeping.find_next_of_model(session, registry.model.id) == (first.id, "default")


def test_what_waits_is_the_oldest_change_of_each_model_and_its_oldest_evaluation(
    registry: Registry, new_model: Callable[[str], Registry]
) -> None:
    def waiting() -> list[str]:
        with registry.database.reading() as session:
            return [
                job.id
                for job in sorted(claims.find_waiting(session, ["default"]), key=lambda job: job.sequence)
            ]

    first, _second = registry.submit("learn", "1"), registry.submit("learn", "2")
    other = new_model("other")
    others = other.submit("learn", "1")
    assert waiting() == [first.id, others.id]
    claim = registry.claim(first)
    assert waiting() == [others.id]
    registry.publish(claim)
    evaluation, later = registry.submit("evaluate"), registry.submit("evaluate")
    assert waiting() == [_second.id, others.id, evaluation.id]
    registry.claim(evaluation)
    assert waiting() == [_second.id, others.id, later.id]
