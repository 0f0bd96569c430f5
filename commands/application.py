"""The application `palimpsest`, to which the modules of this package add their commands."""

from typing import Any

import typer
import typer.core

PEOPLE = "Commands that call a service"
OPERATORS = "Commands that run a service"

EXIT_CODES = (
    "Exit codes: 0 done; 1 refused, or failed; 2 the command line is wrong; 3 the job did not succeed; "
    "4 no answer from the service; 5 the API key is missing or lacks a scope; 130 stopped by Ctrl-C."
)

app = typer.Typer(
    help=(
        "Palimpsest serves generative models that learn and forget labels on request.\n\n"
        "The first commands call a service: that at --url or PALIMPSEST_URL, by default the one that "
        "`palimpsest up` runs on this machine. They send the API key in PALIMPSEST_API_KEY.\n\n"
        "The others run and maintain a service. Its settings are environment variables PALIMPSEST_*, listed "
        "in service/settings.py; by default all its data is in ~/.palimpsest.\n\n" + EXIT_CODES
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class ListByDefault(typer.core.TyperGroup):
    """A command with subcommands that lists where none is named: `palimpsest jobs --state failed`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `list` in front of what is not a subcommand or --help."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def group(name: str, help: str) -> typer.Typer:
    """Add a command with subcommands that call a service, one of which is `list`."""
    added = typer.Typer(help=help, cls=ListByDefault, rich_markup_mode="rich")
    app.add_typer(added, name=name, rich_help_panel=PEOPLE)
    return added
