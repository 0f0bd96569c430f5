"""`client.jobs`: follow jobs, wait for them, cancel them."""

from collections.abc import Callable, Mapping

from palimpsest.calls import call, pages, steps, stream
from palimpsest.errors import JobFailed, JobNotDone
from palimpsest.requests import (
    Page,
    Request,
    Stream,
    get,
    metadata_query,
    page,
    post,
    segment,
    value,
)
from palimpsest.resources.models import PAGE
from palimpsest.resources.versions import job_report
from palimpsest.resources.waiting import poll, wait_until_done
from palimpsest.transports import Steps
from palimpsest.values import AnyJobEvent, Job, read_event
from reports import Report


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
        finished = yield from wait_until_done(
            poll(job_path(job), Job), on_progress=on_progress, timeout=timeout, give_up=JobNotDone
        )
        if must_succeed and not finished.succeeded:
            raise JobFailed(finished)
        return finished


def job_path(job: str | Job) -> str:
    """Return the path of a job."""
    return f"/v1/jobs/{segment(job.id if isinstance(job, Job) else job)}"


def _is_last(event: AnyJobEvent) -> bool:
    return event.is_last
