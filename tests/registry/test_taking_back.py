"""A worker keeps its job through an outage of the database, and loses it if it stalls or another has it."""

import pytest

from service.registry import claims, jobs, releases, sweeping
from service.registry.artifacts import Artifacts
from service.registry.claims import Claim
from service.registry.errors import FencedOff
from service.registry.tables import JobRow
from tests.registries import Registry


def sweep(registry: Registry) -> None:
    with registry.database.transaction() as session:
        sweeping.requeue_expired(session)
        sweeping.requeue_stalled(session)
        sweeping.cancel_queued(session)


def beat(registry: Registry, claim: Claim, stall_seconds: float = 60.0) -> claims.ClaimState:
    with registry.database.transaction() as session:
        return claims.heartbeat(session, claim, lease_seconds=60, stall_seconds=stall_seconds)


def test_a_worker_takes_its_job_back_if_its_lease_ran_out_and_nobody_claimed_it(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job, lease_seconds=-1)
    sweep(registry)
    assert registry.job(job).state == "queued"
    assert beat(registry, claim) == "held"
    taken = registry.job(job)
    assert (taken.state, taken.attempt, taken.fence) == ("running", 1, claim.fence)
    assert registry.publish(claim).number == 1


def test_a_job_that_another_worker_has_claimed_is_not_taken_back(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    late = registry.claim(job, lease_seconds=-1)
    sweep(registry)
    registry.claim(job)
    assert beat(registry, late) == "lost"
    assert registry.job(job).fence == late.fence + 1


def test_a_job_that_was_cancelled_while_it_was_queued_is_not_taken_back(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job, lease_seconds=-1)
    sweep(registry)
    with registry.database.transaction() as session:
        jobs.cancel(session, job.id)
    assert beat(registry, claim) == "lost"
    assert registry.job(job).state == "cancelled"


@pytest.mark.parametrize("store_failed", [False, True])
def test_a_released_job_is_not_taken_back(registry: Registry, store_failed: bool) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    with registry.database.transaction() as session:
        claims.release(session, claim, store_failed=store_failed)
    assert beat(registry, claim) == "lost"
    released = registry.job(job)
    assert (released.state, released.attempt, released.store_failures) == ("queued", 0, int(store_failed))


def test_a_job_without_progress_is_taken_from_its_worker_although_its_heartbeat_goes_on(
    registry: Registry,
) -> None:
    job = registry.submit("learn", "1", max_attempts=2)
    claim = registry.claim(job)
    beat(registry, claim, stall_seconds=-1)
    sweep(registry)
    assert beat(registry, claim) == "lost"
    assert registry.job(job).state == "queued"
    with pytest.raises(FencedOff):
        registry.publish(claim)
    beat(registry, registry.claim(job), stall_seconds=-1)
    sweep(registry)
    stalled = registry.job(job)
    assert stalled.error is not None
    assert (stalled.state, stalled.attempt, stalled.error["type"]) == ("failed", 2, "stalled")


def test_a_worker_that_ends_a_stalled_attempt_queues_the_job_or_lets_it_fail(registry: Registry) -> None:
    job = registry.submit("learn", "1", max_attempts=2)
    states = []
    for _ in range(2):
        claim = registry.claim(job)
        with registry.database.transaction() as session:
            claims.end_stalled(session, claim)
        states.append(registry.job(job).state)
    assert states == ["queued", "failed"]
    assert (registry.job(job).error or {})["code"] == "stalled"


def test_only_progress_changes_the_time_of_the_last_progress(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    claimed_at = registry.job(job).progress_at
    assert claimed_at is not None
    beat(registry, claim)
    assert registry.job(job).progress_at == claimed_at
    with registry.database.transaction() as session:
        progress = {"phase": "learning", "step": 1, "total": 9, "loss": 1.0}
        claims.heartbeat(session, claim, lease_seconds=60, progress=progress)
    progressed_at = registry.job(job).progress_at
    assert progressed_at is not None
    assert progressed_at > claimed_at


def test_the_attempt_of_a_worker_that_was_shut_down_does_not_count(registry: Registry) -> None:
    """The supervisor killed it, because it reached no step within the grace of the shutdown."""
    job = registry.submit("learn", "1")
    claim = registry.claim(job)
    with registry.database.transaction() as session:
        sweeping.release_jobs_of(session, "here:1")
    released: JobRow = registry.job(job)
    assert (released.state, released.attempt) == ("queued", 0)
    assert beat(registry, claim) == "lost"


@pytest.mark.parametrize("expired", [False, True])
def test_a_claim_that_was_given_up_during_an_outage_does_not_count(
    registry: Registry, artifacts: Artifacts, expired: bool
) -> None:
    job = registry.submit("learn", "1")
    claim = registry.claim(job, lease_seconds=-1 if expired else 60)
    if expired:
        with registry.database.transaction() as session:
            assert sweeping.requeue_expired(session) == 1
    for _ in range(2):  # the second as if the process had died before it deleted the note
        releases.note(artifacts, claim)
        releases.record(registry.database, artifacts, lease_seconds=120)
        released: JobRow = registry.job(job)
        assert (released.state, released.attempt) == ("queued", 0)
    assert beat(registry, claim) == "lost"
    again = registry.claim(job)
    releases.note(artifacts, claim)
    releases.record(registry.database, artifacts, lease_seconds=120)
    assert registry.job(job).attempt == 1
    assert beat(registry, again) == "held"


def test_the_claim_whose_commit_got_no_answer_is_found_by_its_worker_alone(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    with registry.database.reading() as session:
        assert claims.find_held(session, job.id, worker="here:1") is None
    claim = registry.claim(job)
    with registry.database.reading() as session:
        assert claims.find_held(session, job.id, worker="here:1") == claim
        assert claims.find_held(session, job.id, worker="there:2") is None
