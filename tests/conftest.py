"""Fixtures that every test may use: a database, a broker, a whole deployment, each empty and for one test.

Tests of PostgreSQL and Redis need them on 127.0.0.1, and those of a bucket need SeaweedFS. Where one is
missing, its tests are skipped with a reason; with CI=true they fail.
"""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from uuid import uuid4

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

from migrations import upgrade
from service.registry import models
from service.registry.artifacts import Artifacts, FolderArtifacts
from service.registry.database import Database
from service.registry.opening import open_artifacts
from service.settings import Settings
from tests import unusual_postgresql
from tests.emptied_databases import EmptiedDatabases
from tests.registries import Registry
from tests.unusual_postgresql import unusual_owner

if TYPE_CHECKING:
    from tests.s3 import S3Server

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, by torch: the suite runs as a process a core
POSTGRESQL = "postgresql://postgres@127.0.0.1:5432"
REDIS = "redis://127.0.0.1:6379"
DATABASES = ("sqlite", "postgresql")
BROKERS = ("folder", "redis")
STORE_KINDS = ("folder", "bucket")
BACKINGS = ("sqlite+folder", "postgresql+redis")


@pytest.fixture(scope="session")
def git() -> None:
    """Require git."""
    _require_program("git")


@pytest.fixture(scope="session")
def shell() -> None:
    """Require bash and curl, which the commands in the README need."""
    _require_program("bash")
    _require_program("curl")


def _require_program(program: str) -> None:
    if shutil.which(program) is None:
        missing(f"{program} is not installed")


@pytest.fixture(scope="session")
def s3() -> Iterator["S3Server"]:
    """An S3 server for this test run, which the environment names."""
    from tests.s3 import own_s3

    with own_s3() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(scope="session")
def shared_bucket(s3: "S3Server") -> str:
    """A bucket for this test run, which keeps no old versions."""
    return s3.make_bucket()


@pytest.fixture
def bucket_url(shared_bucket: str) -> str:
    """The URL of an empty place in a bucket, for this test alone."""
    return f"s3://{shared_bucket}/{uuid4().hex}"


@pytest.fixture(params=STORE_KINDS)
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    """Artifacts for this test alone, without any yet: in a folder, and in a bucket."""
    if request.param == "folder":
        return FolderArtifacts(tmp_path / "artifacts")
    return open_artifacts(Settings(home=tmp_path, artifacts_url=request.getfixturevalue("bucket_url")))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL database for this test run; dropped at its end."""
    with new_postgresql_database(unusual=unusual_postgresql.is_requested()) as url:
        yield url


@contextmanager
def new_postgresql_database(*, unusual: bool = False) -> Iterator[str]:
    """The URL of an empty PostgreSQL database; dropped at the end.

    unusual: the role that the URL names has settings of its own (tests/unusual_postgresql.py).
    """
    _require_port("PostgreSQL", 5432)
    name = f"palimpsest_test_{uuid4().hex}"
    with psycopg.connect(f"{POSTGRESQL}/postgres", autocommit=True) as administration, ExitStack() as stack:
        administration.execute(f"CREATE DATABASE {name}")
        owner = stack.enter_context(unusual_owner(administration, name)) if unusual else "postgres"
        stack.callback(administration.execute, f"DROP DATABASE {name} WITH (FORCE)")
        yield f"{POSTGRESQL.replace('postgres@', f'{owner}@')}/{name}"


@pytest.fixture(params=DATABASES)
def unmigrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database for this test alone, without tables."""
    with own_database(request.param, tmp_path, request) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the tables of this release, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "palimpsest.db"
    database = Database(f"sqlite:///{file}")
    upgrade(database)
    database.dispose()
    return file


@pytest.fixture(scope="session")
def migrated_postgresql() -> Iterator[EmptiedDatabases]:
    """PostgreSQL databases with the tables of this release; dropped at the end of the test run."""
    new_database = partial(new_postgresql_database, unusual=unusual_postgresql.is_requested())
    databases = EmptiedDatabases(new_database, POSTGRESQL)
    yield databases
    databases.drop()


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a migrated database for this test alone."""
    with own_migrated_database(request.param, tmp_path, request) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database for this test alone."""
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture
def new_model(database: Database) -> Callable[[str], Registry]:
    """A function that creates a model of a given name in the database."""

    def create(name: str) -> Registry:
        with database.transaction() as session:
            model = models.create(session, name=name, dataset="digits", network={}, seed=1)
        return Registry(database, model)

    return create


@pytest.fixture
def registry(new_model: Callable[[str], Registry]) -> Registry:
    """A registry with one model, called `pages`."""
    return new_model("pages")


@pytest.fixture(params=BROKERS)
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty broker for this test alone; emptied afterwards."""
    with own_broker(request.param, tmp_path) as url:
        yield url


@pytest.fixture(params=BACKINGS)
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a whole deployment with a home, database and broker for this test; not yet migrated."""
    database, broker = request.param.split("+")
    with own_database(database, tmp_path, request) as url, own_broker(broker, tmp_path) as broker_url:
        yield Settings(home=tmp_path / "home", database_url=url, broker_url=broker_url, port=0)


@contextmanager
def own_database(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a new SQLite file, or of a new schema in the PostgreSQL database of the test run."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'palimpsest.db'}"
        return
    url, schema = request.getfixturevalue("postgresql"), f"test_{uuid4().hex}"
    name, owner = url.rpartition("/")[2], make_url(url).username
    with psycopg.connect(f"{POSTGRESQL}/{name}", autocommit=True) as administration:
        administration.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {owner}")
        try:
            yield f"{url}?options=-csearch_path%3D{schema}".replace("postgresql://", "postgresql+psycopg://")
        finally:
            administration.execute(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def own_migrated_database(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the URL of a database with the tables of this release, for one test or one module alone."""
    if kind == "sqlite":
        file = folder / "palimpsest.db"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(request.getfixturevalue("migrated_sqlite"), file)
        yield f"sqlite:///{file}"
        return
    databases: EmptiedDatabases = request.getfixturevalue("migrated_postgresql")
    with databases.lend() as url:
        yield url.replace("postgresql://", "postgresql+psycopg://")


@contextmanager
def own_broker(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty broker: a folder, or a free database of Redis."""
    if kind == "folder":
        yield f"folder://{folder / 'queue'}"
        return
    _require_port("Redis", 6379)
    with _free_redis_database() as number:
        yield f"{REDIS}/{number}"


@contextmanager
def _free_redis_database() -> Iterator[int]:
    """Reserve an empty one of Redis's sixteen databases. If this test run dies, the reservation expires."""
    for number in range(15, 0, -1):
        with redis.Redis.from_url(f"{REDIS}/{number}") as connection:
            if connection.dbsize() == 0 and connection.set("palimpsest-test", os.getpid(), nx=True, ex=600):
                try:
                    yield number
                finally:
                    connection.flushdb()
                return
    pytest.fail("no Redis database between 1 and 15 is empty and free")


def _require_port(what: str, port: int) -> None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError as error:
        missing(f"{what} does not answer on 127.0.0.1:{port} ({error})")


def missing(what: str) -> NoReturn:
    """Skip the test with this reason; with CI=true, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; with CI=true it is required")
    pytest.skip(what)
