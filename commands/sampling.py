"""`palimpsest sample` and `samples`: draw in the terminal or into a file, and what was drawn before."""

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.application import group
from commands.failure import fail
from commands.options import Labels, Limit, Model, Yes, as_version
from commands.session import Session, command

if TYPE_CHECKING:
    from palimpsest.values import Sample

FORMATS = {".png": "png_grid", ".webp": "webp", ".npz": "npz", ".json": "b64_json"}
"""What a file holds, by the end of its name."""

SampleId = Annotated[str, typer.Argument(help="The id of the sample.")]


@command()
def sample(
    session: Session,
    model: Model,
    labels: Labels,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Images of each label.")] = 8,
    seed: Annotated[
        int | None,
        typer.Option(help="The seed of the first image; a seed always draws the same (default: any)."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="The version that draws: a number or an alias (default: the newest).")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write: .png, .webp, .npz, or .json with base64 (default: draw it here).",
        ),
    ] = None,
) -> None:
    """Draw labels, in the terminal or into a file.

    Kitty and terminals with Sixel show pixels, others blocks of colour. Redirected, it writes a PNG.

    Example: palimpsest sample numbers 3 7 --count 16
    """
    if output is not None and output.suffix not in FORMATS:
        fail(f"{output}: its name must end with one of {', '.join(FORMATS)}", 2)
    if output is None and not session.as_json and sys.stdout.isatty() and sys.stdin.isatty():
        _draw_here(session, model, labels, count, seed, as_version(version))
        return
    kind = FORMATS[output.suffix] if output else "b64_json" if session.as_json else "png_grid"
    drawn = session.client.samples.create(
        model, labels, count, seed=seed, version=as_version(version), format=kind
    )
    if output is None:
        sys.stdout.buffer.write(drawn.content)
        return
    output.write_bytes(drawn.content)
    session.messages.print(f"wrote {output}: {_describe(drawn)}", soft_wrap=True)


samples = group(
    "samples",
    "List, show, draw again and delete recorded samples.\n\nExample: palimpsest samples list --label 3",
)


@command(samples, "list")
def list_samples(
    session: Session,
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Only those of this version of the model: its number or an alias.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only those with images of this label.")] = None,
    limit: Limit = 20,
) -> None:
    """List the recorded samples.

    Example: palimpsest samples list --model numbers --label 3
    """
    from commands import tables

    found = session.client.samples.list(model=model, version=as_version(version), label=label)
    session.show_list(islice(found, limit), as_table=tables.samples)


@command(samples, "show")
def show_sample(session: Session, sample: SampleId) -> None:
    """Show the record of a sample.

    Example: palimpsest samples show smp_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.samples.get(sample), as_text=tables.sample)


@command(samples, "draw")
def draw_again(
    session: Session,
    sample: SampleId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write (default: standard output)."),
    ] = None,
) -> None:
    """Draw a sample again, with exactly the same pixels.

    It has the format in which it was drawn first.

    Example: palimpsest samples draw smp_01J0000000000000000000000 --output digits.png
    """
    drawn = session.client.samples.draw(sample)
    if output is None:
        sys.stdout.buffer.write(drawn.content)
        return
    output.write_bytes(drawn.content)
    session.messages.print(
        f"wrote {output}: {drawn.media_type}, drawn by version {drawn.version}", soft_wrap=True
    )


@command(samples, "delete")
def delete_sample(session: Session, sample: SampleId, yes: Yes = False) -> None:
    """Delete the record of a sample.

    Example: palimpsest samples delete smp_01J0000000000000000000000 --yes
    """
    session.confirm(
        f"Delete the record of {sample} for ever?",
        lambda: [
            "Its link ends. A new request with the same version, labels and seed draws the same images."
        ],
        yes=yes,
    )
    session.client.samples.delete(sample)
    session.messages.print(f"deleted {sample}", soft_wrap=True)


def _draw_here(
    session: Session, model: str, labels: list[str], count: int, seed: int | None, version: int | str | None
) -> None:
    import base64
    import json

    from commands.pictures import show_images
    from palimpsest.values import open_image

    drawn = session.client.samples.create(model, labels, count, seed=seed, version=version, format="b64_json")
    document = json.loads(drawn.content)
    for label in labels:
        session.console.print(label, style="bold")
        images = [
            open_image(base64.b64decode(one["b64_json"])) for one in document["data"] if one["label"] == label
        ]
        show_images(session.console, images)
    session.messages.print(f"{_describe(drawn)}, seed {document['seed']}", style="dim", soft_wrap=True)
    session.advise("Into a file: --output digits.png")


def _describe(drawn: "Sample") -> str:
    recorded = (
        f"recorded as {drawn.id}" if drawn.id else "not recorded: the service's disk has no space for it"
    )
    return f"drawn by version {drawn.version}, {recorded}"
