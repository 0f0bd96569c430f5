"""Lists of jobs, with filters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from service.registry.jobs import SHOWN, find
from service.registry.json_columns import has_entries, has_item
from service.registry.pages import filtered
from service.registry.tables import (
    DEFAULT_PROJECT,
    UNFINISHED_STATES,
    JobRow,
    ModelRow,
    Operation,
    RepeatedRequestRow,
)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list has. None and an empty mapping admit all of them."""

    model_id: str | None = None
    state: str | None = None
    """As clients see it. A job that is being cancelled is in the state `cancelling` and in no other."""
    operation: Operation | None = None
    label: str | None = None
    """A label of the job, by its name in the model."""
    reference: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Like `reference`, of the job's own request or of another one that the job answers."""


class JobPage(NamedTuple):
    """Some jobs of a list. Others may follow although these are few, or none."""

    rows: list[JobRow]
    next: str | None
    """The id of the job after which the next page goes on; None if there is none."""


def page(
    session: Session,
    *,
    project: str = DEFAULT_PROJECT,
    only: JobFilter = JobFilter(),
    descending: bool = True,
    limit: int,
    after: str | None = None,
) -> JobPage:
    """Return the project's newest jobs, or those accepted before the job `after`; ascending, after it.

    Raises UnknownJob.
    """
    listed: list[ColumnElement[bool]] = [ModelRow.project_id == project, JobRow.export_id.is_(None)]
    if only.model_id is not None:
        listed.append(JobRow.model_id == only.model_id)
    if only.state is not None:
        listed += _is_in_state(only.state)
    sequence = None if after is None else find(session, after, project=project).sequence
    found = filtered(
        session,
        select(JobRow).join(JobRow.model).options(*SHOWN).where(*listed),
        JobRow.sequence,
        list(_conditions(only)),
        keys=select(JobRow.sequence).join(JobRow.model).where(*listed),
        limit=limit,
        after=sequence,
        descending=descending,
    )
    last = select(JobRow.id).where(JobRow.sequence == found.last)
    return JobPage(found.rows, session.scalar(last) if found.has_more else None)


def _is_in_state(state: str) -> list[ColumnElement[bool]]:
    """Return the SQL conditions that clients see the job in this state."""
    if state == "cancelling":
        return [JobRow.state.in_(UNFINISHED_STATES), JobRow.cancel_requested.is_(True)]
    is_in = JobRow.state == state
    return [is_in, JobRow.cancel_requested.is_(False)] if state in UNFINISHED_STATES else [is_in]


def _conditions(only: JobFilter) -> Iterator[ColumnElement[bool]]:
    """Yield what no index finds."""
    repeated = select(RepeatedRequestRow.job_id).where(RepeatedRequestRow.job_id == JobRow.id)
    if only.operation is not None:
        yield JobRow.operation == only.operation
    if only.label is not None:
        yield has_item(JobRow.labels, only.label)
    if only.reference is not None:
        also = repeated.where(RepeatedRequestRow.reference == only.reference)
        yield or_(JobRow.reference == only.reference, also.exists())
    if only.metadata:
        also = repeated.where(has_entries(RepeatedRequestRow.client_metadata, only.metadata))
        yield or_(has_entries(JobRow.client_metadata, only.metadata), also.exists())
