"""The contents of the server's responses, as immutable values. Times are RFC 3339 strings in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from reports import Criterion, read_criterion

Json = Mapping[str, Any]
"""A JSON object in a request or a response."""


class _Response(BaseModel):
    """An object in a response. Fields that a newer server adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Progress(_Response):
    """The progress of a running job.

    phase: what it is doing. step, total: in this phase. fraction: step / total, in [0, 1]. loss: the latest.
    """

    phase: str
    step: int | None = None
    total: int | None = None
    fraction: float | None = None
    eta_seconds: float | None = None
    loss: float | None = None


class JobError(_Response):
    """Why a job failed or was rejected.

    code: a stable identifier for programs. message: for people, with what to do next. retryable: whether the
    same request can succeed later. reasons: the criteria that were missed.
    """

    type: str
    code: str
    message: str
    retryable: bool
    reasons: tuple[Annotated[Criterion, BeforeValidator(read_criterion)], ...] = ()


class Purge(_Response):
    """The deletion of files of versions trained on forgotten labels. keys: the deleted files, once done."""

    state: str
    keys: tuple[Json, ...] = ()


class Job(_Response):
    """A request that was accepted: to learn, forget, resize or evaluate.

    Test `done` rather than `state`: later servers may have more states.
    output_version: the version it published; None if it published none.
    """

    id: str
    model: str
    model_name: str | None = None
    operation: str
    strategy: str
    guarantee: str | None = None
    params: Json = {}
    labels: tuple[str, ...]
    state: str
    done: bool
    progress: Progress | None = None
    attempt: int
    base_version: int | None = None
    evaluated_version: int | None = None
    output_version: int | None = None
    purge: Purge | None = None
    seed: int
    reference: str | None = None
    metadata: Mapping[str, str] = {}
    cost: Json | None = None
    error: JobError | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None


class Label(_Response):
    """A label of a model. status: absent, temporary, permanent or forgotten.

    source: the name of the label in its dataset.
    """

    name: str
    status: str
    dataset: str | None = None
    source: str | None = None


class Dataset(_Response):
    """Labelled images that models can learn from. images: how many a label has, if they were uploaded."""

    name: str
    title: str
    labels: tuple[str, ...]
    images: dict[str, int] | None = None
    deleted_labels: tuple[str, ...] = ()


class Model(_Response):
    """A generative model that learns and forgets labels.

    head: the number of its newest version, None before the first. relapsed: forgotten labels that the newest
    version draws again.
    """

    id: str
    name: str
    dataset: str
    head: int | None = None
    relapsed: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()


class Version(_Response):
    """A published state of a model; it never changes. labels: those it can draw."""

    number: int
    parent: int | None = None
    operation: str
    strategy: str
    labels: tuple[str, ...]
    parameters: int


class SigningKey(_Response):
    """The public key that verifies receipts. public_key: in PEM format."""

    keyid: str
    algorithm: str
    public_key: str


@dataclass(frozen=True)
class Sample:
    """Images that the server drew, and the id that it recorded the request under."""

    id: str
    media_type: str
    content: bytes
