"""Acceptance: what a candidate must reach to be published, frozen with its job when it is asked for."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry import labels
from service.registry.tables import JobRow, LabelRow, ModelRow

FORGOTTEN_MAX = "forgotten_accuracy_max"
PROMISED = "relapse_accuracy_max"
"""{label: the most it may reach}: what the jobs that forgot the labels were themselves accepted with."""


def frozen(
    session: Session, model: ModelRow, asked: Mapping[str, Any], *, forgets: Collection[str] = ()
) -> dict[str, Any]:
    """The criteria of a job accepted now: the model's, those asked for in their place, earlier promises.

    A label forgotten under a bound stays under it for as long as it is forgotten, whatever a later request
    says. What a label does after it was learned again binds nobody: the gate passes over what is held.
    `forgets`: what the job forgets, which has been learned again if the job runs at all.
    """
    promised = {name: bound for name, bound in promises(session, model).items() if name not in forgets}
    return {**(model.acceptance or {}), **asked, **({PROMISED: promised} if promised else {})}


def promises(session: Session, model: ModelRow) -> dict[str, float]:
    """{label: bound} of every label that is forgotten, or may be once the queue has run.

    A queued learn ends no promise, for it may fail. Of several forgets of a label the tightest counts: the
    later one may fail, too.
    """
    forgot = select(LabelRow.name, JobRow.acceptance).join(JobRow, JobRow.id == LabelRow.forgotten_by)
    promised = [(name, of) for name, of in session.execute(forgot.where(LabelRow.model_id == model.id))]
    for job in labels.unfinished(session, model.id):
        promised += [(name, job.acceptance) for name in job.labels if job.operation == "forget"]
    bounds: dict[str, float] = {}
    for name, acceptance in promised:
        if (bound := acceptance.get(FORGOTTEN_MAX)) is not None:
            bounds[name] = min(bound, bounds.get(name, bound))
    return dict(sorted(bounds.items()))
