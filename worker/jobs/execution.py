"""The bridge between the registry and the learner: one job from its claim to its version, or to its report.

claim -> load checkpoint and examples -> strategy -> judge -> gate -> durable files -> publish.
claim -> load checkpoint -> measure in full -> durable report -> record.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy.orm import Session
from torch import Tensor

from reports import Evaluated, ExampleCounts, Report
from service.registry import artifact_references, claims, jobs, publishing, reports, sweeping
from service.registry.claims import Claim, ClaimState
from service.registry.errors import DatabaseUnavailable, FencedOff
from service.registry.job_specs import EvaluateSpec
from service.registry.publishing import Origin, Publication
from service.registry.reports import MeasuredReport
from service.registry.tables import Level, ReportRow
from service.registry.version_files import MANIFEST
from worker.jobs.acceptance import AcceptanceCriteria, apply_criteria, refusal
from worker.jobs.classifiers import FEATURE_NETWORKS, JUDGES, ClassifierSource, classifier_finder
from worker.jobs.cost import CostMeter
from worker.jobs.failures import describe_failure
from worker.jobs.heartbeat import Heartbeat
from worker.jobs.inputs import ModelArchive, Work, WorkerContext, load_dataset, read_examples, read_work
from worker.jobs.version_files import File, report_file, store, store_again, version_files
from worker.learning import drawing, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.datasets import Dataset
from worker.learning.judging.classifiers import C
from worker.learning.judging.evaluation import FullParams
from worker.learning.judging.full_report import measure_full_report
from worker.learning.judging.quick_report import measure_quick_report
from worker.learning.strategy import Examples, Progress, Stopped, TrainingContext
from worker.learning.transition import apply_strategy

log = logging.getLogger(__name__)

RECORD_AGAIN_SECONDS = 0.5
DRAWS_PER_LABEL = 1000
STOPPED: dict[ClaimState, str] = {
    "cancel_requested": "cancelled",
    "held": "given back to the queue",
    "lost": "another worker has taken it over; nothing is published here",
}
"""What became of a job that stopped, for the log."""


def execute(job_id: str, worker_context: WorkerContext) -> str | None:
    """Run the job to its end, if it can be claimed. Returns the id of the model's next job, if there is one.

    Raises DatabaseUnavailable where the end of the job cannot be recorded: its lease then runs out, and the
    job is run again.
    """
    with worker_context.database.transaction() as session:
        claim = claims.claim(
            session, job_id, worker=worker_context.worker, lease_seconds=worker_context.lease_seconds
        )
    if claim is None:
        return None
    log.info("job %s: attempt %d", job_id, claim.attempt)
    with Heartbeat(worker_context.database, claim, lease_seconds=worker_context.lease_seconds) as heartbeat:
        attempt = Attempt(worker_context, claim, heartbeat, CostMeter())
        try:
            attempt.run()
        except (Stopped, FencedOff) as reason:
            attempt.stop(reason)
        except DatabaseUnavailable:
            raise
        except Exception as error:
            attempt.fail(error)
    with worker_context.database.reading() as session:
        return sweeping.find_next_of_model(session, claim.model_id)


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job, under the claim that this worker holds."""

    worker_context: WorkerContext
    claim: Claim
    heartbeat: Heartbeat
    meter: CostMeter

    def run(self) -> None:
        """Run the job to its end. Raises Stopped, FencedOff, and what its strategy or a judge raises."""
        work = read_work(self.claim, self.worker_context)
        context = TrainingContext(
            self.worker_context.device,
            work.seed,
            request_seed=work.request_seed,
            archive=ModelArchive(self.worker_context, work, self.meter),
            precision=self.worker_context.precision,
            on_progress=self.show,
            should_stop=self.should_stop,
        )
        if isinstance(work.spec, EvaluateSpec):
            self.evaluate(work, context)
        else:
            self.change(work, context)

    def change(self, work: Work, context: TrainingContext) -> None:
        """From the base version to the next one, unless what is measured of it misses a criterion."""
        examples = read_examples(work.job, self.worker_context)
        for name, images in examples.images.items():
            self.meter.count(name, len(images))
        checkpoint = _changed(work, examples, context)
        self.record(lambda session: claims.start_verifying(session, self.claim))
        measured = _measure(checkpoint, self.worker_context, context).model_copy(
            update={
                "examples": _count_examples(examples),
                "guarantee": context.outcome.guarantee if work.job.operation == "forget" else None,
                "findings": context.findings,
            }
        )
        report = apply_criteria(measured, AcceptanceCriteria.model_validate(work.job.acceptance))
        refused = refusal(report)
        if refused:
            self.refuse(refused, report)
            return
        files = version_files(
            checkpoint,
            report,
            model=work.model,
            job=work.job,
            base=work.base,
            seed=work.seed,
            before=work.checkpoint,
        )
        publication = Publication(
            parent=work.base.number if work.base else None,
            labels={**checkpoint.retained, **dict.fromkeys(checkpoint.temporary)},
            origins={
                label.name: Origin(label.dataset, label.renamed_from)
                for one in (checkpoint, *checkpoint.isolated)
                for label in one.labels
            },
            files=store(files, self.worker_context.artifacts),
            parameters=sum(one.parameters for one in (checkpoint, *checkpoint.isolated)),
            widths=checkpoint.widths,
            report=report,
            cost=self.meter.cost(),
        )
        self.record(lambda session: self.publish_once(session, publication, files))
        log.info("job %s: succeeded", self.claim.job_id)

    def publish_once(self, session: Session, publication: Publication, files: Mapping[str, File]) -> None:
        """An earlier try may have been committed without the answer coming through; and a purge may have
        deleted a file of another version that is the same as one of these."""
        if publishing.find_published_by(session, self.claim.job_id) is None:
            artifact_references.lock_against_deletion(session)
            store_again(files, self.worker_context.artifacts)
            publishing.publish(session, self.claim, publication)

    def refuse(self, error: Mapping[str, Any], report: Report) -> None:
        """The head stays; what was measured of the candidate is kept with the job."""
        measured, cost = self.kept("quick", report), self.meter.cost()
        self.record(lambda session: reports.record_rejected(session, self.claim, error, measured, cost))
        log.info("job %s: rejected, %s", self.claim.job_id, error["message"])

    def evaluate(self, work: Work, context: TrainingContext) -> None:
        """Everything the judges can say of a version that exists; it stays what it is."""
        report = _measure_in_full(work, self.worker_context, context)
        measured, cost = self.kept("full", report), self.meter.cost()
        self.record(lambda session: _record_once(session, self.claim, measured, cost))
        log.info("job %s: succeeded", self.claim.job_id)

    def kept(self, level: Level, report: Report) -> MeasuredReport:
        """The report, its bytes made durable."""
        return MeasuredReport(level, self.worker_context.artifacts.put(report_file(report)), report)

    def show(self, progress: Progress) -> None:
        self.meter.show(progress)
        self.heartbeat.show(progress)

    def should_stop(self) -> bool:
        return self.heartbeat.claim_state != "held" or self.worker_context.shutting_down()

    def stop(self, reason: Exception) -> None:
        """Cancel the job if a client asked for that, else give it back to the queue.

        A job that another worker has taken over is left as it is.
        """

        def settle(session: Session) -> None:
            claim_state = claims.heartbeat(
                session, self.claim, lease_seconds=self.worker_context.lease_seconds, progress=None
            )
            if claim_state == "cancel_requested":
                claims.finish_cancelled(session, self.claim)
            elif claim_state == "held":
                claims.release(session, self.claim)
            log.info("job %s: stopped, %s (%s)", self.claim.job_id, STOPPED[claim_state], reason)

        self.record(settle)

    def fail(self, error: Exception) -> None:
        failure = describe_failure(error, self.claim.job_id)
        log.warning("job %s: failed, %s: %s", self.claim.job_id, failure["code"], failure["message"])
        try:
            self.record(lambda session: claims.finish_failed(session, self.claim, failure))
        except FencedOff as reason:
            self.stop(reason)

    def record(self, change: Callable[[Session], object]) -> None:
        """Make the change in a transaction, again and again while the database does not answer.

        A transaction whose COMMIT got no answer may have been committed: `change` must notice that by itself.
        Raises DatabaseUnavailable once the lease has run out, when another worker may have the job.
        """
        while True:
            try:
                with self.worker_context.database.transaction() as session:
                    change(session)
                return
            except DatabaseUnavailable:
                if self.heartbeat.claim_state == "lost":
                    raise
                time.sleep(RECORD_AGAIN_SECONDS)


