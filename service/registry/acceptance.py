"""Acceptance criteria: the bounds a candidate must meet to be published, frozen when its job is submitted."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from service.registry import labels
from service.registry.tables import JobRow, LabelRow, ModelRow

FORGOTTEN_MAX = "forgotten_accuracy_max"
RELAPSE_MAX = "relapse_accuracy_max"
"""{label: the highest accuracy it may reach}, from the criteria of the jobs that forgot the labels."""

_FORGOTTEN = (
    select(LabelRow.name, JobRow.acceptance)
    .join(JobRow, JobRow.id == LabelRow.forgotten_by)
    .where(LabelRow.model_id == bindparam("model_id"))
)


def freeze_criteria(
    session: Session, model: ModelRow, requested: Mapping[str, Any], *, forgets: Collection[str] = ()
) -> dict[str, Any]:
    """Return the criteria of a job that is submitted now: the model's, overridden by the requested ones.

    The bounds that earlier forgets were accepted with are added: a label that was forgotten under a bound
    stays under it for as long as it is forgotten, whatever a later request says. Once the label is learned
    again the bound has no effect, because the quality gate applies it to forgotten labels only.
    forgets: the labels that the job forgets and that are not forgotten when it runs. Their earlier bounds
        are left out, because they have been learned again since.
    """
    bounds = {name: bound for name, bound in relapse_bounds(session, model).items() if name not in forgets}
    return {**(model.acceptance or {}), **requested, **({RELAPSE_MAX: bounds} if bounds else {})}


def relapse_bounds(session: Session, model: ModelRow) -> dict[str, float]:
    """Return {label: bound} of every label that is forgotten, or may be once the queue has run.

    A queued learn ends no bound, because it may fail. If several forgets of a label have a bound, the
    tightest one counts, because the later forget may fail as well.
    """
    forgotten = session.execute(_FORGOTTEN, {"model_id": model.id})
    criteria = [(name, acceptance) for name, acceptance in forgotten]
    for _, spec in labels.unfinished_changes(session, model.id):
        criteria += [(name, dict(spec.acceptance)) for name in spec.forgets]
    bounds: dict[str, float] = {}
    for name, acceptance in criteria:
        for bound in (acceptance.get(FORGOTTEN_MAX), acceptance.get(RELAPSE_MAX, {}).get(name)):
            if bound is not None:
                bounds[name] = min(bound, bounds.get(name, bound))
    return dict(sorted(bounds.items()))
