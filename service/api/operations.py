"""POST /v1/models/{model}/learn, /forget, /resize and /evaluate: submit jobs."""

from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from service.api.access import requires
from service.api.context import ApiContext
from service.api.error_kinds import DATASET_BUILT_IN, as_conflict
from service.api.job_objects import JobObject
from service.api.lookup import VERSION_ERRORS, find_model, find_version, refused_as_conflict
from service.api.problems import Problem
from service.api.refusals import NEEDS_USABLE_VERSION, refuses
from service.api.route import Route
from service.api.space import find_lack
from service.api.submission import Order, Submit
from service.registry import labels
from service.registry.errors import (
    ForgetUnfinished,
    ForgottenWithLess,
    ImagesDeleted,
    LabelAlreadyLearned,
    LabelForgotten,
    NoPermanentLabel,
    NotExact,
    NothingToFollow,
    StaleBase,
    StorageFull,
    TooManyRepetitions,
    UnknownLabel,
)
from service.registry.job_specs import JobSpec, Statuses
from service.registry.tables import ModelRow
from service.requests.fields import TEXT_RULE, VERSION_RULE
from service.requests.operations import Evaluate, Forget, JobRequest, Learn, ModelDefaults, Resize

router = APIRouter(prefix="/v1/models/{model}", tags=["operations"], route_class=Route)

EVALUATE_THE_HEAD = Evaluate()
"""What a request without a body asks for."""
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": JobObject,
        "description": "The job is done: it ended within the time of `Prefer: wait`, or an earlier job had "
        "already done what was requested.",
    },
}


@router.post("/learn", status_code=202, responses=_ANSWERS)
@requires("learn")
@refuses(
    *VERSION_ERRORS,
    LabelAlreadyLearned,
    ImagesDeleted,
    StaleBase,
    NoPermanentLabel,
    invalid_text=TEXT_RULE,
    policy_not_found="/v1/catalog has no such policy to resize by",
    strategy_not_found="/v1/catalog has no such strategy for this operation and retention",
    strategy_not_for_architecture="the strategy does not work on networks of the model's architecture",
    dataset_not_found="there is no dataset of this name",
    unknown_label="the dataset has no such label, or `as` names a label that is not in `labels`",
    duplicate_item="two labels would have one name in the model",
    invalid_name="a new name of a label is not printable, is not in the composed form of Unicode (NFC), or "
    "looks like another one",
    contradiction="`expires_in` is for temporary labels only",
    label_not_temporary="the strategy accepts temporary labels only",
    label_already_named="`as` renames a temporary label that is made permanent",
)
async def learn(model: str, request: Learn, submission: Submit) -> JobObject:
    """Learn labels, and retain those that the model already holds.

    With `resize` the network is resized afterwards, by a job of its own, which the answer names as
    `followed_by`. `Prefer: wait` does not wait for that one.
    """
    return await submission.submit(_order(model, request, submission.context))


@router.post("/forget", status_code=202, responses=_ANSWERS)
@requires("forget")
@refuses(
    *VERSION_ERRORS,
    UnknownLabel,
    LabelForgotten,
    StaleBase,
    ForgottenWithLess,
    ForgetUnfinished,
    TooManyRepetitions,
    NotExact,
    NothingToFollow,
    NoPermanentLabel,
    DATASET_BUILT_IN,
    invalid_name=VERSION_RULE,
    invalid_text=TEXT_RULE,
    policy_not_found="/v1/catalog has no such policy to resize by",
    strategy_not_found="/v1/catalog has no such strategy for this operation and retention",
    strategy_not_for_architecture="the strategy does not work on networks of the model's architecture",
    contradiction="the strategy does not give the requested guarantee",
)
async def forget(model: str, request: Forget, submission: Submit) -> JobObject:
    """Forget labels, and retain the others.

    If all of the labels have been forgotten already with all that is requested, the answer is the job that
    forgot them, or is about to, and no other job is created. A new job leaves out only labels whose forget
    has succeeded: if another job is still to forget some of the labels, the request is refused with 409
    `forget_unfinished`, which names that job. If a label was forgotten with less (not exactly, under looser
    criteria, by another strategy), an exact request forgets it again, and any other is refused with 409
    `forgotten_with_less`. `already_forgotten` names the labels that the job leaves out, and the jobs that
    forgot them. A purge that is requested later belongs to the job that forgot the labels, and so does the
    deletion of their images (`also`). Another `seed` asks for nothing more than was done, because the
    guarantee and the criteria do not depend on it. Other `params` do, if the request names them and the
    strategy is the same. A `reference` or `metadata` that differs from the job's own is kept with the job
    that is the answer, in `also_requested`.

    With `resize` the network is resized afterwards, by a job of its own, which the answer names as
    `followed_by`. The key needs the scope `learn` for that, too. If all of the labels have been forgotten
    already, a resize that the request names has nothing to follow: it is refused with 409
    `nothing_to_follow`, unless the job that is the answer is followed by such a resize. While the disk lacks
    space, a forget is accepted without the resize of the model's `size_policy`.
    """
    if request.resize is not None:
        submission.context.caller.require("learn")
    if lack := await run_in_threadpool(find_lack, submission.context):
        if request.resize is not None:
            raise StorageFull(lack)
        request = request.model_copy(update={"resize": None})  # the reserve is for forgetting alone
    return await submission.submit(_order(model, request, submission.context))


