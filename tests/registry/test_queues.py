"""Which jobs a worker finds by its queues, what jobs wait for, and the figures of each queue."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from sqlalchemy import exc, update

from service.registry import claims, jobs, labels, statistics, workers
from service.registry.database import from_now
from service.registry.job_requests import JobRequest
from service.registry.job_specs import LearnSpec
from service.registry.tables import JobRow, WorkerRow
from tests.job_specs import job_spec
from tests.registries import Registry


def submit(registry: Registry, operation: str, *names: str, **request: object) -> JobRow:
    """Submit a job with the queue and the priority of the request."""
    spec = job_spec(operation, *names)  # type: ignore[arg-type]
    with registry.database.transaction() as session:
        model = jobs.lock_model(session, registry.model)
        statuses = labels.projected_statuses(session, model)
        return jobs.submit(
            session,
            model,
            spec,
            statuses,
            max_attempts=3,
            request=JobRequest(**request),  # type: ignore[arg-type]
        ).job


def found(registry: Registry, *queues: str) -> list[tuple[str, int]]:
    """Return (id, priority) of the jobs that a worker of these queues could claim."""
    with registry.database.reading() as session:
        waiting = claims.find_waiting(session, queues)
    return [(job.id, job.priority) for job in sorted(waiting, key=lambda job: job.sequence)]


def sign_in(registry: Registry, name: str, queues: Sequence[str] = ("default",)) -> None:
    with registry.database.transaction() as session:
        workers.sign_in(session, name, code="this", offers=None, queues=queues)


def waits_for(registry: Registry, job: JobRow) -> str | None:
    with registry.database.reading() as session:
        return workers.find_waiting(session, [jobs.find(session, job.id)]).get(job.id)


def test_a_forget_has_a_larger_priority_than_other_jobs_unless_its_request_has_one(
    registry: Registry, new_model: Callable[[str], Registry]
) -> None:
    other = new_model("other")
    assert [
        submit(registry, "learn", "1", "2").priority,
        submit(registry, "forget", "1").priority,
        submit(other, "learn", "1", "2", priority=-10).priority,
        submit(other, "forget", "1", priority=0).priority,
    ] == [0, 5, -10, 0]


def test_a_resize_that_follows_has_the_queue_and_the_priority_of_its_job(registry: Registry) -> None:
    learn = job_spec("learn", "1")
    assert isinstance(learn, LearnSpec)
    spec = replace(learn, resize=job_spec("resize"))  # type: ignore[arg-type]
    with registry.database.transaction() as session:
        model = jobs.lock_model(session, registry.model)
        request = JobRequest(queue="gpu", priority=7)
        submitted = jobs.submit(session, model, spec, {}, max_attempts=3, request=request)
        assert submitted.follower is not None
        assert (submitted.follower.queue, submitted.follower.priority) == ("gpu", 7)


@pytest.mark.parametrize("priority", [-11, 11])
def test_the_database_refuses_other_priorities(registry: Registry, priority: int) -> None:
    job = registry.submit("learn", "1")
    with pytest.raises(exc.IntegrityError), registry.database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.id == job.id).values(priority=priority))


def test_jobs_are_found_by_their_queue(registry: Registry, new_model: Callable[[str], Registry]) -> None:
    other = new_model("other")
    on_gpu, here = submit(registry, "learn", "1", queue="gpu"), submit(other, "learn", "1")
    assert found(registry, "default") == [(here.id, 0)]
    assert found(registry, "gpu") == [(on_gpu.id, 0)]
    assert found(registry, "default", "gpu") == [(on_gpu.id, 0), (here.id, 0)]
    assert found(registry, "nobody") == []


def test_a_change_waits_for_an_earlier_one_of_another_queue(registry: Registry) -> None:
    first = submit(registry, "learn", "1", queue="gpu")
    second = submit(registry, "learn", "2")
    assert found(registry, "default") == []
    registry.publish(registry.claim(first))
    assert found(registry, "default") == [(second.id, 0)]


def test_an_evaluation_waits_neither_for_one_of_another_queue_nor_of_a_smaller_priority(
    registry: Registry,
) -> None:
    registry.publish_job("learn", "1")
    first, urgent = submit(registry, "evaluate", queue="gpu"), submit(registry, "evaluate", priority=9)
    later = submit(registry, "evaluate")
    assert found(registry, "default") == [(urgent.id, 9), (later.id, 0)]
    assert found(registry, "gpu") == [(first.id, 0)]


def test_a_job_of_a_queue_that_no_live_worker_serves_says_so(registry: Registry) -> None:
    job = submit(registry, "learn", "1", queue="gpu")
    reason = "no running worker serves the queue gpu"
    assert waits_for(registry, job) == reason
    sign_in(registry, "a:1")
    assert waits_for(registry, job) == reason
    with registry.database.reading() as session:
        assert workers.count_waiting(session, seconds=-1) == {reason: 1}
    sign_in(registry, "b:1", ["default", "gpu"])
    assert waits_for(registry, job) is None
    with registry.database.reading() as session:
        assert workers.count_waiting(session, seconds=-1) == {}
    with registry.database.transaction() as session:
        workers.request_drain(session, ["b:1"], "finish")
    assert waits_for(registry, job) == reason


def test_a_job_of_the_default_queue_says_so_where_all_workers_serve_others(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    assert waits_for(registry, job) is None  # /readyz says that no worker runs at all
    sign_in(registry, "a:1", ["gpu"])
    assert waits_for(registry, job) == "no running worker serves the queue default"


def test_a_worker_of_an_earlier_release_serves_the_default_queue(registry: Registry) -> None:
    sign_in(registry, "a:1")
    with registry.database.transaction() as session:
        session.execute(update(WorkerRow).values(queues=None))
    with registry.database.reading() as session:
        assert workers.find_served(session) == {"default": 1}


def test_each_queue_has_figures(registry: Registry, new_model: Callable[[str], Registry]) -> None:
    sign_in(registry, "a:1", ["default", "gpu"])
    other = new_model("other")
    registry.claim(submit(registry, "learn", "1", queue="gpu"))
    submit(registry, "learn", "2", queue="gpu")
    submit(other, "learn", "1", queue="gpu")
    submit(other, "learn", "2", queue="big")
    with registry.database.transaction() as session:
        session.execute(update(JobRow).values(created_at=from_now(-5)))
    with registry.database.reading() as session:
        queues = statistics.read(session).queues
    counted = {name: (one.queued, one.demand, one.workers) for name, one in queues.items()}
    assert counted == {"default": (0, 0, 1), "gpu": (2, 2, 1), "big": (1, 0, 0)}
    assert queues["gpu"].wait_seconds >= 5
    assert queues["big"].wait_seconds == 0
