"""What is kept of a request for a job besides its spec, also if an earlier job is the answer.

The number of a client's erasure request must not vanish because the label is forgotten already.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry.errors import TooManyRepetitions
from service.registry.tables import JobRow, ModelRow, Operation, RepeatedRequestRow

MAX_REPETITIONS = 20
"""How many are kept with one job at most, because every answer about the job shows them."""


MIN_PRIORITY, MAX_PRIORITY = -10, 10
DEFAULT_PRIORITIES: Mapping[Operation, int] = {"forget": 5}
"""{operation: priority of a job whose request names none}; of the others it is 0. Who wants to be forgotten
should not wait until others have learned (decision 0140)."""


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What is kept of a request for a job besides its spec."""

    request_id: str | None = None
    trace_id: str | None = None
    """The trace that the request belongs to (W3C Trace Context)."""
    reference: str | None = None
    """The client's own name for the request."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_by: str | None = None
    """The id of the API key."""
    retry_of: str | None = None
    """The job that is to be repeated."""
    queue: str | None = None
    """The queue of the job; None: that of the model."""
    priority: int | None = None
    """From MIN_PRIORITY to MAX_PRIORITY; None: that of the operation."""

    def columns(self, model: ModelRow, operation: Operation) -> dict[str, Any]:
        """Return the columns of a new job that the request decides."""
        default = DEFAULT_PRIORITIES.get(operation, 0)
        return {
            "queue": self.queue or model.queue,
            "priority": default if self.priority is None else self.priority,
            "request_id": self.request_id,
            "trace_id": self.trace_id,
            "reference": self.reference,
            "client_metadata": dict(self.metadata) or None,
            "created_by": self.created_by,
            "retry_of": self.retry_of,
        }


NO_REQUEST = JobRequest()


def keep_repeated(session: Session, job: JobRow, request: JobRequest) -> None:
    """Keep the reference and the metadata of a request that the job answers, unless it has them already.

    The caller holds the lock of the model, so that two requests get different numbers.
    Raises TooManyRepetitions.
    """
    own = (request.reference, dict(request.metadata))
    query = select(RepeatedRequestRow).where(RepeatedRequestRow.job_id == job.id)
    kept = [(row.reference, row.client_metadata or {}) for row in session.scalars(query)]
    if own in ((None, {}), (job.reference, job.client_metadata or {}), *kept):
        return
    if len(kept) >= MAX_REPETITIONS:
        raise TooManyRepetitions(job.id, MAX_REPETITIONS)
    session.add(
        RepeatedRequestRow(
            job_id=job.id,
            number=len(kept) + 1,
            reference=request.reference,
            client_metadata=dict(request.metadata) or None,
            request_id=request.request_id,
            created_by=request.created_by,
        )
    )
    session.flush()
