"""Forget temporary labels that have expired: as a request to forget would, with a job and a receipt."""

import logging

from service.queue.messages import wake_worker
from service.registry import audit, expiring, jobs, labels, models
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, RegistryError
from service.registry.job_requests import JobRequest
from service.registry.sweeping import NextJob
from service.requests.catalog import read_catalog
from service.requests.operations import Forget, ModelDefaults
from service.requests.violations import InvalidRequest
from service.settings import Settings

log = logging.getLogger(__name__)


def forget_expired(database: Database, deployment: Settings) -> None:
    """Submit a forget for the labels of each model that have expired. Raises DatabaseUnavailable.

    It waits its turn, as every job does. If it does not succeed, another one is submitted a minute later.
    """
    with database.reading() as session:
        due = expiring.find_models_due(session)
    for model_id in due:
        try:
            job = _forget(database, deployment, model_id)
        except DatabaseUnavailable as error:
            if not error.has_answered:
                raise
            log.warning("model %s: the database refuses to forget labels that have expired", model_id)
            continue
        except (RegistryError, InvalidRequest) as error:
            reason = error.code if isinstance(error, RegistryError) else type(error).__name__
            log.error("model %s: cannot forget labels that have expired (%s); trying again", model_id, reason)
            continue
        except Exception:
            log.exception("model %s: cannot forget labels that have expired; trying again", model_id)
            continue
        if job is not None:
            wake_worker(job.id, deployment, queue=job.queue)


def _forget(database: Database, deployment: Settings, model_id: str) -> NextJob | None:
    """Return the new job; None if there is none, as queued jobs decide about the labels."""
    with database.transaction(line=model_id) as session:
        model = jobs.lock_model(session, models.get(session, model_id))
        statuses = labels.projected_statuses(session, model)
        names = [
            name for name in expiring.find_labels_due(session, model) if statuses.get(name) == "temporary"
        ]
        if not names:
            return None
        defaults = ModelDefaults(dataset=model.dataset, size_policy=model.size_policy)
        spec = Forget(labels=names).resolve(read_catalog(), statuses, defaults)
        request = JobRequest(created_by=expiring.REQUESTED_BY)
        job = jobs.submit(
            session, model, spec, statuses, max_attempts=deployment.max_attempts, request=request
        ).job
        audit.append(
            session,
            "job.submit",
            job.id,
            actor=audit.SERVICE,
            project_id=model.project_id,
            details={"operation": "forget", "model": model.id, "labels": names, "reason": "expired"},
        )
    log.info("model %s: %d labels have expired; job %s forgets them", model_id, len(names), job.id)
    return NextJob(job.id, job.queue)
