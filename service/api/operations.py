"""POST /v1/models/{model}/learn, /forget, /resize and /evaluate: submit jobs."""

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from sqlalchemy.orm import Session

from service import failpoints
from service.api.access import requires
from service.api.context import Context
from service.api.idempotency import Idempotent
from service.api.job_objects import POLL_SECONDS, JobObject, describe_job
from service.api.lookup import find_model
from service.api.problems import BODY_REFUSALS, Problem, refusals, rules
from service.api.route import Route
from service.registry import job_requests, jobs, labels, queue_limits
from service.registry.errors import DatabaseUnavailable, UnknownJob, VersionRevoked
from service.registry.idempotency import StoredAnswer
from service.registry.job_specs import JobSpec
from service.registry.tables import ModelRow
from service.requests.fields import TEXT_RULE
from service.requests.operations import Evaluate, Forget, JobRequest, Learn, Resize

router = APIRouter(prefix="/v1/models/{model}", tags=["operations"], route_class=Route)

MAX_WAIT_SECONDS = 60

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PAUSE_GROWTH = 0.05, 1.0, 1.3
"""The pauses between two reads of a job that a client waits for. Each pause is longer than the one before:
when the job was read every 0.1 s, sixty waiting clients kept two cores busy."""

_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": JobObject,
        "description": "The job is done: it ended within the time of `Prefer: wait`, or an earlier job had "
        "already done what was requested.",
    },
    **BODY_REFUSALS,
    **refusals(404, 409, 429),
}
_LEARN_RULES = rules(
    invalid_text=TEXT_RULE,
    strategy_not_found="/v1/catalog has no such strategy for this operation and retention",
    dataset_not_found="there is no dataset of this name",
    unknown_label="the dataset has no such label, or `as` names a label that is not in `labels`",
    duplicate_item="two labels would have one name in the model",
    invalid_name="a new name of a label is not printable, is not in the composed form of Unicode (NFC), or "
    "looks like another one",
    label_not_temporary="the strategy accepts temporary labels only",
    label_already_named="`as` renames a temporary label that is made permanent",
)
_FORGET_RULES = rules(
    invalid_text=TEXT_RULE,
    strategy_not_found="/v1/catalog has no such strategy for this operation and retention",
    contradiction="the strategy does not give the requested guarantee",
)
_RESIZE_RULES = rules(
    invalid_text=TEXT_RULE,
    policy_not_found="/v1/catalog has no such policy",
    strategy_not_found="/v1/catalog has no such strategy for this policy",
)


