"""`palimpsest export` and `exports`: many images in files, drawn by the workers."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.application import group
from commands.options import Limit, Model, Yes, as_version
from commands.session import JOB_FAILED, Session, command

if TYPE_CHECKING:
    from palimpsest.values import Export

ExportId = Annotated[str, typer.Argument(help="The id of the export.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The folder to download to (default: wait for nothing)."),
]


@command()
def export(
    session: Session,
    model: Model,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Images of each label.")],
    labels: Annotated[
        list[str] | None,
        typer.Option("--labels", "-l", help="A label. Repeat it for several (default: all)."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="npz for NumPy, or webdataset: tar archives of PNG files.")
    ] = "npz",
    seed: Annotated[int | None, typer.Option(help="The seed of the first images (default: any).")] = None,
    version: Annotated[
        str | None, typer.Option(help="The version that draws: a number or an alias (default: the newest).")
    ] = None,
    shard_images: Annotated[
        int | None, typer.Option(min=1, help="Images of each file (default: as the service chooses).")
    ] = None,
    out: Out = None,
) -> None:
    """Draw many images with the workers, and download them.

    They are downloaded if --out names a folder. An interrupted download goes on with:
    palimpsest exports download EXPORT --out FOLDER

    Example: palimpsest export numbers --labels 3 --labels 7 --count 50000 --out digits
    """
    created = session.client.exports.create(
        model,
        count,
        labels=labels or None,
        seed=seed,
        version=as_version(version),
        format=format,
        shard_images=shard_images,
    )
    if out is None:
        from commands import tables

        session.show(created, as_text=tables.export)
        session.advise(f"Download it: palimpsest exports download {created.id} --out FOLDER")
        return
    _fetch(session, created.id, out)


exports = group(
    "exports",
    "List, show, download, cancel and delete exports.\n\nExample: palimpsest exports list --model numbers",
)


@command(exports, "list")
def list_exports(
    session: Session,
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Only those of this version of the model: its number or an alias.")
    ] = None,
    state: Annotated[str | None, typer.Option(help="Only those in this state, such as running.")] = None,
    label: Annotated[str | None, typer.Option(help="Only those with images of this label.")] = None,
    limit: Limit = 20,
) -> None:
    """List the exports.

    Example: palimpsest exports list --model numbers --state running
    """
    from commands import tables

    found = session.client.exports.list(model=model, version=as_version(version), state=state, label=label)
    session.show_list(islice(found, limit), as_table=tables.exports)


@command(exports, "show")
def show_export(session: Session, export: ExportId) -> None:
    """Show an export, with how far it is.

    Example: palimpsest exports show exp_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.exports.get(export), as_text=tables.export)


@command(exports, "shards")
def list_shards(session: Session, export: ExportId, limit: Limit = 20) -> None:
    """List the finished shards of an export.

    Example: palimpsest exports shards exp_01J0000000000000000000000
    """
    from commands import tables

    session.show_list(islice(session.client.exports.shards(export), limit), as_table=tables.shards)


@command(exports, "download")
def download_export(
    session: Session,
    export: ExportId,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to download to.")],
) -> None:
    """Wait for an export, and download its files.

    What is there already is checked and kept, and an interrupted file is continued.

    Example: palimpsest exports download exp_01J0000000000000000000000 --out digits
    """
    _fetch(session, export, out)


@command(exports, "cancel")
def cancel_export(session: Session, export: ExportId) -> None:
    """Cancel an export; its shards are deleted.

    Example: palimpsest exports cancel exp_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.exports.cancel(export), as_text=tables.export)


@command(exports, "delete")
def delete_export(session: Session, export: ExportId, yes: Yes = False) -> None:
    """Delete an export with its files.

    Example: palimpsest exports delete exp_01J0000000000000000000000 --yes
    """
    from commands import tables

    session.confirm(
        f"Delete {export}?", lambda: [tables.describe_export(session.client.exports.get(export))], yes=yes
    )
    session.client.exports.delete(export)


def _fetch(session: Session, export: str, folder: Path) -> None:
    """Wait for the export, and download it. Exit with 3 unless it succeeds."""
    from commands import tables

    seen = -1

    def report(current: "Export") -> None:
        nonlocal seen
        if (percent := int(100 * current.progress.fraction)) != seen:
            seen = percent
            session.messages.print(tables.describe_export(current), soft_wrap=True)

    done = session.client.exports.wait(export, on_progress=report)
    if not done.succeeded:
        session.show(done, as_text=tables.export)
        raise typer.Exit(JOB_FAILED)
    session.client.exports.download(done, folder)
    if session.as_json:
        session.show(done, as_text=tables.export)
    session.messages.print(
        f"wrote {folder}: {done.images:,} images in {done.shards:,} files, {done.bytes:,} bytes",
        soft_wrap=True,
    )
