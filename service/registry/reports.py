"""Reports: the quick one that each version was published with, and the full ones that evaluate jobs add.

The report of a rejected candidate, which became no version, is stored here as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session, load_only

from reports import Report, read_report
from service.registry import claims, versions
from service.registry.claims import Claim
from service.registry.errors import ReportDeleted, UnknownReport
from service.registry.publishing import finish_job
from service.registry.tables import JobRow, Level, ModelDeletionRow, ModelRow, ReportRow, VersionRow
from service.registry.version_files import REPORT


@dataclass(frozen=True)
class MeasuredReport:
    """A report that a job has just made, and the artifact that holds its bytes."""

    level: Level
    sha256: str
    report: Report


@dataclass(frozen=True)
class StoredReport:
    """A stored report, with the job that made it, its cost, and the time it was stored."""

    level: Level
    document: Mapping[str, Any]
    """The report as it was written, by this release or an earlier one."""
    sha256: str
    job_id: str
    cost: Mapping[str, Any] | None
    created_at: datetime

    @cached_property
    def report(self) -> Report:
        """The report in the types of this release. Raises UnreadableReport."""
        return read_report(self.document)


def record(session: Session, claim: Claim, measured: MeasuredReport, cost: Mapping[str, Any]) -> ReportRow:
    """End an evaluate job as succeeded, and store its report.

    Raises FencedOff, and VersionRevoked if a label that the version holds was forgotten meanwhile.
    """
    job = finish_job(session, claim, output_version=None, cost=cost)
    model = session.get_one(ModelRow, claim.model_id)
    versions.find_measurable(session, model, job.evaluated_version, lock=True)
    return _insert(session, claim, job.evaluated_version, measured)


def record_rejected(
    session: Session,
    claim: Claim,
    error: Mapping[str, Any],
    measured: MeasuredReport,
    cost: Mapping[str, Any],
) -> ReportRow:
    """End a job as rejected, and store the report of its candidate. Raises FencedOff."""
    claims.finish_rejected(session, claim, error, cost=cost)
    return _insert(session, claim, None, measured)


def find_for_job(session: Session, job: JobRow) -> StoredReport:
    """Return the report of the version, evaluation or rejected candidate that the job made.

    Raises UnknownReport; ReportDeleted, also while the files of a deleted model are still there.
    """
    has_measured = job.state in ("succeeded", "rejected")
    if has_measured and job.model.deleted_at is not None:
        raise ReportDeleted(job.id, _how_deleted(session, job.model))
    row = session.get(ReportRow, job.id)
    if row is not None:
        return _stored(row, job)
    version = session.scalar(select(VersionRow).where(VersionRow.job_id == job.id))
    if version is None and has_measured:
        raise ReportDeleted(job.id, _how_files_were_deleted(session, job))
    if version is None:
        raise UnknownReport(
            f"job {job.id} has no report, because its state is {job.public_state!r}; "
            "only jobs that succeeded or were rejected have one"
        )
    return _quick_report(version, job)


def find_for_version(session: Session, version: VersionRow, level: Level | None = None) -> StoredReport:
    """Return the newest report of that level; without a level the newest full one, or else the quick one.

    Raises UnknownReport.
    """
    if level != "quick":
        newest = select(ReportRow, JobRow).join(JobRow, JobRow.id == ReportRow.job_id)
        newest = newest.where(ReportRow.model_id == version.model_id, ReportRow.version == version.number)
        row = session.execute(newest.order_by(JobRow.sequence.desc()).limit(1)).one_or_none()
        if row is not None:
            return _stored(row.ReportRow, row.JobRow)
        if level == "full":
            raise UnknownReport(_no_full_report(session.get_one(ModelRow, version.model_id), version))
    return _quick_report(version, session.scalars(select(JobRow).where(JobRow.id == version.job_id)).one())


def find_earlier(session: Session, version: VersionRow, report: StoredReport) -> list[StoredReport]:
    """Return the full reports of the version that were made before `report`, the newest first.

    They may contain other tests, because evaluations can be requested with other params.
    """
    if report.level != "full":
        return []
    sequence = select(JobRow.sequence).where(JobRow.id == report.job_id).scalar_subquery()
    query = select(ReportRow, JobRow).join(JobRow, JobRow.id == ReportRow.job_id)
    query = query.where(ReportRow.model_id == version.model_id, ReportRow.version == version.number)
    rows = session.execute(query.where(JobRow.sequence < sequence).order_by(JobRow.sequence.desc()))
    return [_stored(row.ReportRow, row.JobRow) for row in rows]


def find_newest_versions(session: Session, model: ModelRow, *, limit: int) -> list[VersionRow]:
    """Return the newest versions of the model, oldest first, with only the columns that show relapses."""
    columns = (VersionRow.number, VersionRow.operation, VersionRow.strategy, VersionRow.report)
    query = select(VersionRow).options(load_only(*columns)).where(VersionRow.model_id == model.id)
    return list(session.scalars(query.order_by(VersionRow.number.desc()).limit(limit)))[::-1]


def find_head_reports(session: Session, models: Sequence[ModelRow]) -> dict[str, Report]:
    """Return {model id: quick report of its head} of the models that have a version, with one query."""
    heads = [
        and_(VersionRow.model_id == model.id, VersionRow.number == model.head)
        for model in models
        if model.head is not None
    ]
    if not heads:
        return {}
    found = session.execute(select(VersionRow.model_id, VersionRow.report).where(or_(*heads)))
    return {row.model_id: read_report(row.report) for row in found}


def find_head_report(session: Session, model: ModelRow) -> Report | None:
    """Return the quick report of the model's head; None for a model without a version."""
    return find_head_reports(session, [model]).get(model.id)


def _no_full_report(model: ModelRow, version: VersionRow) -> str:
    request = f'POST /v1/models/{model.name}/evaluate with {{"version": {version.number}}}'
    return f"version {version.number} of model {model.name!r} has no full report; send {request} to make one"


def _how_files_were_deleted(session: Session, job: JobRow) -> str:
    query = select(VersionRow.purged_by).where(
        VersionRow.model_id == job.model_id, VersionRow.number == job.evaluated_version
    )
    what = f"the files of version {job.evaluated_version}, which it measured"
    if (purged_by := session.scalar(query)) is not None:
        return f"the purge of job {purged_by} deleted {what}"
    return f"a client had {what}, deleted"


def _how_deleted(session: Session, model: ModelRow) -> str:
    if session.get(ModelDeletionRow, model.id) is None:
        return f"its model {model.id} was deleted"
    receipt = f"/v1/models/{model.id}/deletion/receipt"
    return f"its model {model.id} was deleted with all of its files; GET {receipt} has the receipt of that"


def _insert(session: Session, claim: Claim, version: int | None, measured: MeasuredReport) -> ReportRow:
    row = ReportRow(
        job_id=claim.job_id,
        model_id=claim.model_id,
        version=version,
        level=measured.level,
        sha256=measured.sha256,
        report=measured.report.as_json(),
    )
    session.add(row)
    session.flush()
    return row


def _stored(row: ReportRow, job: JobRow) -> StoredReport:
    return StoredReport(row.level, row.report, row.sha256, job.id, job.cost, row.created_at)


def _quick_report(version: VersionRow, job: JobRow) -> StoredReport:
    sha256 = version.files.get(REPORT, {}).get("sha256", "")
    return StoredReport("quick", version.report, sha256, job.id, job.cost, version.created_at)
