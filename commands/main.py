"""The command line `palimpsest`: its commands, with their options and help.

Each command imports its implementation when it runs. So `palimpsest --help` is fast, and `palimpsest verify`
works in an installation without the service and the worker.
"""

from typing import Annotated

import typer

# Each module adds its commands. The help lists them in this order.
# isort: off
from commands import modelling, sampling, exporting, examining, describing  # noqa: F401
from commands import data, administering, notifying, operating  # noqa: F401

# isort: on
from commands.application import app as app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"palimpsest {version('palimpsest')}")
        except PackageNotFoundError:
            typer.echo("palimpsest (version unknown: running from source, not installed)")
        raise typer.Exit


@app.callback()
def palimpsest(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    pass
