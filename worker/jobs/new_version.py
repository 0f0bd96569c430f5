"""A learn, forget or resize job: make the next version of a model from its base version.

The strategy trains a candidate, the judge (an independent classifier of images) measures what it draws, and
the acceptance criteria decide. If the candidate passes, its files are stored durably, and one transaction
publishes them. A temporary label has a network of its own, isolated from the main one.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from reports import Report
from service import failpoints
from service.metrics import PUBLISH_SECONDS
from service.registry import claims, publishing, reports
from service.registry.publishing import Origin, Publication
from service.registry.reports import MeasuredReport
from service.registry.store_identity import check_store
from worker.jobs.acceptance import AcceptanceCriteria, acceptance_error, apply_criteria
from worker.jobs.attempt import Attempt
from worker.jobs.inputs import Work, WorkerContext, find_without_images, load_dataset, read_examples
from worker.jobs.measuring import count_examples, measure_candidate
from worker.jobs.storing import store_report
from worker.jobs.version_files import File, report_file, store, store_again, version_files
from worker.learning import strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.resuming import Environment
from worker.learning.strategy import Examples, TrainingContext
from worker.learning.transition import apply_strategy

log = logging.getLogger(__name__)


def make_version(attempt: Attempt, work: Work, context: TrainingContext) -> None:
    """Train and measure a candidate; publish it as the next version, or reject it if it fails a criterion."""
    examples = attempt.with_retries(lambda: read_examples(work, attempt.worker_context))
    for name, images in examples.images.items():
        attempt.meter.count(name, len(images))
    if examples.images:
        counted = ", ".join(f"{len(images):,} of {name}" for name, images in examples.images.items())
        attempt.note(f"read images of the dataset {examples.dataset}: {counted}")
    remark = _read_remark(attempt, work) if examples.images else None
    candidate = _train(work, examples, context)
    attempt.record(lambda session: claims.start_verifying(session, attempt.claim))
    measured = measure_candidate(candidate, work, attempt, context).model_copy(
        update={
            "examples": count_examples(examples),
            # What the strategy states of its result: whether forgetting was exact or approximate.
            "guarantee": context.outcome.guarantee if work.job.operation == "forget" else None,
            # What else the strategy measured, such as the units it removed.
            "findings": context.findings if remark is None else {**context.findings, "dataset_files": remark},
        }
    )
    unmeasurable = attempt.with_retries(
        lambda: find_without_images(
            [candidate.label(name) for name in candidate.forgotten], work, attempt.worker_context
        )
    )
    report = apply_criteria(
        measured,
        AcceptanceCriteria.model_validate(work.job.acceptance),
        unmeasurable=unmeasurable - set(work.job.labels),  # what this job forgets must be measured
    )
    attempt.note(_describe_measured(report))
    if error := acceptance_error(report):
        _reject(attempt, report, error)
    else:
        _publish(attempt, work, candidate, report, context.journal.environments)


def _read_remark(attempt: Attempt, work: Work) -> str | None:
    """Return what a person should know of the files that the job learns from; the client is told, too."""
    dataset = attempt.with_retries(lambda: load_dataset(work.job.dataset, work, attempt.worker_context))
    if dataset.remark is not None:
        attempt.note(f"warning: the dataset {dataset.name}: {dataset.remark}")
    return dataset.remark


def _describe_measured(report: Report) -> str:
    """Say for the client how the candidate did."""
    met = sum(one.verdict == "met" for one in report.criteria)
    return f"measured the candidate: it meets {met} of {len(report.criteria)} criteria"


def _train(work: Work, examples: Examples, context: TrainingContext) -> Checkpoint:
    """Return the candidate that the strategy makes from the base version."""
    chosen = strategy.find(work.job.operation, work.job.strategy)
    params = chosen.Params.model_validate(work.job.params)
    candidate = apply_strategy(work.checkpoint, chosen, examples, params, context)
    return candidate.renamed(work.job.renamed or {})


def _publish(
    attempt: Attempt, work: Work, candidate: Checkpoint, report: Report, environments: Sequence[Environment]
) -> None:
    with PUBLISH_SECONDS.time():
        _store_and_publish(attempt, work, candidate, report, environments)
    log.info("job %s: succeeded; published a version of model %s", attempt.claim.job_id, work.model.id)


def _store_and_publish(
    attempt: Attempt, work: Work, candidate: Checkpoint, report: Report, environments: Sequence[Environment]
) -> None:
    files = version_files(candidate, report, work, environments)
    entries = attempt.with_retries(lambda: _store(files, attempt.worker_context))
    failpoints.reach("publish.after_rename")
    networks = (candidate, *candidate.isolated)
    publication = Publication(
        parent=work.base.number if work.base else None,
        labels={**candidate.retained, **dict.fromkeys(candidate.temporary)},
        origins={
            label.name: Origin(label.dataset, label.renamed_from)
            for network in networks
            for label in network.labels
        },
        files=entries,
        parameters=sum(network.parameters for network in networks),
        widths=candidate.widths,
        report=report,
        cost=attempt.meter.cost(),
    )
    attempt.with_retries(  # as the transaction stores files again that were deleted meanwhile
        lambda: attempt.record(lambda session: _publish_once(session, attempt, publication, files))
    )
    failpoints.reach("publish.after_commit")


def _store(files: Mapping[str, File], worker_context: WorkerContext) -> dict[str, dict[str, Any]]:
    """Store the files in the store of this database: not in a new folder, in place of one that is gone."""
    check_store(worker_context.database, worker_context.artifacts)
    return store(files, worker_context.artifacts)


def _publish_once(
    session: Session, attempt: Attempt, publication: Publication, files: Mapping[str, File]
) -> None:
    """Publish the version, unless an earlier try did so and only its COMMIT got no answer."""
    if publishing.find_published_by(session, attempt.claim.job_id) is None:
        store_again(session, files, attempt.worker_context.artifacts)
        publishing.publish(session, attempt.claim, publication)
        failpoints.reach("publish.before_commit")


def _reject(attempt: Attempt, report: Report, error: Mapping[str, Any]) -> None:
    """Record the report of the candidate with the job. The head version of the model stays the same."""
    stored = MeasuredReport("quick", report_file(report).sha256, report)
    cost = attempt.meter.cost()
    store_report(
        attempt,
        report_file(report),
        lambda session: reports.record_rejected(session, attempt.claim, error, stored, cost),
    )
    log.info(
        "job %s: its candidate was rejected, nothing is published: %s", attempt.claim.job_id, error["code"]
    )
