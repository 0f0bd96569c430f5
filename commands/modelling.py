"""The commands that create models, and make them learn, forget, change their size or be measured."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.application import group
from commands.failure import fail
from commands.session import Session, command

if TYPE_CHECKING:
    from palimpsest.values import Job

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
Seed = Annotated[int | None, typer.Option(help="The seed of all randomness (default: 0).")]
Reference = Annotated[str | None, typer.Option(help="Your own name for the request; receipts have it too.")]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="Your own data about the request. Repeatable."),
]
BaseVersion = Annotated[
    int | None, typer.Option(help="The version that must still be the newest, or the request is refused.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Limit = Annotated[int, typer.Option(min=1, help="How many to list at most, newest first.")]

models = group("models", "Create, list, show and delete models.\n\nExample: palimpsest models list")


@command(models, "list")
def list_models(session: Session, limit: Limit = 50) -> None:
    """List the models of the project.

    Example: palimpsest models list --json
    """
    from itertools import islice

    from commands import tables

    session.show_list(islice(session.client.models.list(), limit), as_table=tables.models)


@command(models, "show")
def show_model(session: Session, model: Model) -> None:
    """Show a model and its labels.

    Example: palimpsest models show digits
    """
    from commands import tables

    session.show(session.client.models.get(model), as_text=tables.model)


@command(models, "create")
def create_model(
    session: Session,
    name: Annotated[str, typer.Argument(help="Its name.")],
    dataset: Annotated[str, typer.Option(help="What it learns from; see `palimpsest datasets`.")],
    seed: Seed = None,
    accept: Accept = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    metadata: Metadata = None,
    network: Annotated[
        str | None, typer.Option(help="The architecture and its params, as JSON (default: the catalog's).")
    ] = None,
) -> None:
    """Create a model. It has no labels until it learns some.

    Example: palimpsest models create numbers --dataset digits
    """
    from commands import tables

    created = session.client.models.create(
        name,
        dataset=dataset,
        seed=seed,
        acceptance=_settings(accept),
        network=_json("--network", network),
        description=description,
        metadata=_texts("--metadata", metadata),
    )
    session.show(created, as_text=tables.model)


@command(models, "delete")
def delete_model(
    session: Session,
    model: Model,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete all its files at once, and issue a signed receipt.")
    ] = False,
    reference: Reference = None,
    yes: Yes = False,
) -> None:
    """Delete a model for ever. Its jobs and receipts stay.

    Example: palimpsest models delete numbers --purge --yes
    """
    session.confirm(f"Delete the model {model} and all its versions for ever?", yes=yes)
    deletion = session.client.models.delete(model, purge=purge, reference=reference)
    if session.as_json:
        session.show(deletion, as_text=str)
    else:
        session.console.print(f"deleted {model}")
        if deletion is not None:
            session.console.print(f"its files are being deleted; its id is {deletion.model}")


@command()
def learn(
    session: Session,
    model: Model,
    labels: Labels,
    dataset: Annotated[
        str | None, typer.Option(help="Where the images of the labels come from (default: the model's).")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="NAME=NEW",
            help="Another name for a label in this model: sneaker=shoe. Repeatable.",
        ),
    ] = None,
    temporary: Annotated[
        bool, typer.Option("--temporary", help="Learn in networks of their own, which are forgotten exactly.")
    ] = False,
    expires_in: Annotated[
        int | None, typer.Option(help="Seconds after which the service forgets temporary labels by itself.")
    ] = None,
    strategy: Strategy = None,
    param: Params = None,
    accept: Accept = None,
    seed: Seed = None,
    base_version: BaseVersion = None,
    reference: Reference = None,
    metadata: Metadata = None,
    wait: Wait = None,
) -> None:
    """Learn labels.

    Example: palimpsest learn numbers 0 1 2 3 --param schedule.steps=300
    """
    job = session.client.models.learn(
        model,
        labels,
        dataset=dataset,
        names=_texts("--as", rename),
        retention="temporary" if temporary else None,
        expires_in=expires_in,
        strategy=strategy,
        params=_settings(param),
        acceptance=_settings(accept),
        seed=seed,
        base_version=base_version,
        reference=reference,
        metadata=_texts("--metadata", metadata),
    )
    _submitted(session, job, wait)


@command()
def forget(
    session: Session,
    model: Model,
    labels: Labels,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Forget exactly, or refuse; without it, forgetting may be approximate."),
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete the files of all older versions that had the labels, too.")
    ] = False,
    delete_images: Annotated[
        bool,
        typer.Option("--delete-images", help="Delete their images from the uploaded datasets, too."),
    ] = False,
    strategy: Strategy = None,
    param: Params = None,
    accept: Accept = None,
    seed: Seed = None,
    base_version: BaseVersion = None,
    reference: Reference = None,
    metadata: Metadata = None,
    wait: Wait = None,
    yes: Yes = False,
) -> None:
    """Forget labels.

    Older versions that have them can no longer be drawn.
    With --purge or --delete-images, which nothing brings back, it asks first.

    Example: palimpsest forget numbers 3 --reference "erasure 12"
    """
    if purge or delete_images:
        what = " and ".join(
            ["the files of all older versions that had them"] * purge
            + ["their images in uploaded datasets"] * delete_images
        )
        session.confirm(f"Forget {' '.join(labels)} of {model}, and delete {what} for ever?", yes=yes)
    job = session.client.models.forget(
        model,
        labels,
        guarantee="exact" if exact else None,
        strategy=strategy,
        params=_settings(param),
        purge=purge or None,
        delete_images=delete_images,
        acceptance=_settings(accept),
        seed=seed,
        base_version=base_version,
        reference=reference,
        metadata=_texts("--metadata", metadata),
    )
    _submitted(session, job, wait)


@command()
def resize(
    session: Session,
    model: Model,
    policy: Annotated[
        str, typer.Argument(help="prune (smaller), expand (larger), or auto (the service chooses).")
    ],
    strategy: Strategy = None,
    param: Params = None,
    accept: Accept = None,
    seed: Seed = None,
    base_version: BaseVersion = None,
    reference: Reference = None,
    metadata: Metadata = None,
    wait: Wait = None,
) -> None:
    """Change the size of the network, and keep its labels.

    Example: palimpsest resize numbers prune
    """
    job = session.client.models.resize(
        model,
        policy,
        strategy=strategy,
        params=_settings(param),
        acceptance=_settings(accept),
        seed=seed,
        base_version=base_version,
        reference=reference,
        metadata=_texts("--metadata", metadata),
    )
    _submitted(session, job, wait)


@command()
def evaluate(
    session: Session,
    model: Model,
    version: Annotated[str | None, typer.Option(help="The version to measure (default: the newest).")] = None,
    param: Params = None,
    seed: Seed = None,
    reference: Reference = None,
    metadata: Metadata = None,
    wait: Wait = None,
) -> None:
    """Measure a version in full.

    It is compared with networks that were retrained without the forgotten labels.

    Example: palimpsest evaluate numbers --version 2
    """
    job = session.client.models.evaluate(
        model,
        version=as_version(version),
        params=_settings(param),
        seed=seed,
        reference=reference,
        metadata=_texts("--metadata", metadata),
    )
    _submitted(session, job, wait)


def as_version(text: str | None) -> int | str | None:
    """Return a version as a request names it: by its number, an alias, or `head`."""
    return int(text) if text is not None and text.isdecimal() else text


def _submitted(session: Session, job: "Job", wait: bool | None) -> None:
    """Follow the job that was accepted, or print it."""
    from commands import tables
    from commands.following import follow

    if wait if wait is not None else sys.stdout.isatty():
        follow(session, job)
    elif session.as_json:
        session.show(job, as_text=tables.job)
    else:
        session.console.print(job.id)
        session.advise(f"It is {job.state}. Follow it: palimpsest watch {job.id}")


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            fail(f"{option} {text}: write it as NAME=VALUE", 2)
        found[name] = value
    return found


def _texts(option: str, given: list[str] | None) -> dict[str, str] | None:
    """Read NAME=VALUE options whose values are texts."""
    return _pairs(option, given) or None


def _settings(given: list[str] | None) -> dict[str, Any] | None:
    """Read NAME=VALUE options whose values are JSON, or texts. A dot in a name is a step into an object."""
    settings: dict[str, Any] = {}
    for name, value in _pairs("--param", given).items():
        *path, last = name.split(".")
        place = settings
        for part in path:
            place = place.setdefault(part, {})
        try:
            place[last] = json.loads(value)
        except ValueError:
            place[last] = value
    return settings or None


def _json(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        fail(f"{option}: it is not JSON: {error}", 2)
    if not isinstance(found, dict):
        fail(f"{option}: it is no JSON object", 2)
    return found
