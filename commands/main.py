"""The command `palimpsest`: the commands, their options and their help.

What a command does is imported only when it runs: `palimpsest --help` is fast, and `palimpsest verify` works
in an installation that has neither the service nor the worker.
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from commands.failure import fail

app = typer.Typer(
    help=(
        "Palimpsest serves generative models that learn and forget labels on request.\n\n"
        "Every setting is an environment variable PALIMPSEST_*; service/settings.py lists them."
        " Without any, everything is kept in ~/.palimpsest."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Host = Annotated[
    str | None, typer.Option(help="Address to listen on (default: PALIMPSEST_HOST, or 127.0.0.1).")
]
Port = Annotated[
    int | None,
    typer.Option(help="Port to listen on; 0 takes a free one (default: PALIMPSEST_PORT, or 8000)."),
]


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"palimpsest {version('palimpsest')}")
        except PackageNotFoundError:
            typer.echo("palimpsest (not installed: running from its source)")
        raise typer.Exit


@app.callback()
def palimpsest(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command()
def up(host: Host = None, port: Port = None) -> None:
    """Run everything here: API, sweeper and worker.

    Ctrl-C stops it; a job that runs goes back to the queue.

    Example: palimpsest up --port 8080
    """
    _require_worker("up", otherwise="or run the API alone: palimpsest serve")
    from commands import operate

    operate.serve(host, port, with_worker=True)


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """Run the API and the sweeper.

    Workers run elsewhere, as `palimpsest worker`.

    Example: palimpsest serve --host 0.0.0.0 --port 8000
    """
    _require_service("serve")
    from commands import operate

    operate.serve(host, port, with_worker=False)


@app.command()
def worker() -> None:
    """Run a worker, which executes jobs one by one.

    Run one for each GPU. It needs the database, the broker and the home folder of the API.

    Example: PALIMPSEST_DEVICE=cuda:1 palimpsest worker
    """
    _require_worker("worker", otherwise="or run it where that is installed")
    from commands import operate

    operate.work()


@app.command()
def sweep(once: Annotated[bool, typer.Option("--once", help="Sweep once and exit.")] = False) -> None:
    """Run the sweeper alone.

    It wakes workers for waiting jobs, takes jobs back from dead workers, deletes what a purge takes, and
    signs receipts. `palimpsest up` and `palimpsest serve` run one already.

    Example: palimpsest sweep --once
    """
    _require_service("sweep")
    from commands import operate

    operate.sweep(once=once)


@app.command()
def collect() -> None:
    """Delete artifact files that nothing refers to.

    Jobs that crashed leave such files.

    Example: palimpsest collect
    """
    _require_service("collect")
    from commands import operate

    operate.collect()


@app.command()
def migrate(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Change nothing; check that the migrations lead to the tables in the code."
        ),
    ] = False,
) -> None:
    """Bring the database to this release's schema.

    Running it again, or twice at once, is fine. `palimpsest up` and `palimpsest serve` do it when they start.

    Example: palimpsest migrate
    """
    _require_service("migrate")
    from commands import operate

    if check:
        operate.check_migrations()
    else:
        operate.migrate()


@app.command()
def verify(
    receipt: Annotated[Path, typer.Argument(help="The file that GET /v1/jobs/JOB/receipt answered with.")],
    key: Annotated[
        Path | None,
        typer.Option(help="The public key, a PEM file (default: keys/signing.pub.pem in PALIMPSEST_HOME)."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="A running service to get the public key from instead.")
    ] = None,
    files: Annotated[
        Path | None, typer.Option(help="A folder with the version's files, to compare with the receipt.")
    ] = None,
) -> None:
    """Verify a receipt. Works offline.

    Checks the signature, the form and, with --files, the files that the receipt names.

    Example: palimpsest verify receipt.json --key signing.pub.pem
    """
    from commands import verify

    verify.verify(receipt, key=key, url=url, files=files)


def _require_service(command: str) -> None:
    if find_spec("sqlalchemy") is None or find_spec("fastapi") is None:
        fail(f"`palimpsest {command}` needs the service: pip install 'palimpsest[service]'")


def _require_worker(command: str, *, otherwise: str) -> None:
    if find_spec("sqlalchemy") is None or find_spec("fastapi") is None:
        fail(f"`palimpsest {command}` needs the service and PyTorch: pip install 'palimpsest[worker]'")
    if find_spec("torch") is None:
        fail(f"`palimpsest {command}` needs PyTorch: pip install 'palimpsest[worker]', {otherwise}")
