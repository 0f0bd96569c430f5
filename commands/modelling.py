"""The commands that create models, and make them learn, forget, change their size or be measured."""

import sys
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from commands.application import group
from commands.options import (
    Accept,
    BaseVersion,
    Having,
    Labels,
    Limit,
    Metadata,
    Model,
    Params,
    Priority,
    Queue,
    Reference,
    Resize,
    Seed,
    Strategy,
    Wait,
    Yes,
    as_resize,
    as_version,
    json_object,
    settings,
    texts,
)
from commands.session import Session, command

if TYPE_CHECKING:
    from palimpsest import values

models = group("models", "List, show, create and delete models.\n\nExample: palimpsest models list")


@command(models, "list")
def list_models(
    session: Session,
    prefix: Annotated[str | None, typer.Option(help="Only those whose names begin so.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only those that learn from this dataset.")] = None,
    metadata: Having = None,
    limit: Limit = 50,
) -> None:
    """List the models of the project.

    Example: palimpsest models list --metadata team=vision --json
    """
    from commands import tables

    found = session.client.models.list(
        name_prefix=prefix, dataset=dataset, metadata=texts("--metadata", metadata)
    )
    session.show_list(islice(found, limit), as_table=tables.models)


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
    size_policy: Annotated[
        str | None,
        typer.Option(
            help="auto: resize the network after each job that changes it; fixed: only on request (default)."
        ),
    ] = None,
    queue: Annotated[
        str | None, typer.Option(help="The queue of its jobs, such as gpu (default: default).")
    ] = None,
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
        acceptance=settings(accept),
        size_policy=size_policy,
        queue=queue,
        network=json_object("--network", network),
        description=description,
        metadata=texts("--metadata", metadata),
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
    session.confirm(
        f"Delete the model {model} for ever?",
        lambda: _describe_model_deletion(session.client.models.get(model), purge),
        yes=yes,
    )
    deletion = session.client.models.delete(model, purge=purge, reference=reference)
    if session.as_json:
        session.show(deletion, as_text=str)
    else:
        session.console.print(f"deleted {model}")
        if deletion is not None:
            session.console.print(f"its files are being deleted; its id is {deletion.model}")
            session.advise(f"How far it is: palimpsest models deletion {deletion.model}")


@command(models, "deletion")
def show_deletion(
    session: Session, model: Annotated[str, typer.Argument(help="The id of the deleted model.")]
) -> None:
    """Show how far the deletion of a model's files is.

    `palimpsest receipt` with the same id gets its signed receipt once it is done.

    Example: palimpsest models deletion mdl_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.models.deletion(model), as_text=tables.deletion)


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
    resize: Resize = None,
    accept: Accept = None,
    seed: Seed = None,
    base_version: BaseVersion = None,
    queue: Queue = None,
    priority: Priority = None,
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
        names=texts("--as", rename),
        retention="temporary" if temporary else None,
        expires_in=expires_in,
        strategy=strategy,
        params=settings(param),
        resize=as_resize(resize),
        acceptance=settings(accept),
        seed=seed,
        base_version=base_version,
        queue=queue,
        priority=priority,
        reference=reference,
        metadata=texts("--metadata", metadata),
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
    resize: Resize = None,
    accept: Accept = None,
    seed: Seed = None,
    base_version: BaseVersion = None,
    queue: Queue = None,
    priority: Priority = None,
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
        session.confirm(
            f"Forget {' '.join(labels)} of {model}, and delete {what} for ever?",
            lambda: _describe_forget(session, model, labels, what),
            yes=yes,
        )
    job = session.client.models.forget(
        model,
        labels,
        guarantee="exact" if exact else None,
        strategy=strategy,
        params=settings(param),
        resize=as_resize(resize),
        purge=purge or None,
        delete_images=delete_images,
        acceptance=settings(accept),
        seed=seed,
        base_version=base_version,
        queue=queue,
        priority=priority,
        reference=reference,
        metadata=texts("--metadata", metadata),
    )
    _submitted(session, job, wait)


@command()
def resize(
    session: Session,
    model: Model,
    policy: Annotated[
        str,
        typer.Argument(
            help="prune (smaller), expand (larger), search (larger by as much as is worth it), or auto (the "
            "service chooses)."
        ),
    ],
    strategy: Strategy = None,
    param: Params = None,
    accept: Accept = None,
    seed: Seed = None,
    base_version: BaseVersion = None,
    queue: Queue = None,
    priority: Priority = None,
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
        params=settings(param),
        acceptance=settings(accept),
        seed=seed,
        base_version=base_version,
        queue=queue,
        priority=priority,
        reference=reference,
        metadata=texts("--metadata", metadata),
    )
    _submitted(session, job, wait)


@command()
def evaluate(
    session: Session,
    model: Model,
    version: Annotated[str | None, typer.Option(help="The version to measure (default: the newest).")] = None,
    param: Params = None,
    seed: Seed = None,
    queue: Queue = None,
    priority: Priority = None,
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
        params=settings(param),
        seed=seed,
        queue=queue,
        priority=priority,
        reference=reference,
        metadata=texts("--metadata", metadata),
    )
    _submitted(session, job, wait)


def _describe_model_deletion(model: "values.Model", purge: bool) -> list[str]:
    count = (
        "no version" if model.head is None else "1 version" if model.head == 1 else f"{model.head} versions"
    )
    aliases = f" The aliases {', '.join(model.aliases)} go with it." if model.aliases else ""
    return [
        f"{model.name} has {count}; none can be drawn any more.{aliases}",
        "Its files are deleted at once, and a signed receipt says which."
        if purge
        else "Its files are deleted later, where nothing else needs them; no receipt says so (see --purge).",
        "Its jobs and the receipts of its forgets stay.",
    ]


def _describe_forget(session: Session, model: str, labels: list[str], what: str) -> list[str]:
    """Say what becomes of the versions that hold the labels."""
    usable = session.client.versions.list(model, state="usable")
    lost = [str(one.number) for one in usable if set(one.labels) & set(labels)]
    drawn = f"Versions that can no longer be drawn: {', '.join(reversed(lost))}." if lost else ""
    return [*([drawn] if drawn else []), f"Deleted for ever: {what}."]


def _submitted(session: Session, job: "values.Job", wait: bool | None) -> None:
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
        if job.followed_by is not None:
            session.advise(f"A resize follows it: palimpsest watch {job.followed_by}")
