"""`palimpsest datasets` and `strategies`: what models can learn from, and how."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.application import group
from commands.failure import fail
from commands.options import Yes
from commands.session import Session, command

if TYPE_CHECKING:
    from palimpsest.values import Dataset

Name = Annotated[str, typer.Argument(help="The name of the dataset.")]

datasets = group(
    "datasets",
    "List, show, upload and delete datasets.\n\nExample: palimpsest datasets list",
)


@command(datasets, "list")
def list_datasets(session: Session) -> None:
    """List what models can learn from.

    Example: palimpsest datasets list
    """
    from commands import tables

    session.show_list(session.client.datasets.list(), as_table=tables.datasets)


@command(datasets, "show")
def show_dataset(session: Session, name: Name) -> None:
    """Show a dataset and its labels.

    Example: palimpsest datasets show digits
    """
    from commands import tables

    session.show(session.client.datasets.get(name), as_text=tables.dataset)


@command(datasets, "examples")
def show_examples(
    session: Session,
    name: Name,
    label: Annotated[str, typer.Argument(help="The label.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=16, help="How many images.")] = 8,
    first: Annotated[int, typer.Option(min=0, help="The number of the first one.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The PNG to write (default: show it here).")
    ] = None,
) -> None:
    """Show images of a label, in the terminal or in a file.

    Example: palimpsest datasets examples digits 3 --count 8
    """
    import sys

    content = session.client.datasets.example(name, label, first, grid=(1, count))
    if output is not None:
        output.write_bytes(content)
        session.messages.print(f"wrote {output}", soft_wrap=True)
    elif sys.stdout.isatty() and sys.stdin.isatty():
        from commands.pictures import show_images
        from palimpsest.values import open_image

        strip = open_image(content)
        side = strip.height
        show_images(session.console, [strip.crop((side * i, 0, side * (i + 1), side)) for i in range(count)])
    else:
        sys.stdout.buffer.write(content)


@command(datasets, "upload")
def upload_dataset(
    session: Session,
    name: Name,
    archive: Annotated[
        Path,
        typer.Argument(
            help="An npz of `images` (uint8, n x 28 x 28) and `labels`, or a zip of LABEL/NAME.png.",
        ),
    ],
) -> None:
    """Upload labelled images.

    Example: palimpsest datasets upload doodles doodles.zip
    """
    from commands import tables

    session.show(session.client.datasets.upload(name, archive.read_bytes()), as_text=tables.dataset)


@command(datasets, "delete")
def delete_dataset(
    session: Session,
    name: Name,
    label: Annotated[str | None, typer.Option(help="Delete the images of this label only.")] = None,
    yes: Yes = False,
) -> None:
    """Delete an uploaded dataset, or the images of a label.

    Models keep what they have learned from it: `palimpsest forget` makes them forget.

    Example: palimpsest datasets delete doodles --label cat --yes
    """
    what = f"the images of {label} in {name}" if label else f"the dataset {name}"
    session.confirm(
        f"Delete {what} for ever?",
        lambda: _describe_deletion(session.client.datasets.get(name), label),
        yes=yes,
    )
    if label:
        session.client.datasets.delete_label(name, label)
    else:
        session.client.datasets.delete(name)
    session.messages.print(f"deleted {what}", soft_wrap=True)


@command()
def strategies(
    session: Session,
    name: Annotated[
        str | None, typer.Argument(help="Show the params of this one.", show_default=False)
    ] = None,
) -> None:
    """List the strategies, or the params of one.

    Example: palimpsest strategies surrogate
    """
    from commands import tables

    offered = session.client.catalog.get().strategies
    if name is None:
        session.show_list(offered, as_table=tables.strategies)
        return
    chosen = next((one for one in offered if one.name == name), None)
    if chosen is None:
        fail(f"there is no strategy {name}: `palimpsest strategies` lists them")
    session.show(chosen, as_text=tables.strategy)


def _describe_deletion(dataset: "Dataset", label: str | None) -> list[str]:
    images = dataset.images or {}
    count = sum(images.values()) if label is None else images.get(label, 0)
    return [
        f"{count:,} images are deleted, for ever. No model can learn from them any more.",
        "Models keep what they have learned from them: `palimpsest forget` makes them forget.",
        "It is refused while an unfinished job may need the images.",
    ]
