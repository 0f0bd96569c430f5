"""`client.jobs`: follow jobs, wait for them, cancel them."""

import time
from collections.abc import Callable, Mapping

import httpx2

from palimpsest.calls import call, pages, steps, stream
from palimpsest.errors import JobFailed, JobNotDone, RequestRefused, ServerUnreachable
from palimpsest.requests import (
    Page,
    Request,
    Stream,
    get,
    metadata_query,
    page,
    post,
    read_retry_after,
    segment,
    value,
)
from palimpsest.resources.models import PAGE
from palimpsest.resources.versions import job_report
from palimpsest.retries import OUTAGE_SECONDS
from palimpsest.transports import Notify, Pause, Steps, send
from palimpsest.values import AnyJobEvent, Job, read_event
from reports import Report

POLL_SECONDS = 1.0
"""How long `wait` pauses between two polls if the answer has no Retry-After header."""


class Jobs:
    """Follow jobs, wait for them, cancel them. The argument `job` is a job's id, or the job."""

    @call
    def get(self, job: str | Job) -> Request[Job]:
        """Get a job as it is now."""
        return get(job_path(job), value(Job))

    @pages
    def list(
        self,
        *,
        model: str | None = None,
        state: str | None = None,
        operation: str | None = None,
        label: str | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        order: str | None = None,
    ) -> Request[Page[Job]]:
        """Iterate over the jobs of the project, newest first.

        model: only those of this model. state: only those in this state, such as "failed". operation, label:
        only those that do this, and are about this label. reference, metadata: only those requested with
        them. order: "asc" or "desc".
        """
        own = {"model": model, "state": state, "operation": operation, "label": label, "reference": reference}
        return get("/v1/jobs", page(Job), limit=PAGE, **own, order=order, **metadata_query(metadata))

    @call
    def cancel(self, job: str | Job) -> Request[Job]:
        """Cancel a job; a running one stops before its next step. A second call changes nothing."""
        return post(f"{job_path(job)}/cancel", None, value(Job))

    @call
    def retry(self, job: str | Job, *, idempotency_key: str | None = None) -> Request[Job]:
        """Repeat a job that failed, was rejected or was cancelled, as a new job."""
        return post(f"{job_path(job)}/retry", None, value(Job), idempotency_key)

    @call
    def report(self, job: str | Job) -> Request[Report]:
        """Get the report on the version that a job published, or on the candidate that was rejected."""
        return get(f"{job_path(job)}/report", job_report)

    @stream
    def events(self, job: str | Job, *, after: str | None = None) -> Stream[AnyJobEvent]:
        """Iterate over what happens to a job, as it happens, until the job has ended.

        It begins with what has happened already, or after the event with the id `after`. A connection that
        is cut off is made again, and nothing is lost or told twice.
        """
        return Stream(f"{job_path(job)}/events", read_event, _is_last, after)

    @pages
    def past_events(self, job: str | Job, *, type: str | None = None) -> Request[Page[AnyJobEvent]]:
        """Iterate over what has happened to a job so far, oldest first.

        type: only state, progress or log.
        """
        return get(f"{job_path(job)}/events", page(AnyJobEvent), limit=PAGE, type=type)

    @steps
    def wait(
        self,
        job: str | Job,
        *,
        on_progress: Callable[[Job], object] | None = None,
        timeout: float | None = None,
        must_succeed: bool = False,
    ) -> Steps[Job]:
        """Wait until a job is done, and return it, whether it succeeded or not.

        A job that changed the model has an `output_version`; one that failed or was rejected has an `error`.
        `on_progress` is called with the job after each poll; in AsyncPalimpsest it may be a coroutine
        function. The server sets the interval. If it cannot answer, `wait` polls for 30 more seconds, then
        raises that error.

        timeout: seconds after which JobNotDone is raised; the job itself continues. must_succeed: raise
        JobFailed unless the job succeeded.
        """
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        outage_began: float | None = None
        current: Job | None = None
        while True:
            try:
                current, pause = yield from send(_poll(job))
                outage_began = None
            except (RequestRefused, ServerUnreachable) as error:
                if isinstance(error, RequestRefused) and error.status != 503:
                    raise
                outage_began = outage_began or time.monotonic()
                if time.monotonic() - outage_began > OUTAGE_SECONDS:
                    raise
                pause = error.retry_after if isinstance(error, RequestRefused) else None
            else:
                if on_progress is not None:
                    yield Notify(on_progress, current)
                if current.done:
                    if must_succeed and not current.succeeded:
                        raise JobFailed(current)
                    return current
            left = deadline - time.monotonic()
            if left <= 0 and current is not None:
                raise JobNotDone(current, timeout or 0.0)
            yield Pause(min(POLL_SECONDS if pause is None else pause, max(left, 0.0)))


def job_path(job: str | Job) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{segment(job.id if isinstance(job, Job) else job)}"


def _is_last(event: AnyJobEvent) -> bool:
    return event.is_last


def _poll(job: str | Job) -> Request[tuple[Job, float | None]]:
    def read(response: httpx2.Response) -> tuple[Job, float | None]:
        return value(Job)(response), read_retry_after(response)

    return get(job_path(job), read)
