"""What a server answers, as plain frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

Json = Mapping[str, Any]
Report = dict[str, Any]


class _Answer(BaseModel):
    """What an answer says; fields a newer server adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Progress(_Answer):
    """Where a job stands: `step` of `total` in its phase, as a `fraction` in [0, 1], and the last loss."""

    phase: str
    step: int | None = None
    total: int | None = None
    fraction: float | None = None
    eta_seconds: float | None = None
    loss: float | None = None


class Reason(_Answer):
    """A criterion that a rejected candidate missed, with what was measured of it (None: nothing could be)."""

    criterion: str
    label: str | None = None
    bound: float
    measured: float | None = None
    n: int
    interval: tuple[float, float] | None = None


class JobError(_Answer):
    """Why a job failed: `code` is stable, `retryable` tells whether asking again can help."""

    type: str
    code: str
    message: str
    retryable: bool
    reasons: tuple[Reason, ...] = ()


class Purge(_Answer):
    """The deletion of what holds forgotten labels: asked, pending, or done with the keys that are gone."""

    state: str
    keys: tuple[Json, ...] = ()


class Job(_Answer):
    """One accepted request to change a model. Poll `done`; never compare `state` with a list of your own."""

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
    """A name the model can be asked to draw; its status is absent, temporary, permanent or forgotten.

    `source` is what its dataset calls it.
    """

    name: str
    status: str
    dataset: str | None = None
    source: str | None = None


class Dataset(_Answer):
    """Labelled images to learn from."""

    name: str
    title: str
    labels: tuple[str, ...]


class Model(_Answer):
    """The named thing that learns and forgets; `head` numbers its newest version, None before the first.

    `relapsed`: forgotten labels that the head was measured to draw again.
    """

    id: str
    name: str
    dataset: str
    head: int | None = None
    relapsed: tuple[str, ...] = ()
    labels: tuple[Label, ...] = ()


class Version(_Answer):
    """An immutable published state of a model. `labels` are the names it holds."""

    number: int
    parent: int | None = None
    operation: str
    strategy: str
    labels: tuple[str, ...]
    parameters: int


class SigningKey(_Answer):
    """The public half of the key that signs receipts, in PEM."""

    keyid: str
    algorithm: str
    public_key: str


@dataclass(frozen=True)
class Sample:
    """A recorded ask for images: its id, and the picture file the server drew."""

    id: str
    media_type: str
    content: bytes
