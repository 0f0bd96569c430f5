"""Datasets, the catalog, projects, keys and the audit log."""

from datetime import datetime

from palimpsest.values.base import Json, Value


class Package(Value):
    """An installed package that brings something to the running workers."""

    name: str
    version: str


class UploadNote(Value):
    """Something to know about an upload. labels: those that it is about; none if it is about all of it."""

    code: str
    detail: str
    labels: tuple[str, ...]


class DatasetEntry(Value):
    """Labelled images that models can learn from.

    bundled: whether it can be used without a download. images: how many each label has, if they were
    uploaded. test_images: how many of them are held out for testing. deleted_labels: those whose images were
    deleted from it. conversions: how the uploaded file was read, where that is not plain. warnings: what
    looks wrong with its images. sha256, sent_sha256: of the stored pixels, and of the file that was uploaded.
    package: None if it is built in or was uploaded.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    image_shape: tuple[int, int]
    bundled: bool
    images: dict[str, int] | None = None
    test_images: dict[str, int] | None = None
    deleted_labels: tuple[str, ...] = ()
    conversions: tuple[UploadNote, ...] = ()
    warnings: tuple[UploadNote, ...] = ()
    sha256: str | None = None
    sent_sha256: str | None = None
    package: Package | None = None


class Dataset(DatasetEntry):
    """A dataset, as a resource of its own. viewable: whether `client.datasets.example` gets images of it.

    previews: after a dry run, {label: a PNG of its first images side by side, as a `data:` URL}.
    """

    object: str = "dataset"
    images: dict[str, int] | None
    test_images: dict[str, int] | None
    deleted_labels: tuple[str, ...]
    conversions: tuple[UploadNote, ...]
    warnings: tuple[UploadNote, ...]
    sha256: str | None
    sent_sha256: str | None
    previews: dict[str, str] | None
    viewable: bool
    package: Package | None


class Strategy(Value):
    """A named way to do an operation.

    params: the JSON Schema of its hyper-parameters. package: None if it is built in.
    """

    operation: str
    name: str
    policy: str | None
    retention: str
    default: bool
    needs_examples: bool
    merges_temporary: bool
    guarantee: str | None = None
    architectures: tuple[str, ...] | None = None
    summary: str
    source: str
    params: Json
    package: Package | None = None


class Architecture(Value):
    """A kind of network. params: the JSON Schema of its widths and sizes. package: None if it is built in."""

    name: str
    summary: str
    params: Json
    package: Package | None = None


class Catalog(Value):
    """What a request may name."""

    strategies: tuple[Strategy, ...]
    datasets: tuple[DatasetEntry, ...]
    architectures: tuple[Architecture, ...]


class Project(Value):
    """What models, datasets, samples and API keys belong to."""

    id: str
    object: str = "project"
    name: str
    created_at: datetime


class ApiKey(Value):
    """An API key without its text. project: None for a key of the whole deployment."""

    id: str
    object: str = "api_key"
    name: str
    scopes: tuple[str, ...]
    project: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewApiKey(ApiKey):
    """A key that was just created. key: its text, which is shown this once."""

    key: str | None


class AuditEntry(Value):
    """An entry of the audit log. position, hash: None until it is sealed."""

    sequence: int
    at: datetime
    actor: str
    action: str
    resource: str
    project: str | None
    request_id: str | None
    details: Json
    position: int | None
    hash: str | None


class SigningKey(Value):
    """A public key that verifies receipts. public_key: in PEM format."""

    object: str = "signing_key"
    keyid: str
    algorithm: str
    public_key: str
    created_at: datetime | None
    retired_at: datetime | None


class Readiness(Value):
    """Whether requests are served. checks: `ok`, or what is wrong, by the name of the check."""

    status: str
    checks: dict[str, str]


class Webhook(Value):
    """An address that is sent signed messages. disabled_at: when the service gave up sending to it."""

    id: str
    object: str = "webhook"
    url: str
    types: tuple[str, ...]
    disabled_at: datetime | None
    created_by: str | None
    created_at: datetime


class NewWebhook(Webhook):
    """A webhook that was just created. secret: what signs its messages, which is shown this once."""

    secret: str | None


class Delivery(Value):
    """A message of a webhook. error: why the last attempt does not count."""

    id: str
    object: str = "webhook.delivery"
    type: str
    data: Json
    state: str
    attempts: int
    status: int | None
    error: str | None
    next_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
