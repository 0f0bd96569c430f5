"""Whether this worker knows all of a job: another release may have accepted it, or it may need a package."""

import logging

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from service.registry import datasets as uploads
from service.registry import labels, workers
from service.registry.tables import JobRow
from service.registry.workers import Need
from worker.jobs.acceptance import AcceptanceCriteria
from worker.jobs.inputs import WorkerContext
from worker.learning import datasets, strategy
from worker.learning.judging.evaluation import FullParams
from worker.learning.networks import ARCHITECTURES
from worker.learning.strategy import Strategy, StrategyParams

log = logging.getLogger(__name__)

UNKNOWN = {"extra_forbidden": "param", "literal_error": "value of the param", "enum": "value of the param"}
"""{type of a validation error: what a newer release has that this one does not know}."""
MAX_LOGGED = 10_000
_logged: set[str] = set()
"""The ids of jobs that this process has logged: their messages come every few seconds."""


def is_for_another_worker(job_id: str, worker_context: WorkerContext) -> bool:
    """Whether the queued job needs what only another worker has. It stays queued for that, unclaimed.

    That is something of a newer release, or of a package that is not installed here.
    """
    with worker_context.database.reading() as session:
        query = select(JobRow).where(JobRow.id == job_id, JobRow.state == "queued")
        job = session.scalar(query.options(joinedload(JobRow.model)))
        if job is None or job.operation == "export":  # a decoder is all that it needs
            return False
        lack = find_lacking_package(session, job)
    if lack is not None:
        _log_once(
            job_id,
            "job %s stays queued: this worker has not %s; start a worker where that package is installed, or "
            "cancel the job",
            lack,
        )
        return True
    unknown = find_unknown(job)
    if unknown is not None:
        _log_once(
            job_id,
            "job %s stays queued: this release does not know its %s; start a worker of the release that "
            "accepted it, or cancel it",
            unknown,
        )
    return unknown is not None


def find_lacking_package(session: Session, job: JobRow) -> str | None:
    """Return what the job needs of a package that this worker has not; None if it has everything."""
    for need in workers.needs_of(job):
        if _package_here(need, job) != need.package:
            return str(need)
    architecture = job.model.network.get("architecture", "mlp")
    if architecture not in ARCHITECTURES:
        return f"the network {architecture}, which is not built in"
    for name in _datasets_of(session, job):
        if not _is_dataset_here(session, name, job):
            return f"the dataset {name}, which is not built in"
    return None


def _package_here(need: Need, job: JobRow) -> str | None:
    """Return the package that brings what this worker has of that name; None if nothing does."""
    try:
        match need.kind:
            case "strategy":
                package = strategy.find(job.operation, need.name).package
            case "network":
                package = ARCHITECTURES[need.name].package
            case _:
                package = datasets.find(need.name)[0].package
    except (KeyError, datasets.DatasetUnavailable):
        return None
    return None if package is None else package.name


def _datasets_of(session: Session, job: JobRow) -> set[str]:
    """Return the datasets that the job may read: to learn from, and to judge the labels of the model with."""
    learned = {row.dataset for row in labels.find_all(session, job.model_id).values()}
    return learned | ({job.dataset} if job.operation == "learn" else set())


def _is_dataset_here(session: Session, name: str, job: JobRow) -> bool:
    """Whether a job can read the dataset here, or on no worker, as one whose images were deleted."""
    if any(one.name == name for one in datasets.catalog()):
        return True
    is_uploaded = uploads.find(session, name, project=job.model.project_id) is not None
    return is_uploaded or not workers.was_ever_offered(session, "dataset", name)


def _log_once(job_id: str, message: str, what: str) -> None:
    if job_id not in _logged:
        if len(_logged) >= MAX_LOGGED:
            _logged.clear()
        _logged.add(job_id)
        log.warning(message, job_id, what)


def find_unknown(job: JobRow) -> str | None:
    """Return what of the job this release does not know, such as "param x"; None if it knows everything.

    Other mistakes in the params are not looked for: they fail the job when it runs.
    """
    if unknown := set(job.acceptance) - set(AcceptanceCriteria.model_fields):
        return f"acceptance criterion {min(unknown)}"
    try:
        if job.operation != "evaluate" and not (job.packages or {}).get("strategy"):
            _refuse_package(strategy.find(job.operation, job.strategy))
        _params_of(job).model_validate(job.params)
    except KeyError:
        return f"{job.operation} strategy {job.strategy}"
    except ValidationError as error:
        for one in error.errors():
            if one["type"] in UNKNOWN:
                return f"{UNKNOWN[one['type']]} {'.'.join(map(str, one['loc']))}"
    return None


def _refuse_package(found: Strategy) -> None:
    """Raise KeyError for a package's strategy in place of a built-in one, which only another release has."""
    if found.package is not None:
        raise KeyError(found.name)


def _params_of(job: JobRow) -> type[StrategyParams]:
    """Return the schema of the job's params. Raises KeyError."""
    return FullParams if job.operation == "evaluate" else strategy.find(job.operation, job.strategy).Params