def _changed(work: Work, examples: Examples, context: TrainingContext) -> Checkpoint:
    """What the strategy makes of the base version."""
    job = work.job
    chosen = strategy.find(job.operation, job.strategy)
    params = chosen.Params.model_validate(job.params)
    changed = apply_strategy(work.checkpoint, chosen, examples, params, context)
    return changed.renamed(job.renamed or {})


def _count_examples(examples: Examples) -> ExampleCounts:
    """How many real images of each label the job was given."""
    counts = {name: len(images) for name, images in examples.images.items()}
    return ExampleCounts(dataset=examples.dataset, labels=counts)


def _measure(checkpoint: Checkpoint, worker_context: WorkerContext, context: TrainingContext) -> Report:
    """The report on every label the checkpoint knows, forgotten ones included."""
    drawn, labels_in_all = count(), sum(len(one.labels) for one in (checkpoint, *checkpoint.isolated))

    def draw(checkpoint: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        context.step("judging", next(drawn), labels_in_all)
        return drawing.draw(checkpoint, label, n, seed)

    return measure_quick_report(
        checkpoint,
        _classifier_finder(JUDGES, worker_context, context),
        n=DRAWS_PER_LABEL,
        seed=context.seed,
        draw=draw,
        held_out=context.archive.held_out,
    )


def _measure_in_full(work: Work, worker_context: WorkerContext, context: TrainingContext) -> Report:
    """The full report on the base version, bound to it by hash, held to what it was published under."""
    assert work.base is not None
    with worker_context.database.reading() as session:
        acceptance = jobs.find(session, work.base.job_id).acceptance
    params = FullParams.model_validate(work.job.params)
    report = measure_full_report(
        work.checkpoint,
        _classifier_finder(JUDGES, worker_context, context),
        _classifier_finder(FEATURE_NETWORKS, worker_context, context),
        context,
        params,
        draw=drawing.draw,
    )
    evaluated = Evaluated(
        version=work.base.number,
        manifest_sha256=work.base.files[MANIFEST]["sha256"],
        params=work.job.params,
        seed=work.job.seed,
    )
    return apply_criteria(
        report.model_copy(update={"evaluated": evaluated}), AcceptanceCriteria.model_validate(acceptance)
    )


def _classifier_finder(
    source: ClassifierSource[C], worker_context: WorkerContext, context: TrainingContext
) -> Callable[[str], C]:
    """Return a function that finds the classifier of a dataset by its name, for this job."""

    def read_dataset(name: str) -> Dataset:
        return load_dataset(name, worker_context)

    return classifier_finder(source, read_dataset, worker_context.judges, context)


def _record_once(session: Session, claim: Claim, measured: MeasuredReport, cost: Mapping[str, Any]) -> None:
    """An earlier try may have been committed without the answer coming through."""
    if session.get(ReportRow, claim.job_id) is None:
        reports.record(session, claim, measured, cost)
