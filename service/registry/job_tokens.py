"""Job tokens: a short text that changes whenever a client would see a change of the job.

A poll compares the token of the job with that of its last answer. It is read with one query for all clients
that poll at the moment, from the job's row, its purge, its erasure of images, the number of its
repeated requests and, while it is queued, the queues that workers serve.
"""

from collections.abc import Sequence

from sqlalchemy import String, case, cast, func, literal, select, text
from sqlalchemy.sql.functions import aggregate_strings

from service.registry import workers
from service.registry.database import Database
from service.registry.frequent_queries import FrequentQuery, is_one_of
from service.registry.jobs import MAX_QUEUE_POSITION, OLDEST
from service.registry.tables import (
    UNFINISHED_STATES,
    ImageErasureRow,
    JobRow,
    ModelRow,
    PurgeRow,
    RepeatedRequestRow,
)

_far_back = (
    select(OLDEST.subquery().c.sequence)
    .order_by(text("1"))
    .offset(MAX_QUEUE_POSITION - 1)
    .limit(1)
    .scalar_subquery()
)
"""Beyond this sequence MAX_QUEUE_POSITION jobs or more are ahead. It is looked up once for all tokens."""
_earlier = JobRow.__table__.alias("earlier")
_ahead = (
    select(literal(1))
    .where(_earlier.c.state.in_(UNFINISHED_STATES), _earlier.c.sequence < JobRow.sequence)
    .limit(MAX_QUEUE_POSITION)
    .correlate(JobRow)
    .subquery()
)
_served = select(aggregate_strings(workers.served_as_text().subquery().c[0], " ")).scalar_subquery()
"""What the live workers serve: of queued jobs a client sees whether any can run them."""
_TOKENS = FrequentQuery(
    select(
        JobRow.id,
        JobRow.state,
        JobRow.cancel_requested,
        JobRow.fence,
        cast(JobRow.progress, String),
        PurgeRow.state,
        ImageErasureRow.state,
        ImageErasureRow.waits_for,
        select(func.count())
        .where(RepeatedRequestRow.job_id == JobRow.id)
        .correlate(JobRow)
        .scalar_subquery(),
        JobRow.priority,
        case((JobRow.state == "queued", _served), else_=None),
        case(
            (JobRow.state != "queued", None),
            (JobRow.sequence > _far_back, MAX_QUEUE_POSITION),
            else_=select(func.count()).select_from(_ahead).scalar_subquery(),
        ),
    )
    .join(ModelRow, ModelRow.id == JobRow.model_id)
    .outerjoin(PurgeRow, PurgeRow.job_id == JobRow.id)
    .outerjoin(ImageErasureRow, ImageErasureRow.job_id == JobRow.id)
    .where(is_one_of(JobRow.id, "ids"), ModelRow.deleted_at.is_(None))
)


def read_tokens(database: Database, job_ids: Sequence[str]) -> dict[str, str]:
    """Return {job id: token}, without jobs that are unknown or deleted. Raises DatabaseUnavailable."""
    return {row[0]: repr(row[1:]) for row in database.run(_TOKENS, ids=list(job_ids))}