class Submission:
    """Submit a request about one model, and answer with its job. All four endpoints depend on this class."""

    def __init__(
        self,
        model: str,
        context: Context,
        request: Request,
        response: Response,
        once: Idempotent,
        prefer: Annotated[
            str,
            Header(description="`wait=N` waits up to N seconds, at most 60, for the job to be done."),
        ] = "",
    ) -> None:
        self.model = model
        self.context = context
        self.http_request = request
        self.response = response
        self.once = once
        self.wait_seconds = _parse_wait_seconds(prefer)

    async def submit(self, request: JobRequest) -> JobObject:
        """Record the job and wake a worker for it. Answer 202 with the job, or 200 if it is done already."""
        status, accepted = await self.context.database_threads.change(self._accept, request)
        job = await self._wait_for(accepted)
        self.response.status_code = 200 if job.done and self.wait_seconds is not None else status
        self.response.headers["Location"] = job.links["self"]
        if not job.done:
            self.response.headers["Retry-After"] = POLL_SECONDS
        return job

    def _accept(self, request: JobRequest) -> tuple[int, JobObject]:
        """Record the job, unless the request is refused. Return the status of the answer, and the job.

        The request is checked twice. The first time is in a reading session, which never waits for a writer,
        so that a bad request is refused at once. The second time is in the transaction that records the job,
        because the statuses of the labels may have changed in between.
        """
        with self.context.database.reading() as session:
            if answered := self.once.find(session):
                return self._repeat(session, answered)
            model = find_model(session, self.context.project, self.model)
            jobs.check(session, model, self._resolve(session, model, request))
            self._refuse_built_in(session, model, request)
        recorded: JobObject | None = None
        is_new = False
        try:
            with self.context.database.transaction(line=self.model) as session:
                if answered := self.once.begin(session):
                    return self._repeat(session, answered)
                recorded, is_new = self._record(session, request)
                failpoints.reach("submit.before_commit")
        except DatabaseUnavailable:
            if recorded is None or not is_new or not self._is_recorded(recorded.id):
                raise
        failpoints.reach("submit.after_commit")
        if not recorded.done:
            self.context.wake_worker(recorded.id)  # after the commit, so that the worker finds the row
        return _status(recorded), recorded

    def _repeat(self, session: Session, answered: StoredAnswer) -> tuple[int, JobObject]:
        """Return the answer that the request got before, with the job as it is now."""
        return answered.status, self._describe(session, answered.resource_id, answered.already_forgotten)

    def _record(self, session: Session, request: JobRequest) -> tuple[JobObject, bool]:
        """Record the job. Return it, and whether it is new."""
        model = jobs.lock_model(session, find_model(session, self.context.project, self.model))
        self.context.database.serve(self.model)
        queue_limits.check_room(
            session,
            self.context.caller.key_id,
            most=self.context.settings.max_queued_jobs,
            most_of_key=self.context.settings.max_queued_jobs_of_key,
        )
        submitted = jobs.submit(
            session,
            model,
            self._resolve(session, model, request),
            max_attempts=self.context.settings.max_attempts,
            request=job_requests.JobRequest(
                request_id=self.http_request.state.request_id,
                reference=request.reference,
                metadata=request.metadata,
                created_by=self.context.caller.key_id,
            ),
        )
        row = submitted.job
        job = describe_job(row, jobs.queue_position(session, row), submitted.already_forgotten)
        self.once.record(session, _status(job), job.id, submitted.already_forgotten)
        self.context.append_to_audit_log(
            session,
            "job.submit",
            job.id,
            operation=type(request).__name__.lower(),
            model=model.id,
            labels=getattr(request, "labels", None),
            reference=request.reference,
        )
        return job, submitted.is_new

    def _is_recorded(self, job_id: str) -> bool:
        """Return whether a transaction was committed although the answer to its COMMIT was lost.

        It may still be at work in the server. It holds the lock of the model until it ends, so that lock is
        waited for.
        """
        with suppress(DatabaseUnavailable, UnknownJob), self.context.database.transaction() as session:
            jobs.lock_model(session, find_model(session, self.context.project, self.model))
            return jobs.find(session, job_id) is not None
        return False

    def _resolve(self, session: Session, model: ModelRow, request: JobRequest) -> JobSpec:
        catalog = self.context.catalog.with_uploads(session, self.context.project)
        return request.resolve(
            catalog, labels.projected_statuses(session, model), model_dataset=model.dataset
        )

    def _refuse_built_in(self, session: Session, model: ModelRow, request: JobRequest) -> None:
        """Refuse to delete images of labels that were learned from no uploaded dataset."""
        if not isinstance(request, Forget) or not request.also.datasets:
            return
        built_in = {entry.name for entry in self.context.catalog.datasets}
        for label in request.labels:
            sources = labels.find_sources(session, model, [label])
            names = sorted({dataset for dataset, _ in sources})
            if names and built_in.issuperset(names):
                raise Problem(
                    409,
                    "dataset_built_in",
                    f"The images of {label!r} cannot be deleted: it was learned from {', '.join(names)}, "
                    "which comes with the service. Leave `also` out, or forget this label separately.",
                )

    async def _wait_for(self, job: JobObject) -> JobObject:
        """Return the job when it is done, or as it is when the time of `Prefer: wait` is over."""
        if self.wait_seconds is None:
            return job
        self.response.headers["Preference-Applied"] = f"wait={self.wait_seconds}"
        deadline = time.monotonic() + self.wait_seconds
        pause = FIRST_PAUSE_SECONDS
        while not job.done and time.monotonic() < deadline and not await self.http_request.is_disconnected():
            await asyncio.sleep(min(pause, max(deadline - time.monotonic(), 0)))
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)
            try:
                job = await self.context.database_threads.read(self._read, job)
            except DatabaseUnavailable:
                return job  # the job has been recorded, so the answer is still 202
        return job

    def _read(self, job: JobObject) -> JobObject:
        with self.context.database.reading() as session:
            return self._describe(session, job.id, job.already_forgotten)

    def _describe(
        self, session: Session, job_id: str, already_forgotten: Mapping[str, str] | None
    ) -> JobObject:
        row = jobs.find(session, job_id)
        return describe_job(row, jobs.queue_position(session, row), already_forgotten)


def _status(job: JobObject) -> int:
    """Return the status of the answer to a request that was accepted as this job."""
    return 200 if job.done and not _begins_deletion(job) else 202


Submit = Annotated[Submission, Depends()]


@router.post("/learn", status_code=202, responses=_ANSWERS | _LEARN_RULES)
@requires("learn")
async def learn(request: Learn, submission: Submit) -> JobObject:
    """Learn labels, and retain those that the model already holds."""
    return await submission.submit(request)


@router.post("/forget", status_code=202, responses=_ANSWERS | _FORGET_RULES)
@requires("forget")
async def forget(request: Forget, submission: Submit) -> JobObject:
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
    """
    return await submission.submit(request)


@router.post("/resize", status_code=202, responses=_ANSWERS | _RESIZE_RULES)
@requires("learn")
async def resize(request: Resize, submission: Submit) -> JobObject:
    """Change the size of the main network."""
    return await submission.submit(request)


@router.post("/evaluate", status_code=202, responses=_ANSWERS | rules(invalid_text=TEXT_RULE))
@requires("learn")
async def evaluate(request: Evaluate, submission: Submit) -> JobObject:
    """Measure a version in full, and compare it with networks retrained without the labels it forgot."""
    try:
        return await submission.submit(request)
    except (
        VersionRevoked
    ) as error:  # 409 and not 410, because the URL is that of the model, which still exists
        raise Problem(409, error.code, error.message) from error


def _begins_deletion(job: JobObject) -> bool:
    """Whether a deletion of files was requested that has not begun: then the request is not done yet."""
    return any(one is not None and one.state == "requested" for one in (job.purge, job.image_erasure))


def _parse_wait_seconds(prefer: str) -> int | None:
    """Return N of `wait=N` in a Prefer header (RFC 7240), at most 60; None if it is absent or malformed."""
    found = re.search(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,6})"?\s*(?:$|[,;])', prefer, re.IGNORECASE)
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else None
