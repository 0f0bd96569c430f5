"""A resize that follows a job runs after it, and is cancelled in the transaction in which that job fails."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.registry import claims, deletions, job_events, jobs, labels, queue_limits, sweeping
from service.registry.acceptance import RELAPSE_MAX
from service.registry.claims import Claim
from service.registry.database import from_now
from service.registry.errors import NoPermanentLabel, NothingToFollow, QueueFull
from service.registry.job_errors import FOLLOWED_JOB
from service.registry.job_requests import JobRequest
from service.registry.job_specs import Demands, ResizeSpec
from service.registry.jobs import Submitted
from service.registry.tables import JobRow, Operation
from tests.job_specs import job_spec
from tests.registries import Registry

AUTO = ResizeSpec(strategy="auto", params={"epsilon": 5.0}, dataset="digits")


def submit(registry: Registry, operation: Operation, *names: str, **fields: Any) -> Submitted:
    spec = job_spec(operation, *names, **fields)
    request = JobRequest(request_id="req_1", reference="DSR-17", created_by="key_1", retry_of="job_0")
    with registry.database.transaction() as session:
        model = jobs.lock_model(session, registry.model)
        statuses = labels.projected_statuses(session, model)
        return jobs.submit(session, model, spec, statuses, max_attempts=3, request=request)


def followed(registry: Registry, *names: str, **fields: Any) -> tuple[JobRow, JobRow]:
    """Submit a learn with a resize behind it. Return the two jobs."""
    submitted = submit(registry, "learn", *names, resize=AUTO, **fields)
    assert submitted.follower is not None
    return submitted.job, submitted.follower


def test_a_resize_is_queued_right_behind_the_job_of_the_same_request(registry: Registry) -> None:
    job, resize = followed(registry, "1", "2")
    later = registry.submit("learn", "3")
    assert job.sequence < resize.sequence < later.sequence
    assert (resize.operation, resize.strategy, resize.params) == ("resize", "auto", AUTO.params)
    assert (resize.follows, job.follows) == (job.id, None)
    for name in ("request_id", "reference", "created_by", "model_id", "max_attempts"):
        assert getattr(resize, name) == getattr(job, name)
    assert (job.retry_of, resize.retry_of) == ("job_0", None)
    with registry.database.reading() as session:
        found = jobs.find(session, job.id)
        assert found.follower is not None
        assert found.follower.id == resize.id
        assert {one.id: one.follower and one.follower.id for one in jobs.find_each(session, [job.id])} == {
            job.id: resize.id
        }


def test_a_resize_runs_once_the_job_that_it_follows_has_succeeded(registry: Registry) -> None:
    job, resize = followed(registry, "1", "2")
    assert registry.try_claim(resize) is None
    claim = registry.claim(job)
    assert registry.try_claim(resize) is None
    registry.publish(claim)
    with registry.database.reading() as session:
        assert sweeping.find_next_of_model(session, registry.model.id) == (resize.id, "default")
    assert registry.publish(registry.claim(resize)).number == 2


def test_a_resize_after_a_forget_is_held_to_the_bound_of_that_forget(registry: Registry) -> None:
    registry.publish_job("learn", "1", "2")
    bound = {"forgotten_accuracy_max": 0.02}
    submitted = submit(registry, "forget", "1", resize=AUTO, acceptance=bound)
    assert submitted.follower is not None
    assert submitted.follower.acceptance == {RELAPSE_MAX: {"1": 0.02}}


def fail(session: Session, claim: Claim) -> None:
    claims.finish_failed(session, claim, {"type": "user", "code": "too_wide"})


def reject(session: Session, claim: Claim) -> None:
    claims.finish_rejected(session, claim, {"type": "acceptance_failed"})


def cancel(session: Session, claim: Claim) -> None:
    jobs.cancel(session, claim.job_id)
    claims.finish_cancelled(session, claim)


def lose(session: Session, claim: Claim) -> None:
    lost = update(JobRow).where(JobRow.id == claim.job_id)
    session.execute(lost.values(lease_until=from_now(-1), max_attempts=1))
    sweeping.requeue_expired(session)


def stall(session: Session, claim: Claim) -> None:
    session.execute(update(JobRow).where(JobRow.id == claim.job_id).values(max_attempts=1))
    claims.end_stalled(session, claim)


@pytest.mark.parametrize(
    ("end", "state"),
    [(fail, "failed"), (reject, "rejected"), (cancel, "cancelled"), (lose, "failed"), (stall, "failed")],
)
def test_a_resize_is_cancelled_with_the_job_that_it_follows(
    registry: Registry, end: Callable[[Session, Claim], None], state: str
) -> None:
    job, resize = followed(registry, "1", "2")
    claim = registry.claim(job)
    with registry.database.transaction() as session:
        end(session, claim)
        in_transaction = session.scalar(select(JobRow.state).where(JobRow.id == resize.id))
    assert (registry.job(job).state, in_transaction) == (state, "cancelled")
    cancelled = registry.job(resize)
    assert cancelled.finished_at is not None
    assert cancelled.error is not None
    assert cancelled.error == FOLLOWED_JOB.describe(cancelled.error["message"])
    assert f"job {job.id}, which ended as {state};" in cancelled.error["message"]
    with registry.database.reading() as session:
        events = job_events.page(session, resize.id, limit=10).rows
    assert [event.data["state"] for event in events] == ["queued", "cancelled"]
    assert events[-1].data["code"] == FOLLOWED_JOB.code


def test_cancelling_a_queued_job_cancels_its_resize_at_once_and_nothing_else(registry: Registry) -> None:
    job, resize = followed(registry, "1", "2")
    other = registry.submit("learn", "3")
    with registry.database.transaction() as session:
        jobs.cancel(session, job.id)
    assert [registry.job(one).state for one in (job, resize, other)] == ["cancelled", "cancelled", "queued"]


def test_cancelling_a_resize_leaves_the_job_before_it(registry: Registry) -> None:
    job, resize = followed(registry, "1", "2")
    with registry.database.transaction() as session:
        assert jobs.cancel(session, resize.id).error is None
    assert registry.publish(registry.claim(job)).number == 1


@pytest.mark.parametrize("release", [True, False], ids=["released", "lease expired"])
def test_a_resize_waits_while_the_job_before_it_is_tried_again(registry: Registry, release: bool) -> None:
    job, resize = followed(registry, "1", "2")
    claim = registry.claim(job, lease_seconds=60 if release else -1)
    with registry.database.transaction() as session:
        if release:
            claims.release(session, claim)
        else:
            assert sweeping.requeue_expired(session) == 1
    assert [registry.job(one).state for one in (job, resize)] == ["queued", "queued"]


def test_deleting_the_model_cancels_both(registry: Registry) -> None:
    job, resize = followed(registry, "1", "2")
    with registry.database.transaction() as session:
        deletions.delete_model(session, registry.model, purge=None)
    assert [registry.job(one).state for one in (job, resize)] == ["cancelled", "cancelled"]


def test_a_job_has_one_follower(registry: Registry) -> None:
    job, _ = followed(registry, "1", "2")
    other = registry.submit("resize")
    with pytest.raises(IntegrityError), registry.database.transaction() as session:
        session.execute(
            text("UPDATE jobs SET follows = :first WHERE id = :second").bindparams(
                first=job.id, second=other.id
            )
        )


def test_no_resize_follows_a_job_after_which_no_label_is_permanent(registry: Registry) -> None:
    with pytest.raises(NoPermanentLabel):
        submit(registry, "learn", "1", retention="temporary", resize=AUTO)
    registry.publish_job("learn", "1")
    with pytest.raises(NoPermanentLabel, match="after this job"):
        submit(registry, "forget", "1", resize=AUTO)
    assert submit(registry, "learn", "2", retention="temporary", resize=AUTO).follower is not None


REQUESTED = {"resize": AUTO, "demands": Demands(resize=True)}


@pytest.mark.parametrize("end", ["queued", "published"])
def test_a_forget_again_is_answered_with_the_job_that_the_same_resize_follows(
    registry: Registry, end: str
) -> None:
    registry.publish_job("learn", "1", "2")
    first = submit(registry, "forget", "1", **REQUESTED)
    assert first.follower is not None
    if end == "published":
        registry.publish(registry.claim(first.job))
        registry.publish(registry.claim(first.follower))
    for fields in ({}, REQUESTED):
        again = submit(registry, "forget", "1", **fields)
        assert (again.job.id, again.is_new, again.follower) == (first.job.id, False, None)
    other = ResizeSpec(strategy="prune", params={}, dataset="digits")
    with pytest.raises(NothingToFollow, match=first.job.id):
        submit(registry, "forget", "1", resize=other, demands=Demands(resize=True))


@pytest.mark.parametrize("before", [{}, REQUESTED], ids=["without", "cancelled"])
def test_a_resize_cannot_follow_a_forget_that_is_done_without_one(
    registry: Registry, before: dict[str, Any]
) -> None:
    registry.publish_job("learn", "1", "2", "3")
    first = submit(registry, "forget", "1", **before)
    if first.follower is not None:
        with registry.database.transaction() as session:
            jobs.cancel(session, first.follower.id)
    registry.publish(registry.claim(first.job))
    with pytest.raises(NothingToFollow, match="/resize") as refused:
        submit(registry, "forget", "1", **REQUESTED)
    assert refused.value.job_id == first.job.id
    assert submit(registry, "forget", "1", resize=AUTO).job.id == first.job.id, "it was not requested"
    assert submit(registry, "forget", "1", "2", **REQUESTED).follower is not None, "there is a new version"


def test_the_limits_of_the_queue_count_the_resize_too(registry: Registry) -> None:
    followed(registry, "1", "2")
    with registry.database.reading() as session:
        queue_limits.check_room(session, "key_1", new=2, most=4, most_of_key=4)
        queue_limits.check_room(session, "key_2", new=1, most=3, most_of_key=1)
        with pytest.raises(QueueFull, match="3 jobs are queued"):
            queue_limits.check_room(session, "key_1", new=2, most=3, most_of_key=9)
        with pytest.raises(QueueFull, match="3 jobs of this API key"):
            queue_limits.check_room(session, "key_1", new=2, most=9, most_of_key=3)
