"""What the client raises. `except PalimpsestError` catches all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palimpsest.values import Export, Job, Json, Value


class PalimpsestError(Exception):
    """Any error of this client."""


class ServerUnreachable(PalimpsestError):
    """No answer came: the address is wrong, or the server is down. The request may have arrived."""


class RequestTimedOut(ServerUnreachable):
    """No answer came in the time that the client waits. The request may have arrived."""


class UnexpectedAnswer(PalimpsestError):
    """The answer is none of this API: a proxy or another program answered, or a server of another release."""


class JobFailed(PalimpsestError):
    """A job that was waited for with `must_succeed` failed, was rejected or was cancelled."""

    def __init__(self, job: Job) -> None:
        reason = f"{job.error.code}: {job.error.message}" if job.error else f"it was {job.state}"
        super().__init__(f"{job.id} ({job.operation} of {job.model_name}) did not succeed: {reason}")
        self.job = job


class JobNotDone(PalimpsestError, TimeoutError):
    """A job was not done in the time that it was waited for. It continues."""

    def __init__(self, job: Job, seconds: float) -> None:
        super().__init__(
            f"{job.id} is still {job.state} after {seconds:g} s. It continues: wait for it again, or stop it "
            f"with jobs.cancel({job.id!r})."
        )
        self.job = job


class ExportFailed(PalimpsestError):
    """An export that was waited for with `must_succeed`, or is to be downloaded, ended without a result."""

    def __init__(self, export: Export) -> None:
        reason = f"{export.error.code}: {export.error.message}" if export.error else f"it was {export.state}"
        super().__init__(f"{export.id} (of {export.model_name}) did not succeed: {reason}")
        self.export = export


class ExportNotDone(PalimpsestError, TimeoutError):
    """An export was not done in the time that it was waited for, or is to be downloaded too early."""

    def __init__(self, export: Export, seconds: float) -> None:
        super().__init__(
            f"{export.id} is still {export.state} after {seconds:g} s. It continues: wait for it with "
            f"exports.wait({export.id!r}), or stop it with exports.cancel({export.id!r})."
        )
        self.export = export


class DownloadDamaged(PalimpsestError):
    """What was downloaded does not have the sha256 or the size that it should have."""


class Violation(Value):
    """A rule that a request breaks.

    pointer: a JSON pointer into the body; parameters are at /query/NAME and /path/NAME.
    """

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True)
class Problem:
    """What an error answer says.

    status: the HTTP status. code: stable, for programs: `model_not_found`. detail: for people, with what to
    do next. errors: each rule that the request breaks. request_id: finds the request in the server's log.
    job: the job that the error is about, such as the one that forgot a label. retry_after: seconds to wait
    before trying again. document: the whole answer.
    """

    status: int
    code: str
    detail: str
    errors: tuple[Violation, ...] = ()
    request_id: str | None = None
    job: str | None = None
    retry_after: float | None = None
    document: Json | None = None


class RequestRefused(PalimpsestError):
    """The server answered with an error. Its subclasses are the kinds of errors; `code` says which one."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
        self.status = problem.status
        self.code = problem.code
        self.detail = problem.detail
        self.errors: Sequence[Violation] = problem.errors
        self.request_id = problem.request_id
        self.job = problem.job
        self.retry_after = problem.retry_after

    def __str__(self) -> str:
        places = [error for error in self.errors if error.pointer]  # the whole body is what `detail` is about
        broken = "".join(f"\n  {error.pointer}: {error.detail}" for error in places)
        return f"{self.code} ({self.status}): {self.detail}{broken}"


class NotAuthenticated(RequestRefused):
    """401: no API key was sent, or one that is wrong, expired or revoked."""


class NotAllowed(RequestRefused):
    """403: the key lacks a scope, or may not use this project."""


class NotFound(RequestRefused):
    """404: there is no such thing in this project."""


class Conflict(RequestRefused):
    """409: the state of the model, job, dataset or project does not allow it."""


class Gone(RequestRefused):
    """410: it was there, and was revoked, purged or deleted."""


class PreconditionFailed(RequestRefused):
    """412 or 428: it was changed meanwhile, or the request must say what it expects to change."""


class InvalidRequest(RequestRefused):
    """400, 413, 414, 415, 422 or the like: the request itself is wrong; `errors` says where."""


class TooManyRequests(RequestRefused):
    """429: a limit is reached; `retry_after` says when to try again."""


class ServerError(RequestRefused):
    """500 to 599: the server could not do it now; 503 says that it may be tried again."""


_KINDS: dict[int, type[RequestRefused]] = {
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    410: Gone,
    412: PreconditionFailed,
    428: PreconditionFailed,
    429: TooManyRequests,
}


def refusal(problem: Problem) -> RequestRefused:
    """Return the exception of the kind that the status tells."""
    kind = _KINDS.get(problem.status, ServerError if problem.status >= 500 else InvalidRequest)
    return kind(problem)


def read_problem(status: int, document: dict[str, Any], retry_after: float | None) -> Problem:
    """Read a problem document (RFC 9457). Raises KeyError or ValueError if it lacks what this API's have."""
    return Problem(
        status=status,
        code=str(document["code"]),
        detail=str(document["detail"]),
        errors=tuple(Violation.model_validate(error) for error in document.get("errors") or ()),
        request_id=document.get("request_id"),
        job=document.get("job"),
        retry_after=retry_after,
        document=document,
    )
