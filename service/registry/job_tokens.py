"""Job tokens: a short text that changes whenever a client would see a change of the job.

A poll compares the token of the job with that of its last answer. It is read with one query for all clients
that poll at the moment, from the job's row and its purge alone.
"""

from collections.abc import Sequence

from sqlalchemy import String, bindparam, case, cast, func, literal, select
from sqlalchemy.orm import Session

from service.registry.jobs import MAX_QUEUE_POSITION
from service.registry.tables import UNFINISHED_STATES, JobRow, ModelRow, PurgeRow

_earlier = JobRow.__table__.alias("earlier")
_ahead = (
    select(literal(1))
    .where(_earlier.c.state.in_(UNFINISHED_STATES), _earlier.c.sequence < JobRow.sequence)
    .limit(MAX_QUEUE_POSITION)
    .correlate(JobRow)
    .subquery()
)
_TOKENS = (
    select(
        JobRow.id,
        JobRow.state,
        JobRow.cancel_requested,
        JobRow.fence,
        cast(JobRow.progress, String),
        PurgeRow.state,
        case((JobRow.state == "queued", select(func.count()).select_from(_ahead).scalar_subquery())),
    )
    .join(ModelRow, ModelRow.id == JobRow.model_id)
    .outerjoin(PurgeRow, PurgeRow.job_id == JobRow.id)
    .where(JobRow.id.in_(bindparam("ids", expanding=True)), ModelRow.deleted_at.is_(None))
)


def read_tokens(session: Session, job_ids: Sequence[str]) -> dict[str, str]:
    """Return {job id: token}, without unknown jobs and those of deleted models."""
    rows = session.connection().execute(_TOKENS, {"ids": list(job_ids)})
    return {row[0]: repr(tuple(row[1:])) for row in rows}
