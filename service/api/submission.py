"""Submit a job: record it, wake a worker, and wait for it as long as the request says."""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from sqlalchemy.orm import Session

from service import failpoints
from service.api.context import Context
from service.api.idempotency import Idempotent
from service.api.job_objects import POLL_SECONDS, JobObject, describe_one
from service.api.refusals import refuses
from service.registry import job_requests, jobs, labels, queue_limits
from service.registry.errors import (
    DatabaseUnavailable,
    DatasetNotOffered,
    NetworkNotOffered,
    QueueFull,
    StrategyNotOffered,
    UnknownJob,
)
from service.registry.idempotency import StoredAnswer
from service.registry.job_specs import JobSpec, LabelsSpec, Statuses
from service.registry.tables import ModelRow

MAX_WAIT_SECONDS = 60

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, PAUSE_GROWTH = 0.05, 1.0, 1.3
"""The pauses between two reads of a job that a client waits for. Each pause is longer than the one before:
when the job was read every 0.1 s, sixty waiting clients kept two cores busy."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a request asks to be submitted. It is read twice: before the transaction, and in it."""

    line: str
    """Orders of the same line, such as those of one model, stand in line for each other."""
    find_model: Callable[[Session], ModelRow]
    resolve: Callable[[Session, ModelRow, Statuses], JobSpec]
    """Return the spec of the job, given the statuses the labels will have; or raise why there can be none."""
    check: Callable[[Session, ModelRow], None] = lambda session, model: None
    """Raise what else forbids it, as far as a session that only reads can tell."""
    reference: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_of: str | None = None
    queue: str | None = None
    """The queue of the job; None: that of the model."""
    priority: int | None = None
    """None: that of the operation."""
    audited: Mapping[str, Any]
    """What the audit log tells of it, besides its model and its reference."""


