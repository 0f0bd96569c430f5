"""End a command with one line that says why."""

from typing import NoReturn

import typer


def fail(reason: str) -> NoReturn:
    """Write `palimpsest: REASON` to stderr and exit with 1."""
    typer.echo(f"palimpsest: {' '.join(reason.splitlines())}", err=True)
    raise typer.Exit(1)
