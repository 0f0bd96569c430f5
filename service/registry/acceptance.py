"""Acceptance: what a candidate must reach to be published, frozen with its job when it is asked for."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry import labels
from service.registry.tables import JobRow, LabelRow, ModelRow

FORGOTTEN_MAX = "forgotten_accuracy_max"
PROMISED = "relapse_accuracy_max"
"""{label: the most it may reach}: what the jobs that forgot the labels were themselves accepted with."""


def frozen(session: Session, model: ModelRow, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The criteria of a job accepted now: the model's, those asked for in their place, earlier promises.

    A label forgotten under a bound stays under it for as long as it is forgotten, whatever a later request
    says. What a label does after it was learned again binds nobody.
    """
    promised = promises(session, model)
    return {**(model.acceptance or {}), **asked, **({PROMISED: promised} if promised else {})}


def promises(session: Session, model: ModelRow) -> dict[str, float]:
    """{label: bound} of every label that is forgotten, or will be once the queue has run."""
    forgot = select(LabelRow.name, JobRow.acceptance).join(JobRow, JobRow.id == LabelRow.forgotten_by)
    known = session.execute(forgot.where(LabelRow.model_id == model.id)).all()
    bounds: dict[str, float | None] = {name: criteria.get(FORGOTTEN_MAX) for name, criteria in known}
    for job in labels.unfinished(session, model.id):
        bound = job.acceptance.get(FORGOTTEN_MAX) if job.operation == "forget" else None
        bounds |= dict.fromkeys(job.labels, bound)
    return {name: bound for name, bound in sorted(bounds.items()) if bound is not None}
