"""The settings of an instance, read from environment variables PALIMPSEST_*.

If none is set, everything is in one folder: an SQLite database, the messages of the broker, the artifacts.
With PALIMPSEST_DATABASE_URL and PALIMPSEST_BROKER_URL the same code runs on PostgreSQL and Redis.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.queue_names import DEFAULT_QUEUE, parse_queues
from service.urls import (
    folder_url,
    normalise_artifacts_url,
    normalise_broker_url,
    normalise_database_url,
    sqlite_url,
)


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # it begins with ~ and names no user: then the ~ is a part of the name
        return path.absolute()


RENAMED_VARIABLES = {"PALIMPSEST_RING_AGAIN_SECONDS": "PALIMPSEST_NOTIFY_AGAIN_SECONDS"}
"""{variable of release 0.1.0: its name now}."""


def _refuse_old_name(value: object, info: ValidationInfo) -> object:
    """Raise ValueError if the old variable of this setting is set, which would otherwise be ignored."""
    variable = f"PALIMPSEST_{str(info.field_name).upper()}"
    for old, new in RENAMED_VARIABLES.items():
        if new == variable and os.environ.get(old):
            raise ValueError(f"{old} is the old name of this variable; unset it and set {new}")
    return value


def _in_home(default: Callable[[Path], object]) -> Any:
    """Return a field whose default is computed from the home folder."""
    return Field(default_factory=lambda known: default(Path(known.get("home", ""))), validate_default=True)


Folder = Annotated[Path, AfterValidator(_absolute)]
DatabaseUrl = Annotated[str, AfterValidator(normalise_database_url), Field(repr=False)]
ArtifactsUrl = Annotated[str, AfterValidator(normalise_artifacts_url), Field(repr=False)]
Queues = Annotated[str, AfterValidator(parse_queues)]
BrokerUrl = Annotated[str, AfterValidator(normalise_broker_url), Field(repr=False)]


class Home(BaseSettings):
    """The folder that one instance of Palimpsest owns, and the folders in it."""

    model_config = SettingsConfigDict(
        env_prefix="PALIMPSEST_",
        env_ignore_empty=True,
        frozen=True,
        hide_input_in_errors=True,  # a URL contains a password
    )

    home: Folder = Field(default=Path("~/.palimpsest"), validate_default=True)
    """It contains palimpsest.db, queue/, artifacts/, datasets/, judges/, keys/ and lock."""
    keys: Folder = _in_home(lambda home: home / "keys")
    """The folder of the key that signs receipts: a mounted secret, for example. Only the signer reads it."""

    @property
    def artifacts(self) -> Path:
        """The folder of published files, named by their sha256."""
        return self.home / "artifacts"

    @property
    def judges(self) -> Path:
        """The folder of judges and feature networks trained here, for datasets without committed ones."""
        return self.home / "judges"


class Settings(Home):
    """The settings of one instance of Palimpsest."""

    data: Folder = _in_home(lambda home: home / "datasets")
    """The folder of the datasets, in torchvision's layout."""
    database_url: DatabaseUrl = _in_home(lambda home: sqlite_url(home / "palimpsest.db"))
    """sqlite:///FILE or postgresql://USER@HOST/NAME. Percent-encode what is special in URLs (? as %3F)."""
    database_wait_seconds: float = Field(default=1.5, ge=0.1, le=60)
    """How long a request waits for an answer of the database, for a lock too, before it is answered 503."""
    broker_url: BrokerUrl = _in_home(lambda home: folder_url(home / "queue"))
    """folder://FOLDER or redis://HOST/NUMBER, encoded as the database's URL is."""

    artifacts_url: ArtifactsUrl = ""
    """s3://BUCKET/PREFIX, for artifacts in a bucket of S3 storage and not in a folder. Its address and the
    credentials are the usual variables: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and so on."""

    artifacts_cache_bytes: int = Field(default=1 << 30, ge=0)
    """How many bytes of a bucket's artifacts an API process keeps on the disk of the home folder."""
    signed_links: bool = False
    """Whether downloads of weights, decoders and shards of exports in a bucket are redirected to links of the
    bucket, which end after a minute, also if the label is forgotten meanwhile. Clients must reach the bucket
    then."""

    erasure_log: Folder = _in_home(lambda home: home / "erasures.jsonl")
    """The file with every label that was forgotten. A restored backup is compared with it: put it on another
    disk than the home folder."""

    signer: bool = True
    """Whether this process signs receipts and writes the erasure log. Where several machines run the API or
    the sweeper without a shared folder, set it to false on all but one, which has the key."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0 chooses a free port. The service prints its address when it is ready."""
    auth: Literal["auto", "on", "off"] = "auto"
    """Whether requests need an API key. auto: unless `host` is this machine's loopback address. Where none
    is needed, a request that sends one may do only what that key may."""
    allowed_hosts: str = ""
    """Further names of the service, separated by commas, such as that of a proxy: a request by another name
    is refused. `*` allows every name. Always allowed: localhost, `host`, and IP addresses of this machine."""

    lease_seconds: float = Field(default=6.0, gt=0)
    """How long a worker keeps its claim on a job without a heartbeat."""
    sweep_seconds: float = Field(default=0.5, gt=0)
    """How often the sweeper looks for expired leases, lost messages, purges and unsigned receipts."""
    notify_again_seconds: Annotated[float, BeforeValidator(_refuse_old_name)] = Field(
        default=2.0, gt=0, validate_default=True
    )
    """How long a queued job waits before another wake-up message is sent for it."""
    max_attempts: int = Field(default=3, ge=1)
    """How many times a job may be claimed before it fails as worker_lost or stalled."""
    stall_seconds: float = Field(default=60.0, gt=0)
    """How long a job may make no progress before its worker is ended and replaced. Phases with long steps may
    take a multiple of it (worker/jobs/stalling.py)."""

    group_access: bool = False
    """Whether the group of the service's user may use its files, as workers of another user need."""
    reserve_bytes: int = Field(default=64 << 20, ge=0)
    """How much space stays free on every disk for forget requests and running jobs; other work is refused."""
    scrub_hours: float = Field(default=24, ge=0)
    """How often every artifact is read again, to find damaged files; 0: never."""
    scrub_bytes_per_second: int = Field(default=5 << 20, ge=1)
    """How fast artifacts are read for that."""
    collect_minutes: float = Field(default=60, ge=0)
    """How often files that nothing refers to are deleted; 0: only by `palimpsest collect`."""

    purge_after_days: float = Field(default=0, ge=0)
    """After how many days the files of a revoked version are purged; 0: only if a client requests it."""

    max_upload_bytes: int = Field(default=64 << 20, ge=1)
    """How many bytes an uploaded dataset may have, compressed or not. 64 MiB are 85,000 images."""

    max_uploads: int = Field(default=8, ge=1)
    """How many uploads are received at once, at most half of them (rounded up) with one API key or, without
    keys, from one address that is not this machine's own. One upload is unpacked at a time."""
    max_datasets: int = Field(default=1000, ge=0)
    """How many uploaded datasets a project may have."""
    max_dataset_bytes: int = Field(default=10 << 30, ge=0)
    """How many bytes the images of a project's uploaded datasets may have together."""
    max_datasets_share: float = Field(default=0.5, ge=0, le=1)
    """How much of the disk of the artifacts the uploaded datasets of all projects may fill together."""

    max_export_bytes: int = Field(default=1 << 40, ge=0)
    """How many bytes the exports of a project may have together."""

    max_queued_jobs: int = Field(default=50_000, ge=1)
    """How many jobs may be queued; further ones are refused with 429."""
    max_queued_jobs_of_key: int = Field(default=20_000, ge=1)
    """How many queued jobs one API key may have."""
    requests_per_second: float = Field(default=100, ge=0)
    """How many requests one API key, or one address without a key, may send on average; 0: any number."""
    requests_per_second_of_loopback: float = Field(default=0, ge=0)
    """The same for the programs on this machine; 0: any number."""

    max_connections: int = Field(default=4096, ge=1)
    """How many connections the API keeps open. With few file descriptors (`ulimit -n`) it is fewer."""
    max_connections_of_address: int = Field(default=1024, ge=0)
    """How many connections one address, or one IPv6 network (/64), may have; 0: any number.
    This machine's own may have any number."""
    head_seconds: float = Field(default=10, gt=0)
    """How long a client may take to send the request line and the headers."""
    body_stall_seconds: float = Field(default=30, gt=0)
    """How long a client may send nothing in the middle of a body."""
    idle_seconds: int = Field(default=20, ge=1)
    """How long a connection without a request stays open."""

    max_streams: int = Field(default=256, ge=1)
    """How many streams of events one API process sends at once, at most half of them (rounded up) with one
    API key or, without keys, to one address that is not this machine's own."""
    events_days: float = Field(default=30, ge=0)
    """How long the events of a job are kept after its end; 0: for ever."""

    webhooks_to_private_addresses: bool = False
    """Whether webhooks may have addresses of this machine and of private networks, and plain http."""

    drawing_threads: int = Field(default_factory=lambda: max(os.cpu_count() or 1, 2), ge=1)
    """How many images the API draws at once."""
    max_drawing: int = Field(default=128, ge=1)
    """How many requests may be drawing images, or waiting to; further ones are refused with 429."""

    queues: Queues = DEFAULT_QUEUE
    """The queues whose jobs the worker takes, separated by commas: default,gpu. A job is in the queue that
    its request or its model names."""
    device: str = "auto"
    """Where the worker computes: auto, cpu, cuda, cuda:1. With auto, `palimpsest worker` runs one process for
    each GPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The number format of matrix products in training. auto: bfloat16 on CPUs with instructions for it,
    float32 elsewhere."""
    threads: int = Field(default=0, ge=0)
    """How many CPU threads the worker uses. 0 means one thread, the fastest where other processes compute."""
    worker_metrics_port: int = Field(default=0, ge=0, le=65535)
    """The port of 127.0.0.1 on which a worker shows its metrics for Prometheus; 0: on none."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    """text: lines for people; json: one object a line, with the ids of the request and the job."""

    @property
    def scratch(self) -> Path:
        """The folder of temporary files that become artifacts. It need not exist yet."""
        return self.home if self.artifacts_url else self.artifacts

    @property
    def queue_names(self) -> tuple[str, ...]:
        """The queues whose jobs the worker takes."""
        return tuple(self.queues.split(","))

    @property
    def keys_required(self) -> bool:
        """Whether a request needs an API key."""
        return self.auth == "on" or (self.auth == "auto" and not is_loopback(self.host))

    @property
    def listens_on_all_addresses(self) -> bool:
        """Whether `host` stands for every address of this machine."""
        return self.host in ("0.0.0.0", "::", "")

    @property
    def allowed_host_names(self) -> frozenset[str]:
        """The names in `allowed_hosts`, in lower case."""
        names = (name.strip().lower() for name in self.allowed_hosts.split(","))
        return frozenset(name for name in names if name)

    def as_environment(self) -> dict[str, str]:
        """Return the environment variables that give a child process the same settings."""
        return {f"PALIMPSEST_{name.upper()}": str(value) for name, value in self}


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine reach that address."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Return this process's settings. Call it where a process starts, and pass them on as arguments."""
    return Settings()
