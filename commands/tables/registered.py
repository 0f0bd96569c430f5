"""Models, their versions and aliases."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from commands.tables.layout import ago, facts, listing, metadata, names, percent, share, state, why_no_verdict
from palimpsest import values


def models(found: Sequence[values.Model]) -> RenderableType:
    """Return a table of models."""
    if not found:
        return "No models yet: palimpsest models create NAME --dataset digits"
    table = listing("model", "dataset", "version", "labels", "forgotten", "created", numbers=("version",))
    for model in found:
        table.add_row(
            model.name,
            model.dataset,
            "-" if model.head is None else str(model.head),
            names(model.label_names("permanent", "temporary")),
            Text(names(model.label_names("forgotten")), style="red" if model.relapsed else ""),
            ago(model.created_at),
        )
    return table


def model(one: values.Model) -> RenderableType:
    """Return a model with its labels."""
    absent = one.label_names("absent")
    head = facts(
        ("model", one.name),
        ("id", one.id),
        ("description", one.description),
        ("metadata", metadata(one.metadata)),
        ("dataset", one.dataset),
        ("size policy", one.size_policy),
        ("queue", None if one.queue == "default" else one.queue),
        ("newest version", "none yet" if one.head is None else str(one.head)),
        ("aliases", ", ".join(f"{name}: {number}" for name, number in one.aliases.items()) or None),
        ("created", f"{one.created_at:%Y-%m-%d %H:%M} UTC"),
        ("relapsed", Text(names(one.relapsed), style="red") if one.relapsed else None),
        ("can learn", names(absent) if absent else None),
    )
    known = [label for label in one.labels if label.status != "absent"]
    if not known:
        return Group(head, Text(f"\nIt has learned nothing yet: palimpsest learn {one.name} LABEL ..."))
    table = listing("label", "status", "from", "times learned", "learned in", "forgotten in", "forgotten by")
    for label in known:
        table.add_row(
            label.name,
            state(label.status),
            label.dataset if label.source == label.name else f"{label.dataset}: {label.source}",
            str(label.generation),
            "-" if label.learned_version is None else f"version {label.learned_version}",
            "-" if label.forgotten_version is None else f"version {label.forgotten_version}",
            label.forgotten_by or "-",
        )
    return Group(head, Text(), table)


def versions(found: Sequence[values.Version]) -> RenderableType:
    """Return a table of versions."""
    if not found:
        return "No versions yet."
    measured = ("parameters", "accuracy", "forgotten")
    columns = ("version", "aliases", "operation", "labels", *measured, "drawable", "created")
    table = listing(*columns, numbers=("version", *measured))
    for version in found:
        table.add_row(
            str(version.number),
            names(version.aliases),
            f"{version.operation} ({version.strategy})",
            names(version.labels),
            f"{version.parameters:,}",
            share(version.figures.retained),
            share(version.figures.forgotten),
            drawable(version),
            ago(version.created_at),
        )
    return table


def drawable(version: values.Ancestor | values.Alias) -> Text:
    """Return whether a version may still be drawn, and why not."""
    if isinstance(version, values.Ancestor) and version.state == "deleted":
        return Text("deleted", style="red")
    if version.purged_by is not None:
        return Text("purged", style="red")
    return Text("revoked", style="red") if version.revoked_by is not None else Text("yes", style="green")


def version(one: values.Version) -> RenderableType:
    """Return a version with its files."""
    table = listing("file", "bytes", "sha256", numbers=("bytes",))
    for name, file in one.files.items():
        table.add_row(name, f"{file.bytes:,}", file.sha256)
    head = facts(
        ("version", str(one.number)),
        ("aliases", names(one.aliases) if one.aliases else None),
        ("description", one.description),
        ("metadata", metadata(one.metadata)),
        ("parent", None if one.parent is None else str(one.parent)),
        ("made by", f"{one.operation} ({one.strategy}), {one.job}"),
        ("guarantee", one.guarantee),
        ("labels", names(one.labels)),
        ("parameters", f"{one.parameters:,}"),
        ("accuracy", percent(one.figures.retained)),
        ("forgotten labels", percent(one.figures.forgotten) if one.figures.forgotten.n else None),
        ("no verdict, because", why_no_verdict(one.figures.retained, one.figures.forgotten)),
        ("drawable", drawable(one)),
        ("revoked by", one.revoked_by),
        ("purged by", one.purged_by),
        ("created", f"{one.created_at:%Y-%m-%d %H:%M} UTC"),
    )
    return Group(head, Text(), table)


def aliases(found: Sequence[values.Alias]) -> RenderableType:
    """Return a table of aliases."""
    if not found:
        return "No aliases: palimpsest promote MODEL VERSION ALIAS"
    table = listing("alias", "version", "drawable", "set", numbers=("version",))
    for one in found:
        table.add_row(one.name, str(one.version), drawable(one), ago(one.updated_at))
    return table


def alias(one: values.Alias) -> RenderableType:
    """Return an alias."""
    return facts(
        ("alias", one.name),
        ("version", str(one.version)),
        ("drawable", drawable(one)),
        ("changes", str(one.revision)),
    )


def changes(found: Sequence[values.AliasChange]) -> RenderableType:
    """Return the history of an alias."""
    table = listing(
        "change", "action", "from", "to", "when", "by", "reason", numbers=("change", "from", "to")
    )
    for change in found:
        table.add_row(
            str(change.number),
            change.action,
            "-" if change.from_ is None else str(change.from_),
            "-" if change.to is None else str(change.to),
            f"{change.created_at:%Y-%m-%d %H:%M} UTC",
            change.created_by or "-",
            change.reason or "-",
        )
    return table


def lineage(found: Sequence[values.Ancestor]) -> RenderableType:
    """Return a table of a version and its ancestors."""
    table = listing("version", "made from", "operation", "guarantee", "labels", "drawable", "job")
    for one in found:
        table.add_row(
            str(one.number),
            "-" if one.parent is None else str(one.parent),
            f"{one.operation} ({one.strategy})",
            one.guarantee or "-",
            names(one.labels),
            drawable(one),
            one.job,
        )
    return table


def deletion(one: values.ModelDeletion) -> RenderableType:
    """Return how far the deletion of a model's files is."""
    return facts(
        ("model", one.model_name),
        ("id", one.model),
        ("state", one.state),
        ("files deleted", f"{one.files_deleted:,}"),
        ("files kept", f"{one.files_kept:,}, which other models need" if one.files_kept else None),
        ("reference", one.reference),
        ("requested", f"{one.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("finished", None if one.finished_at is None else f"{one.finished_at:%Y-%m-%d %H:%M:%S} UTC"),
    )


def samples(found: Sequence[values.SampleRecord]) -> RenderableType:
    """Return a table of recorded samples."""
    if not found:
        return "No samples: palimpsest sample MODEL LABEL ..."
    table = listing(
        "sample", "model", "version", "labels", "of each", "seed", "created", numbers=("of each", "seed")
    )
    for one in found:
        table.add_row(
            one.id or "-",
            one.model,
            str(one.version),
            names(one.labels),
            str(one.count),
            str(one.seed),
            ago(one.created_at),
        )
    return table


def sample(one: values.SampleRecord) -> RenderableType:
    """Return the record of a sample."""
    return facts(
        ("sample", one.id),
        ("model", one.model),
        ("version", str(one.version)),
        ("labels", names(one.labels)),
        ("images of each", str(one.count)),
        ("seed", str(one.seed)),
        ("format", one.format),
        ("created", None if one.created_at is None else f"{one.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    )
