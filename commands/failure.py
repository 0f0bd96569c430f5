"""End a command with one line that says why."""

from collections.abc import Iterable
from typing import NoReturn

import typer


def fail(reason: str, code: int = 1, details: Iterable[str] = ()) -> NoReturn:
    """Write `palimpsest: REASON` and a line for each detail to stderr, and exit with the code."""
    typer.echo(f"palimpsest: {' '.join(reason.splitlines())}", err=True)
    for detail in details:
        typer.echo(f"  {detail}", err=True)
    raise typer.Exit(code)
