"""Labels: the rows of a model's labels, their published statuses, and their statuses after the queue."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import and_, bindparam, select
from sqlalchemy.orm import Session

from service.registry.job_specs import ChangeSpec, Statuses, spec_of, status_after
from service.registry.tables import UNFINISHED_STATES, JobRow, LabelRow, ModelRow, VersionRow

PATTERN = r"^(?!\.{1,2}$)[^\x00-\x1f\x7f/]{1,64}$"
"""Names of labels, as /openapi.json shows the rule. A name is shown on one line, and it is one segment of a
path."""
NAME = r"(?![^\ud800-\udfff]*[\ud800-\udfff])" + PATTERN
"""The rule as Python checks it. Its strings may hold half a surrogate pair, which no other text can."""
RULE = "a label has 1 to 64 printable characters and no slash, and is neither '.' nor '..'"

_MAY_CHANGE_LABELS = and_(
    JobRow.model_id == bindparam("model_id"),
    JobRow.state.in_(UNFINISHED_STATES),
    JobRow.cancel_requested.is_(False),
    JobRow.operation.in_(("learn", "forget")),
)
_UNFINISHED = select(JobRow).where(_MAY_CHANGE_LABELS).order_by(JobRow.sequence)
_QUEUED = _UNFINISHED.with_only_columns(JobRow.operation, JobRow.labels, JobRow.retention)
"""Only the columns that matter, because hundreds of jobs of one model may be queued."""
_PUBLISHED = (
    select(LabelRow.name, LabelRow.status)
    .where(LabelRow.model_id == bindparam("model_id"))
    .order_by(LabelRow.slot.nulls_last(), LabelRow.name)
)

Source = tuple[str, str]
"""A dataset and the name of a label in it."""


def find_all(session: Session, model_id: str) -> dict[str, LabelRow]:
    """Return {name: row} of every label that a published version of the model ever held."""
    return find_all_of(session, [model_id])[model_id]


def find_all_of(session: Session, model_ids: Sequence[str]) -> dict[str, dict[str, LabelRow]]:
    """Return {model id: {name: row}} for several models, with one query for all of them."""
    found: dict[str, dict[str, LabelRow]] = {model_id: {} for model_id in model_ids}
    query = select(LabelRow).where(LabelRow.model_id.in_(model_ids))
    for row in session.scalars(query.order_by(LabelRow.slot.nulls_last(), LabelRow.name)):
        found[row.model_id][row.name] = row
    return found


def find_sources(
    session: Session, model: ModelRow, names: Collection[str], *, before: int | None = None
) -> dict[Source, datetime]:
    """Return the labels of datasets that these labels of the model were ever learned from.

    before: a version; later ones do not count.

    Each is returned with the time at which it was last requested to be learned. A learn that made a temporary
    label permanent read no images, so it does not count.
    """
    query = (
        select(JobRow, VersionRow.labels)
        .outerjoin(
            VersionRow,
            and_(VersionRow.model_id == JobRow.model_id, VersionRow.number == JobRow.output_version - 1),
        )
        .where(JobRow.model_id == model.id, JobRow.operation == "learn", JobRow.state == "succeeded")
    )
    if before is not None:
        query = query.where(JobRow.output_version < before)
    found: dict[Source, datetime] = {}
    for job, held_before in session.execute(query.order_by(JobRow.sequence)):
        for name, source in job.sources.items():
            if name in names and name not in (held_before or {}):
                found[job.dataset, source] = job.created_at
    return found


def published_statuses(session: Session, model: ModelRow) -> Statuses:
    """Return {name: status} of every label that a published version of the model ever held."""
    rows = session.execute(_PUBLISHED, {"model_id": model.id})
    return {row.name: row.status for row in rows}


def projected_statuses(session: Session, model: ModelRow) -> Statuses:
    """Return {name: status} as it will be once every job accepted so far has succeeded.

    Because requests are checked against these, a client can submit "learn 3" and "forget 3" one right after
    the other. Jobs that are being cancelled do not count, because they never publish.
    """
    status = dict(published_statuses(session, model))
    for operation, names, retention in session.execute(_QUEUED, {"model_id": model.id}):
        status |= dict.fromkeys(names, status_after(operation, retention))
    return status


def unfinished_changes(session: Session, model_id: str) -> list[tuple[JobRow, ChangeSpec]]:
    """Return the jobs that may still learn or forget labels, with their specs, in the order they will run."""
    rows = session.scalars(_UNFINISHED, {"model_id": model_id})
    return [(job, spec) for job in rows if isinstance(spec := spec_of(job), ChangeSpec)]
