"""Whether a request is accepted depends on the model's labels and on the jobs that are queued for it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from service.registry import job_lists, jobs, labels
from service.registry.database import from_now
from service.registry.errors import (
    JobAlreadyFinished,
    LabelAlreadyLearned,
    ModelHasNoVersion,
    RegistryError,
    StaleBase,
    UnknownJob,
    UnknownLabel,
)
from service.registry.job_lists import JobFilter
from service.registry.tables import JobRow
from tests.registries import Registry


def test_learn_and_forget_can_be_submitted_right_after_each_other(registry: Registry) -> None:
    registry.submit("learn", "1", "2")
    registry.submit("forget", "1")
    registry.submit("resize")
    with registry.database.reading() as session:
        assert labels.projected_statuses(session, registry.model) == {"1": "forgotten", "2": "permanent"}


@pytest.mark.parametrize("published", [True, False], ids=["published", "queued"])
def test_a_label_that_is_learned_or_will_be_cannot_be_learned_again(
    registry: Registry, published: bool
) -> None:
    job = registry.submit("learn", "1", "2")
    if published:
        registry.publish(registry.claim(job))
    with pytest.raises(LabelAlreadyLearned, match="'2'"):
        registry.submit("learn", "2", "3")


def test_a_forgotten_label_is_learned_again_in_its_old_slot(registry: Registry) -> None:
    registry.publish_job("learn", "1", "2")
    registry.publish_job("forget", "1")
    version = registry.publish_job("learn", "1")
    with registry.database.reading() as session:
        again = labels.find_all(session, registry.model.id)["1"]
    assert (again.status, again.slot, again.generation, again.learned_version) == ("permanent", 0, 2, 3)
    assert (again.forgotten_by, again.forgotten_version) == (None, None)
    assert version.labels == {"1": 0, "2": 1}


def test_a_label_that_was_never_learned_cannot_be_forgotten(registry: Registry) -> None:
    registry.submit("learn", "1", "2")
    with pytest.raises(UnknownLabel, match="'7'"):
        registry.submit("forget", "1", "7")


def test_the_last_labels_of_a_model_can_be_forgotten_and_learned_again(registry: Registry) -> None:
    registry.publish_job("learn", "1", "2")
    assert registry.publish_job("forget", "1", "2").labels == {}
    assert registry.statuses() == {"1": "forgotten", "2": "forgotten"}
    assert registry.publish_job("learn", "1").labels == {"1": 0}


def test_forgetting_a_label_twice_returns_the_queued_job(registry: Registry) -> None:
    registry.submit("learn", "1", "2", "3")
    first = registry.submit("forget", "1")
    assert registry.submit("forget", "1").id == first.id


def test_forgetting_a_forgotten_label_returns_the_job_that_forgot_it(registry: Registry) -> None:
    registry.publish_job("learn", "1", "2", "3")
    forgetting = registry.submit("forget", "1")
    registry.publish(registry.claim(forgetting))
    assert registry.submit("forget", "1").id == forgetting.id
    assert registry.submit("forget", "1", "2").labels == ["2"]


def test_a_model_without_a_version_cannot_be_resized(registry: Registry) -> None:
    with pytest.raises(ModelHasNoVersion):
        registry.submit("resize")


def test_a_base_that_is_not_the_head_is_stale(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    registry.submit("learn", "2", base_version=1)
    with pytest.raises(StaleBase, match="base_version=1"):
        registry.submit("learn", "3", base_version=4)


def test_a_refused_request_leaves_no_row(registry: Registry) -> None:
    for names in (("9",), ("8", "9")):
        with pytest.raises(RegistryError):
            registry.submit("forget", *names)
    with registry.database.reading() as session:
        assert job_lists.page(session, limit=10).rows == []


def test_concurrent_requests_for_one_label_make_one_job(registry: Registry) -> None:
    def learn(_: int) -> str:
        try:
            return registry.submit("learn", "1").id
        except LabelAlreadyLearned:
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(learn, range(8)))
    assert answers.count("refused") == 7


def test_concurrent_requests_for_different_labels_are_all_accepted_in_one_order(registry: Registry) -> None:
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(lambda label: registry.submit("learn", str(label)), range(16)))
    assert len({job.sequence for job in accepted}) == 16
    with registry.database.reading() as session:
        rows = job_lists.page(session, only=JobFilter(registry.model.id), limit=16).rows
    assert [row.sequence for row in rows] == sorted((job.sequence for job in accepted), reverse=True)


def test_jobs_are_listed_by_model_and_by_the_state_that_clients_see(
    registry: Registry, new_model: Callable[[str], Registry]
) -> None:
    other = new_model("other")
    running, queued, elsewhere = (
        registry.submit("learn", "1"),
        registry.submit("learn", "2"),
        other.submit("learn", "1"),
    )
    registry.claim(running)
    with registry.database.transaction() as session:
        jobs.cancel(session, running.id)

    def listed(only: JobFilter, after: str | None = None) -> list[str]:
        with registry.database.reading() as session:
            return [row.id for row in job_lists.page(session, only=only, limit=10, after=after).rows]

    assert listed(JobFilter()) == [elsewhere.id, queued.id, running.id]
    assert listed(JobFilter(registry.model.id)) == [queued.id, running.id]
    assert listed(JobFilter(state="cancelling")) == [running.id]
    assert listed(JobFilter(state="running")) == []
    assert listed(JobFilter(state="queued"), after=elsewhere.id) == [queued.id]


def test_the_queue_position_is_the_number_of_unfinished_jobs_accepted_before(
    registry: Registry, new_model: Callable[[str], Registry]
) -> None:
    first, second, third = (
        registry.submit("learn", "1"),
        new_model("other").submit("learn", "1"),
        registry.submit("resize"),
    )
    registry.claim(first)
    with registry.database.reading() as session:
        positions = [jobs.queue_position(session, registry.job(job)) for job in (first, second, third)]
    assert positions == [None, 1, 2]


def test_cancelling_a_queued_job_ends_it_at_once_and_may_be_repeated(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    for _ in range(2):
        with registry.database.transaction() as session:
            cancelled = jobs.cancel(session, job.id)
    assert (cancelled.state, cancelled.finished_at is None) == ("cancelled", False)
    assert registry.try_claim(job) is None
    registry.submit("learn", "1")  # its label is free again


def test_a_finished_or_unknown_job_cannot_be_cancelled(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    registry.publish(registry.claim(job))
    with pytest.raises(JobAlreadyFinished, match="succeeded"), registry.database.transaction() as session:
        jobs.cancel(session, job.id)
    with pytest.raises(UnknownJob), registry.database.transaction() as session:
        jobs.cancel(session, "job_nowhere")


def set_back(registry: Registry, *jobs: JobRow, seconds: float = 60.0, column: str = "created_at") -> None:
    """Set the time at which these jobs were accepted (or finished) back."""
    with registry.database.transaction() as session:
        old = update(JobRow).where(JobRow.id.in_([job.id for job in jobs]))
        session.execute(old.values({column: from_now(-seconds)}))


def is_stalled(registry: Registry) -> bool:
    with registry.database.reading() as session:
        return jobs.is_queue_stalled(session, seconds=30.0)


def test_the_queue_is_stalled_if_jobs_wait_and_no_worker_runs_any(registry: Registry) -> None:
    job = registry.submit("learn", "1")
    assert not is_stalled(registry), "it was accepted a moment ago"
    set_back(registry, job)
    assert is_stalled(registry)
    registry.claim(job)
    assert not is_stalled(registry)


def test_the_queue_is_stalled_if_jobs_wait_while_another_is_held_without_progress(registry: Registry) -> None:
    first, second = registry.submit("learn", "1"), registry.submit("learn", "2")
    set_back(registry, first, second)
    registry.claim(first)
    assert not is_stalled(registry)
    set_back(registry, first, column="progress_at")
    assert is_stalled(registry), "a job that is claimed does not prove that a worker works"


def test_the_queue_is_not_stalled_between_two_jobs_of_a_worker(registry: Registry) -> None:
    first, second = registry.submit("learn", "1"), registry.submit("learn", "2")
    set_back(registry, first, second)
    registry.publish(registry.claim(first))
    assert not is_stalled(registry)
    set_back(registry, first, column="finished_at")
    assert is_stalled(registry), "since then no worker has claimed the second job"


def test_a_job_cancelled_in_the_queue_does_not_count_as_run(registry: Registry) -> None:
    first, second = registry.submit("learn", "1"), registry.submit("learn", "2")
    set_back(registry, first, second)
    with registry.database.transaction() as session:
        jobs.cancel(session, second.id)
    assert is_stalled(registry)
