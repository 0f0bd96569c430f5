"""What happened to a job."""

from datetime import datetime
from functools import cache
from typing import Literal

from pydantic import TypeAdapter

from palimpsest.values.base import Value
from palimpsest.values.jobs import Progress


class JobEvent(Value):
    """Something that happened to a job, of a type of a newer server if it is none of those below.

    id: grows with every event.
    """

    id: str
    object: str = "job.event"
    type: str
    job: str
    created_at: datetime

    @property
    def is_last(self) -> bool:
        """Whether the job has ended with it."""
        return False


class StateEvent(JobEvent):
    """The job has another state. code: why it failed or was rejected."""

    type: Literal["state"] = "state"
    state: str
    done: bool
    attempt: int
    code: str | None

    @property
    def is_last(self) -> bool:
        """Whether the job has ended with it."""
        return self.done


class ProgressEvent(JobEvent):
    """How far the job is. Old ones are thinned out: those that remain show the course of the loss."""

    type: Literal["progress"] = "progress"
    progress: Progress


class LogEvent(JobEvent):
    """A line about what the job does."""

    type: Literal["log"] = "log"
    message: str


AnyJobEvent = StateEvent | ProgressEvent | LogEvent | JobEvent


def read_event(document: str) -> AnyJobEvent:
    """Read an event from JSON. Raises ValidationError."""
    return _reader().validate_json(document, extra="allow")


@cache
def _reader() -> TypeAdapter[AnyJobEvent]:
    return TypeAdapter(AnyJobEvent)  # made when it is needed: it takes a while, and few commands follow jobs
