"""Labels: their status, what it will be once the queue has run, and what may be asked of them."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry.errors import (
    LabelAlreadyLearned,
    LabelForgotten,
    ModelHasNoVersion,
    NothingPermanent,
    UnknownLabel,
    WouldEmptyModel,
)
from service.registry.tables import UNFINISHED, JobRow, LabelRow, ModelRow

NAME = r"(?!\.{1,2}\Z)[^\x00-\x1f\x7f/\ud800-\udfff]{1,64}"
"""What a label may be called: it is a line of a page and a step of a path."""


def statuses(session: Session, model_id: str) -> dict[str, LabelRow]:
    """Every label the model ever learned, by name, as published."""
    return statuses_of(session, [model_id])[model_id]


def statuses_of(session: Session, model_ids: Sequence[str]) -> dict[str, dict[str, LabelRow]]:
    """The same for several models, by model and name, by one question for all of them."""
    found: dict[str, dict[str, LabelRow]] = {model_id: {} for model_id in model_ids}
    query = select(LabelRow).where(LabelRow.model_id.in_(model_ids))
    for row in session.scalars(query.order_by(LabelRow.slot.nulls_last(), LabelRow.name)):
        found[row.model_id][row.name] = row
    return found


def projected(session: Session, model: ModelRow) -> dict[str, str]:
    """{name: status} as it will be when every job accepted so far has succeeded, in their order.

    So that "learn 3; forget 3" can be asked for back to back. A cancelled job never publishes:
    it counts as gone.
    """
    status: dict[str, str] = {name: row.status for name, row in statuses(session, model.id).items()}
    for job in unfinished(session, model.id):
        status |= dict.fromkeys(job.labels, after(job))
    return status


def unfinished(session: Session, model_id: str) -> list[JobRow]:
    """Jobs of the model that may still change a label, in the order they will run."""
    query = select(JobRow).where(
        JobRow.model_id == model_id, JobRow.state.in_(UNFINISHED), JobRow.cancel_requested.is_(False)
    )
    rows = session.scalars(query.order_by(JobRow.sequence))
    return [job for job in rows if job.operation in ("learn", "forget")]


def after(job: JobRow) -> str:
    """The status a job's labels have once it has succeeded."""
    return "forgotten" if job.operation == "forget" else job.retention or "permanent"


def check_learn(
    model: str, asked: Sequence[str], status: Mapping[str, str], *, retention: str | None
) -> None:
    """A label can be learned when it is absent or forgotten, and for good when it is temporary.

    Raises LabelAlreadyLearned.
    """
    free = {"forgotten"} if retention == "temporary" else {"forgotten", "temporary"}
    held = [name for name in asked if status.get(name, "forgotten") not in free]
    if held:
        raise LabelAlreadyLearned(model, held)


def check_forget(model: str, asked: Sequence[str], status: Mapping[str, str]) -> None:
    """A label can be forgotten if learned, and if another stays. Raises UnknownLabel, WouldEmptyModel."""
    unknown = [name for name in asked if name not in status]
    if unknown:
        raise UnknownLabel(model, unknown)
    if all(state == "forgotten" for name, state in status.items() if name not in asked):
        raise WouldEmptyModel(model)


def check_resize(model: str, status: Mapping[str, str]) -> None:
    """Only the main network has a size to change. Raises ModelHasNoVersion, NothingPermanent."""
    held = {state for state in status.values() if state != "forgotten"}
    if not held:
        raise ModelHasNoVersion(model)
    if "permanent" not in held:
        raise NothingPermanent(model)


def all_temporary(asked: Sequence[str], status: Mapping[str, str]) -> bool:
    """Whether there is a label, and each has a network of its own."""
    return bool(asked) and all(status.get(name) == "temporary" for name in asked)


def check_held(model: str, asked: Sequence[str], status: Mapping[str, str]) -> None:
    """Whether each is still there to be forgotten once the job runs: the learn it counted on may have failed.

    Raises LabelForgotten.
    """
    for name in asked:
        if status[name] == "forgotten":
            raise LabelForgotten(model, name, None)
