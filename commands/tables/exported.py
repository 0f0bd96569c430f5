"""Exports and their shards."""

from collections.abc import Sequence

from rich.console import RenderableType

from commands.tables.layout import ago, facts, listing, names, seconds, state
from palimpsest import values


def exports(found: Sequence[values.Export]) -> RenderableType:
    """Return a table of exports."""
    if not found:
        return "No exports: palimpsest export MODEL --count 1000 --out FOLDER"
    numbers = ("images", "done", "bytes")
    columns = ("export", "model", "version", "labels", *numbers[:2], "state", "bytes", "created")
    table = listing(*columns, numbers=numbers)
    for one in found:
        table.add_row(
            one.id,
            one.model_name,
            str(one.version),
            names(one.labels),
            f"{one.images:,}",
            f"{one.progress.fraction:.0%}",
            state(one.state),
            f"{one.bytes:,}",
            ago(one.created_at),
        )
    return table


def export(one: values.Export) -> RenderableType:
    """Return an export."""
    return facts(
        ("export", one.id),
        ("state", state(one.state)),
        ("progress", f"{one.progress.images:,} of {one.images:,} images ({one.progress.fraction:.0%})"),
        ("left", None if one.progress.eta_seconds is None else seconds(one.progress.eta_seconds)),
        ("model", f"{one.model_name}, version {one.version}"),
        ("labels", names(one.labels)),
        ("of each", f"{one.count:,}"),
        ("seed", str(one.seed)),
        ("format", one.format),
        ("shards", f"{one.shards:,} of {one.shard_images:,} images"),
        ("bytes", f"{one.bytes:,}"),
        ("manifest", one.manifest.sha256 if one.manifest else None),
        ("error", f"{one.error.code}: {one.error.message}" if one.error else None),
        ("created", f"{one.created_at:%Y-%m-%d %H:%M} UTC"),
    )


def shards(found: Sequence[values.ExportShard]) -> RenderableType:
    """Return a table of shards."""
    if not found:
        return "No shard is finished yet."
    numbers = ("number", "first image", "images", "bytes")
    table = listing("number", "file", "first image", "images", "bytes", "sha256", numbers=numbers)
    for one in found:
        table.add_row(
            str(one.number), one.file, f"{one.first_image:,}", f"{one.images:,}", f"{one.bytes:,}", one.sha256
        )
    return table


def describe_export(one: values.Export) -> str:
    """Return how far an export is, in a line."""
    left = one.progress.eta_seconds
    remaining = "" if left is None else f", {seconds(left)} left"
    return f"{one.id} {one.state}: {one.progress.images:,} of {one.images:,} images{remaining}"
