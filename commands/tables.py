"""How values look to people: tables, and a few words for states, times and numbers."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from palimpsest import values
from reports import Figure, FullReport, Report

STATE_STYLES = {
    "succeeded": "green",
    "permanent": "green",
    "temporary": "cyan",
    "running": "cyan",
    "verifying": "cyan",
    "queued": "yellow",
    "cancelling": "yellow",
    "failed": "red",
    "rejected": "red",
    "forgotten": "red",
    "met": "green",
    "missed": "red",
}


WHOLE = ("model", "job", "key", "version", "operation", "sha256", "file", "dataset", "created", "took")
"""Columns that are never broken into lines: what is copied, and what is short."""


def listing(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """Return an empty table. numbers: the columns that are aligned to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            overflow="fold",
            no_wrap=column in WHOLE,
        )
    return table


def facts(*rows: tuple[str, RenderableType | None]) -> Table:
    """Return a table of names and values, without those that are None."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(name, value)
    return table


def state(word: str) -> Text:
    """Return a state in its colour."""
    return Text(word, style=STATE_STYLES.get(word, ""))


def ago(at: datetime | None) -> str:
    """Return how long ago something was, roughly."""
    if at is None:
        return "-"
    seconds = (datetime.now(UTC) - at).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def seconds(duration: float | None) -> str:
    """Return a duration."""
    if duration is None:
        return "-"
    if duration < 120:
        return f"{duration:.1f} s"
    return f"{duration / 60:.0f} min" if duration < 7200 else f"{duration / 3600:.1f} h"


def percent(figure: Figure) -> str:
    """Return a figure that is a share, with its interval."""
    if figure.value is None:
        return "not measured"
    interval = f" ({figure.interval[0]:.1%} to {figure.interval[1]:.1%})" if figure.interval else ""
    return f"{figure.value:.1%}{interval}"


def names(labels: Iterable[str]) -> str:
    """Return names in a row, or a dash."""
    shown = list(labels)
    return (", " if any(" " in label for label in shown) else " ").join(shown) or "-"


def metadata(entries: Mapping[str, str]) -> str | None:
    """Return metadata in a line, None if there is none."""
    return " ".join(f"{key}={value}" for key, value in entries.items()) or None


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


def jobs(found: Sequence[values.Job]) -> RenderableType:
    """Return a table of jobs."""
    if not found:
        return "No jobs."
    table = listing(
        "job", "model", "operation", "labels", "state", "version", "took", "created", numbers=("took",)
    )
    for job in found:
        table.add_row(
            job.id,
            job.model_name,
            job.operation,
            names(job.labels),
            state(job.state),
            "-" if job.output_version is None else str(job.output_version),
            seconds(job.seconds),
            ago(job.created_at),
        )
    return table


def job(one: values.Job) -> RenderableType:
    """Return a job."""
    progress = one.progress
    parts: list[RenderableType] = [
        facts(
            ("job", one.id),
            ("model", one.model_name),
            ("operation", " ".join([one.operation, *one.labels])),
            ("strategy", one.strategy),
            ("guarantee", one.guarantee),
            ("state", state(one.state)),
            ("waits for", f"{one.queue_position} jobs before it" if one.queue_position else None),
            ("progress", None if progress is None or one.done else describe_progress(progress)),
            ("attempt", f"{one.attempt} of {one.max_attempts}"),
            ("took", None if one.seconds is None else seconds(one.seconds)),
            ("published", None if one.output_version is None else f"version {one.output_version}"),
            ("measured", None if one.evaluated_version is None else f"version {one.evaluated_version}"),
            ("purge", None if one.purge is None else f"{one.purge.state}, {len(one.purge.keys)} files"),
            ("repeats", one.retry_of),
            ("reference", one.reference),
            ("metadata", metadata(one.metadata)),
            ("created", f"{one.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        )
    ]
    if one.error is not None:
        parts += [Text(), Text(f"{one.error.code}: {one.error.message}", style="red")]
        parts += [Text(f"  {describe_criterion(reason)}", style="red") for reason in one.error.reasons]
    return Group(*parts)


def describe_progress(progress: values.Progress) -> str:
    """Return a phase with its step, loss and the time that is left."""
    words = [f"{progress.phase} {progress.step}/{progress.total}"]
    if progress.loss is not None:
        words.append(f"loss {progress.loss:.4g}")
    if progress.eta_seconds is not None:
        words.append(f"{seconds(progress.eta_seconds)} left")
    return ", ".join(words)


def describe_criterion(reason: Figure) -> str:
    """Return a missed criterion."""
    extra = f" for {label}" if (label := getattr(reason, "label", None)) else ""
    return f"{getattr(reason, 'criterion', 'criterion')}{extra}: {percent(reason)}, not {reason.threshold}"


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
            _short(version.figures.retained),
            _short(version.figures.forgotten),
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
        ("drawable", drawable(one)),
        ("revoked by", one.revoked_by),
        ("purged by", one.purged_by),
        ("created", f"{one.created_at:%Y-%m-%d %H:%M} UTC"),
    )
    return Group(head, Text(), table)


def _short(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.1%}"


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


def comparison(one: values.Comparison) -> RenderableType:
    """Return two versions side by side."""
    before, after = one.from_, one.to
    head = facts(
        ("from", f"version {before.version}: {before.operation} ({before.strategy}), {names(before.labels)}"),
        ("to", f"version {after.version}: {after.operation} ({after.strategy}), {names(after.labels)}"),
        ("learned", names(one.learned) if one.learned else None),
        ("forgotten", names(one.forgotten) if one.forgotten else None),
    )
    columns = ("figure", f"version {before.version}", f"version {after.version}", "change", "")
    table = listing(*columns, numbers=columns[1:4])
    for figure in one.figures:
        table.add_row(
            figure.figure,
            _number(figure.from_),
            _number(figure.to),
            "-" if figure.change is None else f"{figure.change:+.4g}",
            Text("clear", style="bold") if figure.clear else "",
        )
    return Group(head, Text(), table, Text("\nclear: the 95 % intervals of both do not overlap", style="dim"))


def _number(figure: Figure | None) -> str:
    return "-" if figure is None or figure.value is None else f"{figure.value:.4g}"


def report(one: Report) -> RenderableType:
    """Return the figures of a report that tell most. The whole report is in its JSON, and on its page."""
    parts: list[RenderableType] = [
        facts(
            ("report", one.level),
            ("draws of each label", f"{one.n:,}"),
            ("guarantee", one.guarantee),
            ("accuracy", percent(one.retained)),
            ("forgotten labels", percent(one.forgotten) if one.forgotten.labels else None),
            ("parameters", f"{one.capacity.parameters:,}"),
        ),
        Text(),
    ]
    table = listing("label", "", "recognised as it", "limit", "verdict")
    for what, group in (("", one.retained), ("forgotten", one.forgotten)):
        for name, figure in group.labels.items():
            limit = "-" if figure.threshold is None else str(figure.threshold)
            table.add_row(name, state(what), percent(figure), limit, state(figure.verdict or "-"))
    parts.append(table)
    if one.criteria:
        parts += [Text(), *(criterion(figure) for figure in one.criteria)]
    if isinstance(one, FullReport):
        parts += [Text(), forgetting(one)]
    return Group(*parts)


def criterion(figure: Figure) -> RenderableType:
    """Return an acceptance criterion and what was measured for it."""
    label = getattr(figure, "label", None)
    name = f"{getattr(figure, 'criterion', '')}{f' of {label}' if label else ''}"
    return Text.assemble(f"{name} {figure.threshold}: {percent(figure)}, ", state(figure.verdict or "-"))


def forgetting(one: FullReport) -> RenderableType:
    """Return what the attacks on the forgotten labels found."""
    table = listing("forgotten label", "verdict", "accuracy", "recovery", "relearning", "membership")
    for name, label in one.forgetting.labels.items():
        figures = (label.accuracy, label.recovery, label.relearning, label.membership)
        table.add_row(
            name,
            state(label.verdict or "undecided"),
            *(Text(_number(figure), style=STATE_STYLES.get(figure.verdict or "", "")) for figure in figures),
        )
    return table


def datasets(found: Sequence[values.Dataset]) -> RenderableType:
    """Return a table of datasets."""
    table = listing("dataset", "labels", "images", "what it is", numbers=("images",))
    for one in found:
        count = "-" if one.images is None else f"{sum(one.images.values()):,}"
        table.add_row(one.name, names(one.labels), count, one.title)
    return table


def dataset(one: values.Dataset) -> RenderableType:
    """Return a dataset."""
    images = None
    if one.images is not None:
        images = ", ".join(f"{name}: {count:,}" for name, count in one.images.items())
    return facts(
        ("dataset", one.name),
        ("what it is", one.title),
        ("labels", names(one.labels)),
        ("images", images),
        ("deleted labels", names(one.deleted_labels) if one.deleted_labels else None),
        (
            "needs a download",
            "no" if one.bundled else "yes, at the first use" if one.images is None else "no",
        ),
    )


def keys(found: Sequence[values.ApiKey]) -> RenderableType:
    """Return a table of API keys."""
    table = listing("key", "name", "scopes", "project", "state", "last used")
    for key in found:
        expiry = "valid" if key.expires_at is None else f"expires {key.expires_at:%Y-%m-%d}"
        table.add_row(
            key.id,
            key.name,
            ",".join(key.scopes),
            key.project or "all",
            Text("revoked", style="red") if key.revoked_at else expiry,
            ago(key.last_used_at),
        )
    return table
