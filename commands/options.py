"""Options and arguments that several commands have, and how their values are read."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.failure import fail

if TYPE_CHECKING:
    from palimpsest.requests import Unchanged

Model = Annotated[str, typer.Argument(help="The name or id of the model.")]
Labels = Annotated[list[str], typer.Argument(help="The labels.")]
Wait = Annotated[
    bool | None,
    typer.Option(
        "--wait/--no-wait", help="Wait until the job is done (default: at a terminal).", show_default=False
    ),
]
Strategy = Annotated[str | None, typer.Option(help="The strategy (default: that of the catalog).")]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME=VALUE",
        help="A param of the strategy, such as schedule.steps=300. Repeat it for several.",
    ),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="NAME=VALUE",
        help="A criterion of the new version, such as forgotten_accuracy_max=0.05. Repeat it for several.",
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="POLICY",
        help="Resize the network afterwards, by another job: auto, prune, expand, search or none (default: "
        "as the model's size policy says).",
        show_default=False,
    ),
]
Queue = Annotated[
    str | None,
    typer.Option(help="The queue of the job: some workers serve it (default: the model's)."),
]
Priority = Annotated[
    int | None,
    typer.Option(
        min=-10,
        max=10,
        help="Jobs with a larger one mostly run first (default: 5 to forget, else 0).",
        show_default=False,
    ),
]
Seed = Annotated[int | None, typer.Option(help="The seed of all randomness (default: 0).")]
Reference = Annotated[str | None, typer.Option(help="Your own name for the request; receipts have it too.")]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="Your own data about the request. Repeatable."),
]
Having = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="Only those that have this metadata. Repeatable."),
]
BaseVersion = Annotated[
    int | None, typer.Option(help="The version that must still be the newest, or the request is refused.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Limit = Annotated[int, typer.Option(min=1, help="How many to list at most, newest first.")]


def as_resize(policy: str | None) -> "str | Unchanged | None":
    """Return a resize that follows as the client takes it: None for `none`, UNCHANGED if none is named."""
    from palimpsest.requests import UNCHANGED

    return UNCHANGED if policy is None else None if policy == "none" else policy


def as_version(text: str | None) -> int | str | None:
    """Return a version as a request names it: by its number, an alias, or `head`."""
    return int(text) if text is not None and text.isdecimal() else text


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            fail(f"{option} {text}: write it as NAME=VALUE", 2)
        found[name] = value
    return found


def texts(option: str, given: list[str] | None) -> dict[str, str] | None:
    """Read NAME=VALUE options whose values are texts."""
    return _pairs(option, given) or None


def settings(given: list[str] | None) -> dict[str, Any] | None:
    """Read NAME=VALUE options whose values are JSON, or texts. A dot in a name is a step into an object."""
    found: dict[str, Any] = {}
    for name, value in _pairs("--param", given).items():
        *path, last = name.split(".")
        place = found
        for part in path:
            place = place.setdefault(part, {})
        try:
            place[last] = json.loads(value)
        except ValueError:
            place[last] = value
    return found or None


def json_object(option: str, text: str | None) -> dict[str, Any] | None:
    """Read an option that is a JSON object."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        fail(f"{option}: it is not JSON: {error}", 2)
    if not isinstance(found, dict):
        fail(f"{option}: it is no JSON object", 2)
    return found
