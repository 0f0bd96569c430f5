"""What the server answers, as frozen values. Times are RFC 3339 strings in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

Json = Mapping[str, Any]
"""A JSON object, as a request takes it or an answer holds it."""
Report = dict[str, Any]


class _Answer(BaseModel):
    """Part of an answer. Fields that a newer server adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Progress(_Answer):
    """How far a job is: `step` of `total` in its phase, `fraction` of it in [0, 1], and the last loss."""

    phase: str
    step: int | None = None
    total: int | None = None
    fraction: float | None = None
    eta_seconds: float | None = None
    loss: float | None = None


class MissedCriterion(_Answer):
    """An acceptance criterion that a rejected candidate missed.

    measured: None where it could not be measured. n: how many images it was measured on. interval: the 95 %
    confidence interval.
    """

    criterion: str
    label: str | None = None
    bound: float
    measured: float | None = None
    n: int
    interval: tuple[float, float] | None = None


class JobError(_Answer):
    """Why a job failed or was rejected.

    code: stable, for programs. message: for people, with what to do next. retryable: whether the same request
    can succeed later. reasons: the criteria that a rejected candidate missed.
    """

    type: str
    code: str
    message: str
    retryable: bool
    reasons: tuple[MissedCriterion, ...] = ()


class Purge(_Answer):
    """The deletion of files that hold forgotten labels. keys: the files that are gone, once it is done."""

    state: str
    keys: tuple[Json, ...] = ()


class Job(_Answer):
    """A request that was accepted: to learn, forget, resize or evaluate.

    Poll `done` rather than comparing `state` with a list of states: later servers may have more of them.
    output_version: the version that it published, None unless it succeeded and publishes one.
    """

    id: str
    model: str
    operation: str
    strategy: str
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
    error: JobError | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None


class Label(_Answer):
    """A label of a model. status: absent, temporary, permanent or forgotten.

    source: its name in its dataset.
    """

    name: str
    status: str
    dataset: str | None = None
    source: str | None = None


class Dataset(_Answer):
    """Labelled images that models can learn from."""

    name: str
    title: str
    labels: tuple[str, ...]


class Model(_Answer):
    """A generative model that learns and forgets labels.

    head: the number of its newest version, None before the first. relapsed: forgotten labels that the newest
    version was found to draw again.
    """

    id: str
    name: str
    dataset: str
    head: int | None = None
    relapsed: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()


class Version(_Answer):
    """A published state of a model; it never changes. labels: those it can draw."""

    number: int
    parent: int | None = None
    operation: str
    strategy: str
    labels: tuple[str, ...]
    parameters: int


class SigningKey(_Answer):
    """The public key that verifies receipts. public_key: PEM."""

    keyid: str
    algorithm: str
    public_key: str


@dataclass(frozen=True)
class Sample:
    """Images that were drawn, and the id under which the server recorded the request."""

    id: str
    media_type: str
    content: bytes
