"""An evaluate job: measure the full report on a published version. The version does not change."""

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from service.registry import jobs, reports
from service.registry.claims import Claim
from service.registry.reports import MeasuredReport
from service.registry.tables import ReportRow
from worker.jobs.acceptance import AcceptanceCriteria, apply_criteria
from worker.jobs.attempt import Attempt
from worker.jobs.inputs import Work, WorkerContext, find_without_images
from worker.jobs.measuring import measure_version
from worker.jobs.storing import store_report
from worker.jobs.version_files import report_file
from worker.learning.strategy import TrainingContext

log = logging.getLogger(__name__)


def evaluate_version(attempt: Attempt, work: Work, context: TrainingContext) -> None:
    """Measure the full report on a version, apply its acceptance criteria, and record the report."""
    criteria = attempt.with_retries(lambda: _criteria(work, attempt.worker_context))
    unmeasurable = attempt.with_retries(
        lambda: find_without_images(
            [work.checkpoint.label(name) for name in work.checkpoint.forgotten], work, attempt.worker_context
        )
    )
    report = apply_criteria(measure_version(work, attempt, context), criteria, unmeasurable=unmeasurable)
    file = report_file(report)
    stored = MeasuredReport("full", file.sha256, report)
    cost = attempt.meter.cost()
    store_report(attempt, file, lambda session: _record_once(session, attempt.claim, stored, cost))
    assert work.base is not None
    log.info(
        "job %s: succeeded; recorded the full report on version %d of model %s",
        *(attempt.claim.job_id, work.base.number, work.model.id),
    )


def _criteria(work: Work, worker_context: WorkerContext) -> AcceptanceCriteria:
    """Return the criteria of the job that published the version."""
    assert work.base is not None
    with worker_context.database.reading() as session:
        return AcceptanceCriteria.model_validate(jobs.find(session, work.base.job_id).acceptance)


def _record_once(session: Session, claim: Claim, stored: MeasuredReport, cost: Mapping[str, Any]) -> None:
    """Record the report, unless an earlier try did so and only its COMMIT got no answer."""
    if session.get(ReportRow, claim.job_id) is None:
        reports.record(session, claim, stored, cost)
