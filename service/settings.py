"""What the deployment decides, read once from the environment (variables PALIMPSEST_*).

With nothing set, everything lives in one folder: SQLite, a folder as message broker, artifacts.
With PALIMPSEST_DATABASE_URL and PALIMPSEST_BROKER_URL the same code runs on PostgreSQL and Redis.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _with_driver(url: str) -> str:
    """`postgresql://` and `postgres://` as other tools write them, with the driver this house uses."""
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            return "postgresql+psycopg://" + url.removeprefix(plain)
    return url


def _of_a_database(url: str) -> str:
    # Imported here: `palimpsest verify` reads its home folder from this module, and runs without SQLAlchemy.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        scheme = make_url(url).drivername
    except (ArgumentError, ValueError) as error:
        raise ValueError("not a database URL; write sqlite:///FILE or postgresql://USER@HOST/NAME") from error
    if scheme not in ("sqlite", "postgresql+psycopg"):
        raise ValueError(f"{scheme} is not offered; use sqlite:///FILE or postgresql://USER@HOST/NAME")
    return url


def _of_a_broker(url: str) -> str:
    advice = "write folder://FOLDER or redis://HOST/NUMBER"
    if not url.startswith(("folder://", "redis://", "rediss://")):
        raise ValueError(f"not a broker this service speaks to; {advice}")
    try:
        urlsplit(url).port  # noqa: B018 - reading it is the check
    except ValueError as error:
        raise ValueError(f"the broker's port is not a number below 65536; {advice}") from error
    return url


RENAMED_VARIABLES = {"PALIMPSEST_RING_AGAIN_SECONDS": "PALIMPSEST_NOTIFY_AGAIN_SECONDS"}
"""{variable of release 0.1.0: its name now}."""


def _not_by_an_old_name(value: object, info: ValidationInfo) -> object:
    """Refuse a setting whose old variable is set, which would otherwise be ignored in silence."""
    variable = f"PALIMPSEST_{str(info.field_name).upper()}"
    for old, new in RENAMED_VARIABLES.items():
        if new == variable and os.environ.get(old):
            raise ValueError(f"{old} is set, which is the old name of this variable; set {new} in its place")
    return value


def _in_home(pattern: str) -> Any:
    """A default that lies in the home folder: `{home}` in the pattern stands for it."""
    return Field(
        default_factory=lambda known: pattern.format(home=known.get("home", "")), validate_default=True
    )


Folder = Annotated[Path, AfterValidator(_absolute)]
DatabaseUrl = Annotated[str, AfterValidator(_with_driver), AfterValidator(_of_a_database)]
BrokerUrl = Annotated[str, AfterValidator(_of_a_broker)]


class Home(BaseSettings):
    """The folder that one instance of Palimpsest owns, and the folders in it."""

    model_config = SettingsConfigDict(env_prefix="PALIMPSEST_", env_ignore_empty=True, frozen=True)

    home: Folder = Field(default=Path("~/.palimpsest"), validate_default=True)
    """The folder this instance owns: palimpsest.db, queue/, artifacts/, judges/, keys/, lock."""

    @property
    def artifacts(self) -> Path:
        """The folder of published files, named by their sha256."""
        return self.home / "artifacts"

    @property
    def keys(self) -> Path:
        """The folder of the key that signs receipts. The API and the sweeper read it; a worker need not."""
        return self.home / "keys"

    @property
    def judges(self) -> Path:
        """The folder of judges and feature networks trained here, where the code brings none."""
        return self.home / "judges"


class Settings(Home):
    """The settings of one instance of Palimpsest. Frozen, so that it can be handed around."""

    data: Folder = _in_home("{home}/datasets")
    """The dataset folder, in torchvision's layout."""
    database_url: DatabaseUrl = _in_home("sqlite:///{home}/palimpsest.db")
    """SQLite, or postgresql://..."""
    broker_url: BrokerUrl = _in_home("folder://{home}/queue")
    """A folder, or redis://..."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free port; the ready line says which."""

    lease_seconds: float = Field(default=6.0, gt=0)
    """How long a running job stays its worker's without a heartbeat."""
    sweep_seconds: float = Field(default=0.5, gt=0)
    """How often lost bells and expired leases are looked for."""
    notify_again_seconds: Annotated[float, BeforeValidator(_not_by_an_old_name)] = Field(
        default=2.0, gt=0, validate_default=True
    )
    """How long a queued job waits for its worker before its bell is rung again."""
    max_attempts: int = Field(default=3, ge=1)
    """How often a job may be claimed before it fails as worker_lost."""

    purge_after_days: float = Field(default=0, ge=0)
    """How long the files of a revoked version are kept before they are purged; 0 keeps them."""

    max_upload_bytes: int = Field(default=64 << 20, ge=1)
    """How large an uploaded dataset may be, packed and unpacked: 64 MiB are 85,000 images."""

    device: str = "auto"
    """Where the worker computes: auto, cpu, cuda, cuda:1."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix products of a training: auto is bfloat16 on a GPU and float32 on a CPU."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of the worker; 0 takes one, the fastest where cores are shared."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def as_environment(self) -> dict[str, str]:
        """The variables that give a child process these very settings."""
        return {f"PALIMPSEST_{name.upper()}": str(value) for name, value in self}


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process. Read at the edges only; everything inside takes what it needs."""
    return Settings()