@router.post("/resize", status_code=202, responses=_ANSWERS)
@requires("learn")
@refuses(
    *VERSION_ERRORS,
    NoPermanentLabel,
    StaleBase,
    invalid_name=VERSION_RULE,
    invalid_text=TEXT_RULE,
    policy_not_found="/v1/catalog has no such policy",
    strategy_not_found="/v1/catalog has no such strategy for this policy",
    strategy_not_for_architecture="the strategy does not work on networks of the model's architecture",
)
async def resize(model: str, request: Resize, submission: Submit) -> JobObject:
    """Change the size of the main network."""
    return await submission.submit(_order(model, request, submission.context))


@router.post("/evaluate", status_code=202, responses=_ANSWERS)
@requires("learn")
@refuses(
    *VERSION_ERRORS,
    *(as_conflict(one) for one in NEEDS_USABLE_VERSION),
    invalid_name=VERSION_RULE,
    invalid_text=TEXT_RULE,
)
async def evaluate(model: str, submission: Submit, request: Evaluate = EVALUATE_THE_HEAD) -> JobObject:
    """Measure a version in full, and compare it with networks retrained without the labels it forgot."""
    with refused_as_conflict():
        return await submission.submit(_order(model, request, submission.context))


def _order(name: str, request: JobRequest, context: ApiContext) -> Order:
    """Return what is to be submitted for a request about the model of that name or id."""

    def resolve(session: Session, model: ModelRow, statuses: Statuses) -> JobSpec:
        catalog = context.find_catalog(session)
        numbered = request.with_numbers(lambda named: find_version(session, model, named).number)
        defaults = ModelDefaults(dataset=model.dataset, size_policy=model.size_policy)
        return catalog.with_packages(numbered.resolve(catalog, statuses, defaults), model.network)

    return Order(
        line=name,
        find_model=lambda session: find_model(session, context.project, name),
        resolve=resolve,
        check=lambda session, model: _refuse_built_in(session, model, request, context),
        reference=request.reference,
        metadata=request.metadata,
        queue=request.queue,
        priority=request.priority,
        audited={"operation": type(request).__name__.lower(), "labels": getattr(request, "labels", None)},
    )


def _refuse_built_in(session: Session, model: ModelRow, request: JobRequest, context: ApiContext) -> None:
    """Refuse to delete images of labels that were learned from no uploaded dataset."""
    if not isinstance(request, Forget) or not request.also.datasets:
        return
    built_in = {entry.name for entry in context.find_catalog(session).datasets if entry.images is None}
    for label in request.labels:
        sources = labels.find_sources(session, model, [label])
        names = sorted({dataset for dataset, _ in sources})
        if names and built_in.issuperset(names):
            raise Problem(
                DATASET_BUILT_IN,
                f"The images of {label!r} cannot be deleted: it was learned from {', '.join(names)}, "
                "which was not uploaded. Leave `also` out, or forget this label separately.",
            )
