"""Exports: many images of a version, in files to download."""

from datetime import datetime

from palimpsest.values.base import Value
from palimpsest.values.jobs import JobError


class ExportProgress(Value):
    """How far an export is.

    images: in finished shards, or drawn for the next ones. fraction: images / total, in [0, 1]. eta_seconds:
    until its end, if known.
    """

    images: int
    total: int
    fraction: float
    eta_seconds: float | None


class ExportManifest(Value):
    """The file that lists all shards of an export."""

    sha256: str
    bytes: int
    href: str


class Export(Value):
    """Many images of a version, drawn by workers into shards.

    Test `done` rather than `state`: later servers may have more states. `count` is that of each label, and
    `images` that of all together; `shards` is how many there are in the end. `manifest` is None until it has
    succeeded.
    """

    id: str
    object: str = "export"
    model: str
    model_name: str
    version: int
    labels: tuple[str, ...]
    count: int
    images: int
    seed: int
    format: str
    shard_images: int
    shards: int
    state: str
    done: bool
    progress: ExportProgress
    bytes: int
    manifest: ExportManifest | None
    error: JobError | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]

    @property
    def succeeded(self) -> bool:
        """Whether all of its shards and its manifest can be downloaded."""
        return self.state == "succeeded"


class ExportShard(Value):
    """A finished shard of an export. first_image: the number of its first image in the export."""

    number: int
    object: str = "export.shard"
    file: str
    first_image: int
    images: int
    sha256: str
    bytes: int
    media_type: str
    href: str
