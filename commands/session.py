"""What every command that calls a service has: options, a client, output, and exit codes."""

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from commands.application import PEOPLE, app
from commands.failure import fail

if TYPE_CHECKING:  # the client takes a while to import, which `--help` does not need
    from rich.console import Console, RenderableType

    from palimpsest import Palimpsest
    from palimpsest.values import Value

P = ParamSpec("P")

FAILED, JOB_FAILED, UNREACHABLE, NOT_ALLOWED, INTERRUPTED = 1, 3, 4, 5, 130

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="PALIMPSEST_URL",
        show_envvar=True,
        help="The service (default: http://127.0.0.1:8000).",
    ),
]
Project = Annotated[
    str | None,
    typer.Option("--project", help="The project to work in (default: that of the API key, or `default`)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

WIDE = 1000
"""Columns of output that goes to a file or a program: no line of a table is broken there."""

OPTIONS = (
    inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url),
    inspect.Parameter("project", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Project),
    inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson),
)


@dataclass
class Session:
    """One call of a command: the client it uses, and where its output goes."""

    url: str | None
    project: str | None
    as_json: bool

    @cached_property
    def client(self) -> "Palimpsest":
        """The client; it reads its key from PALIMPSEST_API_KEY."""
        from palimpsest import Palimpsest

        return Palimpsest(self.url, project=self.project)

    @cached_property
    def console(self) -> "Console":
        """Standard output: the result of the command."""
        return make_console(stderr=False)

    @cached_property
    def messages(self) -> "Console":
        """Standard error: progress, advice and questions."""
        return make_console(stderr=True)

    def close(self) -> None:
        """Close the connections of the client, if it was used."""
        if "client" in self.__dict__:
            self.client.close()

    def show(self, value: "Value | None", *, as_text: Callable[..., "RenderableType"]) -> None:
        """Print a value: as JSON, or as `as_text` makes it."""
        if self.as_json:
            typer.echo(json.dumps(None if value is None else value.to_json(), indent=2, ensure_ascii=False))
        else:
            self.console.print(as_text(value))

    def show_list(self, values: "Iterable[Value]", *, as_table: Callable[..., "RenderableType"]) -> None:
        """Print a list: as a JSON array, or as `as_table` makes it."""
        if self.as_json:
            typer.echo(json.dumps([value.to_json() for value in values], indent=2, ensure_ascii=False))
        else:
            self.console.print(as_table(list(values)))

    def advise(self, text: str) -> None:
        """Tell people at a terminal what they can do next."""
        if not self.as_json and self.messages.is_terminal:
            self.messages.print(text, style="dim", soft_wrap=True)

    def confirm(self, question: str, describe: Callable[[], Iterable[str]], *, yes: bool) -> None:
        """Say what will happen and ask, before what cannot be undone. Without a terminal, `--yes` answers.

        describe: returns what will happen, line by line; it may ask the service. `--yes` skips it.
        """
        if yes:
            return
        for line in describe():
            self.messages.print(f"- {line}", soft_wrap=True)
        if not sys.stdin.isatty():
            fail(f"{question} Nobody is at this terminal to confirm it: add --yes.")
        if not typer.confirm(question, err=True):
            raise typer.Exit(FAILED)


def make_console(*, stderr: bool) -> "Console":
    """Return a console that prints names as they are, whatever characters they have."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def command(
    to: typer.Typer = app, name: str | None = None
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Add a command that calls a service. Its first parameter is the session, which the options make."""

    def add(function: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        panel = {"rich_help_panel": PEOPLE} if to is app else {}
        to.command(name, **panel)(with_session(function))  # type: ignore[arg-type]
        return function

    return add


def with_session(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
    """Return the function with the options of a session in place of its first parameter."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        session = Session(
            url=kwargs.pop("url"),  # type: ignore[arg-type]
            project=kwargs.pop("project"),  # type: ignore[arg-type]
            as_json=bool(kwargs.pop("as_json")),
        )
        with errors_explained(session):
            function(session, *args, **kwargs)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    parameters = [*own, *OPTIONS]
    described: Any = run
    described.__signature__ = inspect.Signature(parameters)
    described.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del described.__wrapped__
    return run


@contextmanager
def calling(url: str, *, as_json: bool = False) -> Iterator[Session]:
    """Yield a session with the service at this URL; errors in the block end the command."""
    session = Session(url=url, project=None, as_json=as_json)
    with errors_explained(session):
        yield session


@contextmanager
def errors_explained(session: Session) -> Iterator[None]:
    """End with one line on standard error and an exit code, whatever goes wrong in the block."""
    from palimpsest import (
        JobFailed,
        NotAllowed,
        NotAuthenticated,
        PalimpsestError,
        RequestRefused,
        ServerUnreachable,
    )

    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except NotAuthenticated as error:
        fail(f"{error.detail} Set PALIMPSEST_API_KEY.", NOT_ALLOWED)
    except NotAllowed as error:
        fail(error.detail, NOT_ALLOWED)
    except ServerUnreachable:
        fail(
            f"no answer from {session.client.base_url}. Is the service running? `palimpsest up` runs one on "
            "this machine; --url or PALIMPSEST_URL names another.",
            UNREACHABLE,
        )
    except JobFailed as error:
        fail(str(error), JOB_FAILED)
    except RequestRefused as error:
        several = error.errors if len(error.errors) > 1 else ()  # one alone is the detail
        broken = [f"{one.pointer}: {one.detail}" for one in several]
        fail(f"{error.detail} ({error.code})", FAILED, broken)
    except (PalimpsestError, OSError) as error:
        fail(str(error))
    finally:
        session.close()
