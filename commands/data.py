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

MOST_PREVIEWS = 20
"""How many labels' images are shown before an upload is kept."""

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
    fit: Annotated[
        int | None, typer.Option(min=28, max=28, help="28: scale images of other sizes to 28 x 28.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be kept, and keep nothing.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Upload labelled images.

    The service reads the file first, and this shows its images, how they were converted and what looks
    wrong; the question follows whether to keep them.

    Example: palimpsest datasets upload doodles doodles.zip
    """
    from commands import tables

    content = archive.read_bytes()
    if dry_run:
        tried = session.client.datasets.upload(name, content, dry_run=True, fit=fit)
        _show_previews(session, tried)
        session.show(tried, as_text=tables.dataset)
        return
    session.confirm(f"Keep {name}?", lambda: _describe_upload(session, name, content, fit), yes=yes)
    session.show(session.client.datasets.upload(name, content, fit=fit), as_text=tables.dataset)


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


def _describe_upload(session: Session, name: str, archive: bytes, fit: int | None) -> list[str]:
    """Try an upload and show its images. Returns what is to be known before it is kept."""
    from commands import tables

    tried = session.client.datasets.upload(name, archive, dry_run=True, fit=fit)
    _show_previews(session, tried)
    images = tried.images or {}
    return [
        f"{sum(images.values()):,} images of {len(images)} labels, "
        f"{sum((tried.test_images or {}).values()):,} of them to test with",
        *tables.describe_notes(tried),
    ]


def _show_previews(session: Session, tried: "Dataset") -> None:
    """Show the first images of every label, if this is a terminal."""
    import sys

    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return
    from base64 import b64decode

    from commands.pictures import show_images
    from palimpsest.values import open_image

    for label, address in list((tried.previews or {}).items())[:MOST_PREVIEWS]:
        strip = open_image(b64decode(address.partition(",")[2]))
        side = strip.height
        session.messages.print(f"{label} ({(tried.images or {})[label]:,})", soft_wrap=True)
        images = [strip.crop((left, 0, left + side, side)) for left in range(0, strip.width, side)]
        show_images(session.console, images)


def _describe_deletion(dataset: "Dataset", label: str | None) -> list[str]:
    images = dataset.images or {}
    count = sum(images.values()) if label is None else images.get(label, 0)
    return [
        f"{count:,} images are deleted, for ever. No model can learn from them any more.",
        "Models keep what they have learned from them: `palimpsest forget` makes them forget.",
        "It is refused while an unfinished job may need the images.",
    ]
