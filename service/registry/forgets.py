"""What is left to do of a request to forget: which labels are forgotten already, and whether with less.

A request that asks for no more than the earlier forget of a label gave is answered with that job. One that
asks for more is carried out if its strategy is exact, because an exact strategy makes weights that never
learned the label, whatever was done before. Otherwise it is refused, and the refusal says what is missing.

A forget that is not finished may still be cancelled or fail. So it may be the answer, whose state the client
sees, but no other job leaves out labels because of it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from service.registry import labels, versions
from service.registry.acceptance import FORGOTTEN_MAX, RELAPSE_MAX
from service.registry.errors import ForgetUnfinished, ForgottenWithLess, NotExact, NothingToFollow
from service.registry.job_specs import ForgetSpec, LearnSpec, Statuses
from service.registry.tables import JobRow, ModelRow


@dataclass(frozen=True)
class LeftToDo:
    """A request to forget, without what has been done already."""

    spec: ForgetSpec | None
    """None if nothing is left to do."""
    done_by: Mapping[str, JobRow]
    """{label: the job that forgot it, or will} of the labels that are left out."""


def left_to_do(session: Session, model: ModelRow, spec: ForgetSpec, statuses: Statuses) -> LeftToDo:
    """Return what the request asks for beyond what earlier jobs did, or will have done.

    statuses: as they will be once every job accepted so far has succeeded.
    Raises ForgottenWithLess, ForgetUnfinished, NothingToFollow, NotExact.
    """
    forgotten = [name for name in spec.labels if statuses.get(name) == "forgotten"]
    done_by = _find_last_forgets(session, model, forgotten)
    with_less = {
        name: missing for name, job in done_by.items() if (missing := list(_missing(spec, name, job)))
    }
    if with_less and (spec.guarantee != "exact" or spec.drops_only):
        name, missing = next(iter(with_less.items()))
        raise ForgottenWithLess(model.name, name, done_by[name].id, missing)
    left = tuple(name for name in spec.labels if name not in done_by or name in with_less)
    left_out = {name: job for name, job in done_by.items() if name not in with_less}
    _check_finished(model, left_out, left)
    if not left and spec.demands.resize:
        _check_followed(model, spec, left_out)
    remaining = _with_true_guarantee(session, model, replace(spec, labels=left)) if left else None
    return LeftToDo(remaining, left_out)


def _check_finished(model: ModelRow, left_out: Mapping[str, JobRow], left: Collection[str]) -> None:
    """Raise ForgetUnfinished if a job that is not the answer may still fail to forget a label left out."""
    unfinished = {job.id: job for job in left_out.values() if not job.done}
    if unfinished and (left or len(unfinished) > 1):
        first = min(unfinished.values(), key=lambda job: job.sequence)
        raise ForgetUnfinished(
            model.name, [name for name, job in left_out.items() if job.id == first.id], first.id
        )


def _check_followed(model: ModelRow, spec: ForgetSpec, left_out: Mapping[str, JobRow]) -> None:
    """Raise NothingToFollow unless a resize as the request names it follows the job that is the answer."""
    answer = max(left_out.values(), key=lambda job: job.sequence)
    follower = answer.follower
    if follower is not None and (not follower.done or follower.state == "succeeded"):
        resize = spec.resize
        if resize and (resize.strategy, dict(resize.params)) == (follower.strategy, follower.params):
            return
    raise NothingToFollow(model.name, spec.labels, answer.id)


def _find_last_forgets(session: Session, model: ModelRow, names: Collection[str]) -> dict[str, JobRow]:
    """Return {label: the job that forgot it last, or will}."""
    if not names:
        return {}
    published = labels.find_all(session, model.id)
    last = {name: row.forgotten_by for name, row in published.items() if name in names}
    for job, spec in labels.unfinished_changes(session, model.id):
        last |= {name: job.id for name in spec.forgets if name in names}
    query = select(JobRow).where(JobRow.id.in_({job_id for job_id in last.values() if job_id}))
    found = {job.id: job for job in session.scalars(query.options(joinedload(JobRow.model, innerjoin=True)))}
    return {name: found[job_id] for name, job_id in last.items() if job_id is not None}


def _missing(spec: ForgetSpec, name: str, job: JobRow) -> Iterator[str]:
    """Yield what the request asks for and the job that forgot the label did not give, in words."""
    demands, is_exact = spec.demands, job.guarantee == "exact"
    names_exact_strategy = demands.strategy and spec.guarantee == "exact" and not spec.drops_only
    if not is_exact and (demands.guarantee == "exact" or names_exact_strategy):
        yield "that forgetting is approximate, not exact"
    elif not is_exact and (demands.strategy or demands.has_params) and spec.strategy != job.strategy:
        yield f"the strategy was {job.strategy}, not {spec.strategy}"
    if demands.has_params and spec.strategy == job.strategy and dict(spec.params) != dict(job.params):
        yield "its params were others"
    for criterion, bound in spec.acceptance.items():
        held = _bound_of(job, criterion, name)
        if held is None or (held > bound if criterion.endswith("_max") else held < bound):
            yield f"the job was not held to {criterion} {bound:g}" + (
                "" if held is None else f", but to {held:g}"
            )


def _bound_of(job: JobRow, criterion: str, label: str) -> float | None:
    """Return the bound of a criterion that the job was held to for this label."""
    bounds = [job.acceptance.get(criterion)]
    if criterion == FORGOTTEN_MAX:
        bounds.append(job.acceptance.get(RELAPSE_MAX, {}).get(label))
    return min((bound for bound in bounds if bound is not None), default=None)


def _with_true_guarantee(session: Session, model: ModelRow, spec: ForgetSpec) -> ForgetSpec:
    """Return the spec with what dropping networks guarantees if the main network knew one of the labels.

    Its weights may then descend from weights that learned the label. Raises NotExact if that was asked for.
    """
    if not spec.drops_only or spec.guarantee != "exact":
        return spec
    will_learn = {
        name
        for _, change in labels.unfinished_changes(session, model.id)
        if isinstance(change, LearnSpec) and change.retention == "permanent"
        for name in change.labels
    }
    first = versions.find_first_that_learned(session, model.id, spec.labels)
    if first is None and will_learn.isdisjoint(spec.labels):
        return spec
    if spec.demands.guarantee == "exact":
        raise NotExact(model.name, spec.labels, spec.strategy)
    return replace(spec, guarantee="approximate")
