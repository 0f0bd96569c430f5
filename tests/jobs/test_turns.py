"""A worker serves the largest priority first, and projects and models in turn; whatever a message names."""

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import select, update

from service.registry import projects
from service.registry.claims import WaitingJob
from service.registry.database import Database
from service.registry.tables import JobRow, ModelRow
from tests.jobs.worker_contexts import new_model, submit
from worker.jobs.inputs import WorkerContext
from worker.jobs.turns import MAX_REMEMBERED, MAX_TRIED, WITHOUT_PRIORITY, Turns


def waiting(*models: str) -> list[WaitingJob]:
    """One job for each name PROJECT/MODEL, the oldest first."""
    return [WaitingJob(name, name.split("/")[0], name, number) for number, name in enumerate(models)]


def served(turns: Turns, queued: Mapping[str, int]) -> str:
    """Serve so many jobs of each model; return the models in the order of their turns."""
    left, order = dict(queued), []
    while left:
        job = turns.order(waiting(*left))[0]
        turns.note(job)
        order.append(job.model_id)
        left[job.model_id] -= 1
        left = {model: count for model, count in left.items() if count}
    return " ".join(order)


def test_a_project_with_many_jobs_delays_another_by_one() -> None:
    assert served(Turns(), {"a/1": 3, "a/2": 3, "b/1": 2}) == "a/1 b/1 a/2 b/1 a/1 a/2 a/1 a/2"


def test_of_those_that_were_never_served_the_oldest_comes_first() -> None:
    turns = Turns()
    assert [job.id for job in turns.order(reversed(waiting("a/1", "b/1", "c/1")))] == ["a/1", "b/1", "c/1"]


def test_what_is_remembered_is_bounded() -> None:
    turns = Turns()
    for number in range(MAX_REMEMBERED):
        turns.note(WaitingJob("", f"p{number}", f"m{number}", number))
    assert len(turns._served) <= MAX_REMEMBERED + 1


def names_of_ended(database: Database) -> list[str]:
    with database.reading() as session:
        ended = select(ModelRow.name).join(JobRow, JobRow.model_id == ModelRow.id)
        return list(session.scalars(ended.where(JobRow.state == "succeeded").order_by(JobRow.finished_at)))


def test_one_message_runs_one_job_and_all_jobs_run(worker_context: WorkerContext, database: Database) -> None:
    with database.transaction() as session:
        other = projects.create(session, "other").id
    many = [new_model(database, name) for name in ("m1", "m2")]
    one = new_model(database, "one", project=other)
    for model in many:
        submit(worker_context, model, "learn", "0")
        submit(worker_context, model, "resize")
    submit(worker_context, one, "learn", "0")
    turns = Turns()
    for count in range(1, 6):
        turns.run_one(worker_context)
        assert len(names_of_ended(database)) == count
    assert names_of_ended(database) == ["m1", "one", "m2", "m1", "m2"]
    assert turns.run_one(worker_context) is None


def test_jobs_that_this_worker_cannot_run_do_not_keep_it_from_others(
    worker_context: WorkerContext, database: Database
) -> None:
    for number in range(MAX_TRIED + 5):
        strange = submit(worker_context, new_model(database, f"s{number}"), "learn", "0")
        with database.transaction() as session:
            row = session.scalars(select(JobRow).where(JobRow.id == strange)).one()
            row.packages = {"strategy": "palimpsest-nowhere"}
    submit(worker_context, new_model(database, "m"), "learn", "0")
    turns = Turns()
    for _ in range(2):
        turns.run_one(worker_context)
    assert names_of_ended(database) == ["m"]


def test_jobs_with_a_small_priority_run_however_many_others_come(
    worker_context: WorkerContext, database: Database
) -> None:
    slow = new_model(database, "slow")
    submit(worker_context, slow, "learn", "0")
    prioritise(database, slow, -10)
    turns = Turns()
    for number in range(WITHOUT_PRIORITY):
        urgent = new_model(database, f"urgent{number}")
        submit(worker_context, urgent, "learn", "0")
        prioritise(database, urgent, 10)
        turns.run_one(worker_context)
    assert names_of_ended(database) == ["urgent0", "urgent1", "urgent2", "slow"]


def test_a_larger_priority_comes_before_the_turns_of_projects() -> None:
    [a1, a2, b1] = waiting("a/1", "a/2", "b/1")
    turns = Turns()
    turns.note(a1)
    assert turns.order([a2, b1]) == [b1, a2]
    urgent = a2._replace(priority=1)
    assert turns.order([urgent, b1]) == [urgent, b1]


def test_a_change_has_the_priority_of_one_that_waits_for_it(
    worker_context: WorkerContext, database: Database
) -> None:
    first, other = new_model(database, "first"), new_model(database, "other")
    submit(worker_context, other, "learn", "0")
    submit(worker_context, first, "learn", "0", "1")
    submit(worker_context, first, "forget", "0")
    turns = Turns()
    for _ in range(3):
        turns.run_one(worker_context)
    assert names_of_ended(database) == ["first", "first", "other"]


def test_a_worker_takes_only_jobs_of_its_queues(worker_context: WorkerContext, database: Database) -> None:
    for number, queue in enumerate(("gpu", "default", "gpu")):
        model = new_model(database, f"{queue}{number}", queue=queue)
        submit(worker_context, model, "learn", "0")
    turns = Turns()
    turns.run_one(worker_context)
    assert turns.run_one(worker_context) is None
    assert names_of_ended(database) == ["default1"]
    on_gpu = replace(worker_context, queues=("gpu",))
    for _ in range(2):
        turns.run_one(on_gpu)
    assert names_of_ended(database) == ["default1", "gpu0", "gpu2"]


def test_urgent_jobs_that_this_worker_cannot_run_do_not_keep_it_from_others(
    worker_context: WorkerContext, database: Database
) -> None:
    for number in range(MAX_TRIED + 5):
        model = new_model(database, f"s{number}")
        strange = submit(worker_context, model, "learn", "0")
        prioritise(database, model, 10)
        with database.transaction() as session:
            row = session.scalars(select(JobRow).where(JobRow.id == strange)).one()
            row.packages = {"strategy": "palimpsest-nowhere"}
    for name in ("m", "n"):
        submit(worker_context, new_model(database, name), "learn", "0")
    turns = Turns()
    for _ in range(3):
        turns.run_one(worker_context)
    assert names_of_ended(database) == ["m", "n"]


def prioritise(database: Database, model: ModelRow, priority: int) -> None:
    with database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.model_id == model.id).values(priority=priority))