@refuses(QueueFull, StrategyNotOffered, NetworkNotOffered, DatasetNotOffered)
class Submission:
    """Submits what a request asks for, and answers with the job. All endpoints that submit depend on it."""

    def __init__(
        self,
        context: Context,
        request: Request,
        response: Response,
        once: Idempotent,
        prefer: Annotated[
            str,
            Header(
                alias="Prefer",
                description="`wait=N` waits up to N seconds for the job to be done. More than "
                f"{MAX_WAIT_SECONDS} count as {MAX_WAIT_SECONDS}.",
            ),
        ] = "",
    ) -> None:
        self.context = context
        self.http_request = request
        self.response = response
        self.once = once
        self.wait_seconds = _parse_wait_seconds(request.headers.getlist("prefer"))  # `prefer` is one of them

    async def submit(self, order: Order) -> JobObject:
        """Record the job and wake a worker for it. Answer 202 with the job, or 200 if it is done already."""
        status, accepted = await self.context.database_threads.change(self._accept, order)
        job = await self._wait_for(accepted)
        self.response.status_code = 200 if job.done and self.wait_seconds is not None else status
        self.response.headers["Location"] = job.links["self"]
        if not job.done:
            self.response.headers["Retry-After"] = POLL_SECONDS
        return job

    def _accept(self, order: Order) -> tuple[int, JobObject]:
        """Record the job, unless the request is refused. Return the status of the answer, and the job.

        The request is checked twice. The first time is in a reading session, which never waits for a writer,
        so that a bad request is refused at once. The second time is in the transaction that records the job,
        because the statuses of the labels may have changed in between.
        """
        with self.context.database.reading() as session:
            if answered := self.once.find(session):
                return self._repeat(session, answered)
            model = order.find_model(session)
            statuses = labels.projected_statuses(session, model)
            jobs.check(session, model, order.resolve(session, model, statuses), statuses)
            order.check(session, model)
        recorded: JobObject | None = None
        is_new = False
        try:
            with self.context.database.transaction(line=order.line) as session:
                if answered := self.once.begin(session):
                    return self._repeat(session, answered)
                recorded, is_new = self._record(session, order)
                failpoints.reach("submit.before_commit")
        except DatabaseUnavailable:
            if recorded is None or not is_new or not self._is_recorded(order, recorded.id):
                raise
        failpoints.reach("submit.after_commit")
        if not recorded.done:
            # After the commit, so that the worker finds the row.
            self.context.wake_worker(recorded.id, recorded.queue)
        return _status(recorded), recorded

    def _repeat(self, session: Session, answered: StoredAnswer) -> tuple[int, JobObject]:
        """Return the answer that the request got before, with the job as it is now."""
        known = labels.find_all(session, jobs.find(session, answered.resource_id).model_id)
        already_forgotten = answered.already_forgotten(known) if answered.hashed else None
        return answered.status, self._describe(session, answered.resource_id, already_forgotten)

    def _record(self, session: Session, order: Order) -> tuple[JobObject, bool]:
        """Record the job. Return it, and whether it is new."""
        model = jobs.lock_model(session, order.find_model(session))
        self.context.database.serve(order.line)
        statuses = labels.projected_statuses(session, model)
        spec = order.resolve(session, model, statuses)
        queue_limits.check_room(
            session,
            self.context.caller.key_id,
            new=1 if not isinstance(spec, LabelsSpec) or spec.resize is None else 2,
            most=self.context.settings.max_queued_jobs,
            most_of_key=self.context.settings.max_queued_jobs_of_key,
        )
        submitted = jobs.submit(
            session,
            model,
            spec,
            statuses,
            max_attempts=self.context.settings.max_attempts,
            request=job_requests.JobRequest(
                request_id=self.http_request.state.request_id,
                trace_id=self.http_request.state.trace_id,
                reference=order.reference,
                metadata=order.metadata,
                created_by=self.context.caller.key_id,
                retry_of=order.retry_of,
                queue=order.queue,
                priority=order.priority,
            ),
        )
        row = submitted.job
        job = describe_one(session, row, submitted.already_forgotten)
        self.once.record(session, _status(job), job.id, submitted.already_forgotten)
        self.context.append_to_audit_log(
            session,
            "job.submit" if order.retry_of is None else "job.retry",
            job.id,
            model=model.id,
            reference=order.reference,
            retry_of=order.retry_of,
            **order.audited,
        )
        if submitted.follower is not None:
            self.context.append_to_audit_log(
                session,
                "job.submit",
                submitted.follower.id,
                model=model.id,
                reference=order.reference,
                operation="resize",
                follows=job.id,
            )
        return job, submitted.is_new

    def _is_recorded(self, order: Order, job_id: str) -> bool:
        """Return whether a transaction was committed although the answer to its COMMIT was lost.

        It may still be at work in the server. It holds the lock of the model until it ends, so that lock is
        waited for.
        """
        with suppress(DatabaseUnavailable, UnknownJob), self.context.database.transaction() as session:
            jobs.lock_model(session, order.find_model(session))
            return jobs.find(session, job_id) is not None
        return False

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
        return describe_one(session, row, already_forgotten)


def _status(job: JobObject) -> int:
    """Return the status of the answer to a request that was accepted as this job."""
    return 200 if job.done and not _begins_deletion(job) else 202


Submit = Annotated[Submission, Depends()]
"""The type of an endpoint's parameter through which FastAPI passes it the Submission of its request."""


def _begins_deletion(job: JobObject) -> bool:
    """Whether a deletion of files was requested that has not begun: then the request is not done yet."""
    return any(one is not None and one.state == "requested" for one in (job.purge, job.image_erasure))


def _parse_wait_seconds(lines: Sequence[str]) -> int | None:
    """Return N of `wait=N` in Prefer headers (RFC 7240), at most 60; None if it is absent or malformed.

    Several headers count as one, and of several preferences of one name the first.
    """
    found = re.search(
        r'(?:^|[,;])\s*wait\s*=\s*"?0*([0-9]{1,100})"?\s*(?:$|[,;])', ",".join(lines), re.IGNORECASE
    )
    return min(int(found[1]), MAX_WAIT_SECONDS) if found else None
