"""Publishing: the one transaction that ends a job as succeeded and inserts the version it made.

The worker that publishes shows its claim: the right to run the job for as long as its lease is extended. A
worker that was slower than its lease has lost the claim to another, and publishes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from reports import Report
from service.registry import elsewhere, exports, image_erasures, labels, purging
from service.registry.claims import Claim
from service.registry.database import now
from service.registry.errors import FencedOff, GuaranteeMissed, StaleBase
from service.registry.tables import CLAIMED_STATES, JobRow, LabelRow, ModelRow, ReceiptRow, VersionRow, new_id


class Origin(NamedTuple):
    """Where a label was learned from: a dataset, and its name there if the model has another name for it."""

    dataset: str
    renamed_from: str | None = None


@dataclass(frozen=True)
class Publication:
    """The result of a job, ready to become a version. Its files are durable artifacts already."""

    parent: int | None
    """The version it was computed from; None for the first."""
    labels: Mapping[str, int | None]
    """{name: slot} of every label that the new version holds; None for a label with a network of its own."""
    origins: Mapping[str, Origin]
    """{name: where the label was learned from} of the same labels."""
    files: Mapping[str, Mapping[str, Any]]
    """{file name: {sha256, bytes, media_type}}."""
    parameters: int
    """How many parameters the networks have."""
    widths: Mapping[str, Any]
    """{part of the network: the widths of its hidden layers}."""
    report: Report
    cost: Mapping[str, Any] | None = None
    """The job's seconds, examples and energy (worker/jobs/cost.py)."""


def publish(session: Session, claim: Claim, publication: Publication) -> VersionRow:
    """End the job as succeeded, insert the version, move the head and write the labels' statuses.

    A forget also revokes the older versions that hold a forgotten label, stops their exports, marks versions
    as purged if a purge was requested, takes the images of the labels out of uploaded datasets if that was,
    and inserts an unsigned receipt, which the sweeper signs.

    Raises FencedOff if the job was cancelled or taken over, StaleBase if the parent is no longer the head,
    GuaranteeMissed if the forget had to be exact and is not.
    The caller's transaction must then be rolled back, as `with database.transaction()` does.
    """
    number = (publication.parent or 0) + 1
    job = finish_job(session, claim, output_version=number, cost=publication.cost)
    _move_head(session, claim.model_id, publication.parent, number)
    version = VersionRow(
        id=new_id("ver"),
        model_id=claim.model_id,
        number=number,
        parent=publication.parent,
        job_id=claim.job_id,
        operation=job.operation,
        strategy=job.strategy,
        labels=dict(publication.labels),
        parameters=publication.parameters,
        widths=dict(publication.widths),
        files={name: dict(file) for name, file in publication.files.items()},
        report=publication.report.as_json(),
    )
    session.add(version)
    if job.operation == "learn":
        _mark_learned(session, job, publication, number)
    elif job.operation == "forget":
        _record_guarantee(job, publication.report)
        _mark_forgotten(session, job, number)
        _revoke(session, job)
        session.flush()
        exports.stop_unusable(session, job.model_id)
        session.add(ReceiptRow(job_id=job.id))
        session.flush()
        model = session.get_one(ModelRow, job.model_id)
        image_erasures.begin(session, job)
        job.elsewhere = elsewhere.find_elsewhere(session, model, job.labels)
        purging.mark_purged(session, job)
    session.flush()
    return version


def find_published_by(session: Session, job_id: str) -> VersionRow | None:
    """Return the version that the job published, if any.

    It tells whether a publication was committed if the connection broke before the database answered.
    """
    return session.scalar(select(VersionRow).where(VersionRow.job_id == job_id))


def finish_job(
    session: Session, claim: Claim, *, output_version: int | None, cost: Mapping[str, Any] | None
) -> JobRow:
    """End the job as succeeded and return it. Raises FencedOff, also if a cancel was accepted before."""
    finish = (
        update(JobRow)
        .where(
            JobRow.id == claim.job_id,
            JobRow.fence == claim.fence,
            JobRow.state.in_(CLAIMED_STATES),
            JobRow.cancel_requested.is_(False),
        )
        .values(
            state="succeeded",
            output_version=output_version,
            cost=dict(cost) if cost else None,
            lease_until=None,
            finished_at=now(),
        )
        .execution_options(synchronize_session=False)
    )
    if cast(CursorResult[Any], session.execute(finish)).rowcount != 1:
        raise FencedOff(claim.job_id, claim.fence)
    query = select(JobRow).where(JobRow.id == claim.job_id).execution_options(populate_existing=True)
    return session.scalars(query).one()


def _move_head(session: Session, model_id: str, parent: int | None, number: int) -> None:
    move = (
        update(ModelRow)
        .where(ModelRow.id == model_id, ModelRow.head.is_not_distinct_from(parent))
        .values(head=number)
        .execution_options(synchronize_session=False)
    )
    if cast(CursorResult[Any], session.execute(move)).rowcount != 1:
        raise StaleBase(parent, session.scalar(select(ModelRow.head).where(ModelRow.id == model_id)))


def _mark_learned(session: Session, job: JobRow, publication: Publication, number: int) -> None:
    known = labels.find_all(session, job.model_id)
    for name in job.labels:
        session.merge(
            LabelRow(
                model_id=job.model_id,
                name=name,
                dataset=publication.origins[name].dataset,
                renamed_from=publication.origins[name].renamed_from,
                slot=publication.labels[name],
                status=job.retention or "permanent",
                generation=_generation(known.get(name)),
                learned_version=number,
                forgotten_version=None,
                forgotten_by=None,
            )
        )


def _generation(before: LabelRow | None) -> int:
    """Return how often the label has been learned. Making a temporary label permanent does not count."""
    if before is None:
        return 1
    return before.generation if before.status == "temporary" else before.generation + 1


def _record_guarantee(job: JobRow, report: Report) -> None:
    """Replace what the forget had to guarantee by what it does guarantee, which may be more."""
    if job.guarantee == "exact" and report.guarantee == "approximate":
        raise GuaranteeMissed(job.id)
    job.guarantee = report.guarantee or job.guarantee


def _mark_forgotten(session: Session, job: JobRow, number: int) -> None:
    known = labels.find_all(session, job.model_id)
    for name in job.labels:
        known[name].status = "forgotten"
        known[name].forgotten_version = number
        known[name].forgotten_by = job.id


def _revoke(session: Session, job: JobRow) -> None:
    """Revoke every version that holds a label which the job forgot: nobody may draw from it any more."""
    older = select(VersionRow).where(VersionRow.model_id == job.model_id, VersionRow.revoked_by.is_(None))
    for version in session.scalars(older):
        if not set(job.labels).isdisjoint(version.labels):
            version.revoked_by = job.id
