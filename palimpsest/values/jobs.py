"""Jobs, and what they did."""

from datetime import datetime

from palimpsest.values.base import Json, Value
from reports import Criterion


class Progress(Value):
    """How far the current phase of a running job is.

    step, total: in this phase. fraction: step / total, in [0, 1]. eta_seconds: until the phase ends, if
    known. loss: the latest.
    """

    phase: str
    step: int
    total: int
    fraction: float
    eta_seconds: float | None
    loss: float | None


class JobError(Value):
    """Why a job failed or was rejected.

    code: a stable name for programs. message: for people, with what to do next. retryable: whether the same
    request can succeed later. reasons: the criteria that a rejected candidate missed.
    """

    type: str
    code: str
    message: str
    retryable: bool
    reasons: tuple[Criterion, ...] = ()


class Purge(Value):
    """The deletion of the files of versions that held the forgotten labels.

    state: requested, pending or done. files_kept: how many were not deleted, because something else refers to
    them or their bucket keeps old versions. The receipt lists them all.
    """

    reason: str
    state: str
    files_deleted: int
    bytes_deleted: int
    files_kept: int
    finished_at: datetime | None


class DeletedImages(Value):
    """The images that were deleted from a dataset. labels: how many each label had.

    remains: why a bucket keeps old versions of the file that held them.
    """

    dataset: str
    labels: dict[str, int]
    whole: bool
    sha256: str
    replaced_by: str | None
    kept: bool
    remains: str | None = None


class ImageErasure(Value):
    """The deletion of the images of forgotten labels from uploaded datasets.

    waits_for: an older job that may still need the images. datasets: what was deleted, once it is done.
    """

    state: str
    labels: tuple[str, ...]
    waits_for: str | None
    datasets: tuple[DeletedImages, ...]
    finished_at: datetime | None


class LabelElsewhere(Value):
    """A label that another model holds. name: that of the model."""

    model: str
    name: str
    label: str
    status: str


class SamplesElsewhere(Value):
    """Recorded samples of a label, which can be drawn again."""

    model: str
    name: str
    label: str
    count: int


class DatasetLabel(Value):
    """A label of an uploaded dataset."""

    dataset: str
    label: str


class Elsewhere(Value):
    """What else of the project held labels that were learned from the same images. It was not forgotten."""

    models: tuple[LabelElsewhere, ...]
    datasets: tuple[DatasetLabel, ...]
    samples: tuple[SamplesElsewhere, ...]


class RepeatedRequest(Value):
    """A later request that the job answers too, because it asked for no more."""

    reference: str | None
    metadata: dict[str, str]
    request_id: str | None
    created_by: str | None
    created_at: datetime


class Job(Value):
    """A request that was accepted: to learn, forget, resize or evaluate.

    Test `done` rather than `state`: later servers may have more states. `output_version` is the version that
    it published, None if it published none. `retry_of` is the job that it repeats. `follows` is the job after
    whose success a resize runs, and `followed_by` is that resize. `packages` are those that bring its
    `strategy`, `network` or `dataset`. Workers that serve its `queue` take it, mostly jobs of larger
    `priority` first. While it is queued and no running worker can run it, `waits_for` says why.
    `made_permanent` are labels that were temporary: forgetting them is no longer exact.
    """

    id: str
    object: str = "job"
    model: str
    model_name: str
    operation: str
    strategy: str
    guarantee: str | None
    packages: dict[str, str]
    params: Json
    labels: tuple[str, ...]
    already_forgotten: dict[str, str]
    renamed: dict[str, str]
    expires_in: int | None
    made_permanent: tuple[str, ...]
    state: str
    done: bool
    progress: Progress | None
    queue: str
    priority: int
    queue_position: int | None
    waits_for: str | None
    attempt: int
    max_attempts: int
    base_version: int | None
    evaluated_version: int | None
    output_version: int | None
    purge: Purge | None
    image_erasure: ImageErasure | None
    elsewhere: Elsewhere | None
    seed: int
    acceptance: Json
    retry_of: str | None
    follows: str | None
    followed_by: str | None
    reference: str | None
    metadata: dict[str, str]
    also_requested: tuple[RepeatedRequest, ...]
    request_id: str | None
    trace_id: str | None
    created_by: str | None
    cost: Json | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]

    @property
    def succeeded(self) -> bool:
        """Whether it did what was requested."""
        return self.state == "succeeded"

    @property
    def seconds(self) -> float | None:
        """Seconds from its start to its end by the server's clock, None before its end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()
