"""Short ways to say, in this process: a model, a job asked for, a job as it ended, the versions it made."""

from typing import Any

from service.registry import jobs, models, versions
from service.registry.database import Database
from service.registry.tables import JobRow, ModelRow, Operation, VersionRow
from tests.instance import TINY_NETWORK, schedule
from tests.job_specs import job_spec
from worker.jobs.inputs import WorkerContext

STRATEGIES = {"learn": "replay_ewc", "forget": "surrogate", "resize": "expand", "evaluate": "full"}

FEW: dict[str, Any] = {
    "seeds": 3,
    "reference": {"steps": 3, "batch_size": 16},
    "draws": 100,
    "attacks": 64,
    "attack_steps": 20,
    "relearning": {"steps": 8, "batch_size": 16},
    "capacity_examples": 50,
}
"""Params of an evaluate job that takes a second or two."""


def new_model(database: Database, name: str, **more: Any) -> ModelRow:
    with database.transaction() as session:
        return models.create(session, name=name, dataset="digits", network=TINY_NETWORK, seed=3, **more)


def ask(
    worker_context: WorkerContext, model: ModelRow, operation: Operation, *labels: str, **changes: Any
) -> str:
    params = {"resize": {"fisher_examples": 50}, "evaluate": FEW}.get(operation, schedule(3))
    if operation == "forget" and "strategy" not in changes:
        params |= {"naive_steps": 3}
    max_attempts = changes.pop("max_attempts", 3)
    spec = job_spec(operation, *labels, **({"strategy": STRATEGIES[operation], "params": params} | changes))
    with worker_context.database.transaction() as session:
        return jobs.submit(session, model, spec, request_id=None, max_attempts=max_attempts).id


def job(worker_context: WorkerContext, job_id: str) -> JobRow:
    with worker_context.database.reading() as session:
        return jobs.find(session, job_id)


def chain(worker_context: WorkerContext, model: ModelRow) -> list[VersionRow]:
    with worker_context.database.reading() as session:
        return versions.page(session, model, limit=100).rows[::-1]
