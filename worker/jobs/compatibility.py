"""Whether this worker knows all of a job, which a newer release may have accepted."""

import logging

from pydantic import ValidationError
from sqlalchemy import select

from service.registry.tables import JobRow
from worker.jobs.acceptance import AcceptanceCriteria
from worker.jobs.inputs import WorkerContext
from worker.learning import strategy
from worker.learning.judging.evaluation import FullParams
from worker.learning.strategy import StrategyParams

log = logging.getLogger(__name__)

UNKNOWN = {"extra_forbidden": "param", "literal_error": "value of the param", "enum": "value of the param"}
"""{type of a validation error: what a newer release has that this one does not know}."""


def is_for_newer_release(job_id: str, worker_context: WorkerContext) -> bool:
    """Whether the queued job has something that only a newer release knows. It then stays queued for it."""
    with worker_context.database.reading() as session:
        job = session.scalar(select(JobRow).where(JobRow.id == job_id, JobRow.state == "queued"))
    unknown = find_unknown(job) if job is not None else None
    if unknown is not None:
        log.warning(
            "job %s stays queued: this release does not know its %s; start a worker of the release that "
            "accepted it, or cancel it",
            *(job_id, unknown),
        )
    return unknown is not None


def find_unknown(job: JobRow) -> str | None:
    """Return what of the job this release does not know, such as "param x"; None if it knows everything.

    Other mistakes in the params are not looked for: they fail the job when it runs.
    """
    if unknown := set(job.acceptance) - set(AcceptanceCriteria.model_fields):
        return f"acceptance criterion {min(unknown)}"
    try:
        _params_of(job).model_validate(job.params)
    except KeyError:
        return f"{job.operation} strategy {job.strategy}"
    except ValidationError as error:
        for one in error.errors():
            if one["type"] in UNKNOWN:
                return f"{UNKNOWN[one['type']]} {'.'.join(map(str, one['loc']))}"
    return None


def _params_of(job: JobRow) -> type[StrategyParams]:
    """Return the schema of the job's params. Raises KeyError."""
    return FullParams if job.operation == "evaluate" else strategy.find(job.operation, job.strategy).Params
