"""End a command with one line that says why: what went wrong, or what is not installed."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import NoReturn

import typer


def fail(reason: str, code: int = 1, details: Iterable[str] = ()) -> NoReturn:
    """Write `palimpsest: REASON` and a line for each detail to stderr, and exit with the code."""
    typer.echo(f"palimpsest: {' '.join(reason.splitlines())}", err=True)
    for detail in details:
        typer.echo(f"  {detail}", err=True)
    raise typer.Exit(code)


def require_service(command: str) -> None:
    """End a command that needs the service where that is not installed."""
    if find_spec("sqlalchemy") is None or find_spec("fastapi") is None:
        fail(f"`palimpsest {command}` needs the service: pip install 'palimpsest[service]'")


def require_worker(command: str, *, otherwise: str) -> None:
    """End a command that needs the service and PyTorch where they are not installed."""
    if find_spec("sqlalchemy") is None or find_spec("fastapi") is None:
        fail(f"`palimpsest {command}` needs the service and PyTorch: pip install 'palimpsest[worker]'")
    if find_spec("torch") is None:
        fail(f"`palimpsest {command}` needs PyTorch: pip install 'palimpsest[worker]', {otherwise}")
