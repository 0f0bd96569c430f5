"""The command `palimpsest`: run an instance, or one part of it; check a receipt."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Annotated, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console

from migrations import differences, upgrade
from service.process import sweeper
from service.process.supervisor import CannotStart, supervise
from service.process.worker_process import worker_command
from service.receipts import printing, verification
from service.receipts.signing import PUBLIC
from service.registry import artifact_references
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable, RegistryError
from service.registry.tables import Row
from service.settings import Settings, settings

app = typer.Typer(
    help="Generative models that learn and forget on request. Settings are variables PALIMPSEST_*.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Host = Annotated[
    str | None, typer.Option(help="Address to listen on (default: PALIMPSEST_HOST or 127.0.0.1).")
]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on; 0 takes a free one (default: PALIMPSEST_PORT or 8000).")
]


@app.command()
def up(host: Host = None, port: Port = None) -> None:
    """Serve, sweep and work, all in one: the embedded default. Ctrl-C stops it."""
    with _starting() as deployment:
        _need_the_learner("or run `palimpsest serve` for the API alone")
        supervise(
            _listening_on(deployment, host, port), migrate=upgrade, with_worker=True, announce=typer.echo
        )


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Serve the API and sweep; the workers run elsewhere."""
    with _starting() as deployment:
        supervise(
            _listening_on(deployment, host, port), migrate=upgrade, with_worker=False, announce=typer.echo
        )


@app.command()
def worker() -> None:
    """Work: execute jobs, one at a time. Run one per GPU, anywhere that reaches database, broker and home."""
    with _starting() as deployment:
        _need_the_learner("or run the worker where it is installed")
        command = worker_command(deployment.log_level)
        os.execv(command[0], command)


@app.command()
def sweep(once: Annotated[bool, typer.Option(help="Sweep once and end.")] = False) -> None:
    """Sweep only: ring lost bells again, take back the jobs of dead workers."""
    with _starting() as deployment:
        database = Database(deployment.database_url)
        if once:
            sweeper.sweep(database, deployment)
        else:
            sweeper.sweep_until(Event(), database, deployment)


@app.command()
def collect() -> None:
    """Delete artifacts that no row of this database refers to: jobs that died left them behind."""
    with _starting() as deployment:
        with Database(deployment.database_url).transaction() as session:
            collected = artifact_references.collect(session, FolderArtifacts(deployment.artifacts))
        if collected is None:
            _give_up("artifacts are being stored or deleted at this moment; ask again")
        typer.echo(f"collected {collected} files that no row refers to")


@app.command()
def migrate(
    check: Annotated[
        bool, typer.Option(help="Change nothing: compare the migrations with tables.py.")
    ] = False,
) -> None:
    """Bring the database to this release's schema. Running it again, or twice at once, is fine."""
    if check:
        _check_migrations()
        return
    with _starting() as deployment:
        upgrade(Database(deployment.database_url))


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(help="What GET /v1/jobs/JOB/receipt answered.")],
    key: Annotated[Path | None, typer.Option(help="The public key in PEM (default: this home's).")] = None,
    url: Annotated[str | None, typer.Option(help="A running service to ask for its key instead.")] = None,
    files: Annotated[Path | None, typer.Option(help="Compare the version's files in this folder.")] = None,
) -> None:
    """Check a receipt: its signature, its shape and, where they are at hand, the files. Needs no service."""
    with _starting() as deployment:
        try:
            if key is None and url is None and not (deployment.keys / PUBLIC).exists():
                raise verification.CannotCheck("no key is at hand; name one with --key FILE or --url URL")
            trusted = (
                verification.key_of(url) if url else verification.key_in(key or deployment.keys / PUBLIC)
            )
            checked = verification.check(verification.receipt_in(receipt), trusted, files)
        except verification.CannotCheck as error:
            _give_up(f"{receipt} is not checked: {error}")
        except verification.NotGenuine as error:
            _give_up(f"{receipt} is NOT genuine: {error}")
        printing.tell(Console(highlight=False, markup=False, emoji=False), str(receipt), checked)


@contextmanager
def _starting() -> Iterator[Settings]:
    """This process's settings, logging to stderr; what stands in the way is one line and exit code 1."""
    try:
        deployment = settings()
        logging.basicConfig(
            level=deployment.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        logging.getLogger("alembic").setLevel(logging.WARNING)
        yield deployment
    except ValidationError as error:
        first = error.errors()[0]
        _give_up(f"PALIMPSEST_{str(first['loc'][0]).upper()}: {first['msg']}")
    except DatabaseUnavailable as error:
        _give_up(f"{error.message} ({error.reason})")
    except (CannotStart, RegistryError) as error:
        _give_up(str(error))


def _give_up(reason: str) -> NoReturn:
    typer.echo(f"palimpsest: {reason}", err=True)
    raise typer.Exit(1)


def _need_the_learner(otherwise: str) -> None:
    if find_spec("torch") is None:
        raise CannotStart(f"learning needs PyTorch: pip install 'palimpsest[worker]', {otherwise}")


def _listening_on(deployment: Settings, host: str | None, port: int | None) -> Settings:
    asked = {"host": host, "port": port}
    return deployment.model_copy(update={name: value for name, value in asked.items() if value is not None})


def _check_migrations() -> None:
    with tempfile.TemporaryDirectory() as folder:
        migrated, declared = (
            Database(f"sqlite:///{Path(folder) / name}.db") for name in ("migrated", "declared")
        )
        upgrade(migrated)
        Row.metadata.create_all(declared.engine)
        found = differences(migrated, declared)
    for line in found:
        typer.echo(line, err=True)
    if found:
        raise typer.Exit(1)
