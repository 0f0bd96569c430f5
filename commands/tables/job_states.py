"""Jobs."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from commands.tables.layout import ago, facts, listing, metadata, names, percent, reason, seconds, state
from palimpsest import values
from reports import Figure


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
            ("packages", ", ".join(f"{kind}: {name}" for kind, name in one.packages.items()) or None),
            ("guarantee", one.guarantee),
            ("state", state(one.state)),
            ("queue", None if one.queue == "default" else one.queue),
            ("priority", str(one.priority) if one.priority and not one.done else None),
            ("waits for", f"{one.queue_position} jobs before it" if one.queue_position else None),
            ("waits, because", one.waits_for),
            ("progress", None if progress is None or one.done else describe_progress(progress)),
            ("attempt", f"{one.attempt} of {one.max_attempts}"),
            ("took", None if one.seconds is None else seconds(one.seconds)),
            ("published", None if one.output_version is None else f"version {one.output_version}"),
            ("measured", None if one.evaluated_version is None else f"version {one.evaluated_version}"),
            (
                "purge",
                None if one.purge is None else f"{one.purge.state}, {one.purge.files_deleted} files deleted",
            ),
            ("made permanent", _describe_made_permanent(one.made_permanent)),
            ("repeats", one.retry_of),
            ("follows", one.follows),
            ("followed by", one.followed_by),
            ("reference", one.reference),
            ("metadata", metadata(one.metadata)),
            ("created", f"{one.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        )
    ]
    if one.error is not None:
        parts += [Text(), Text(f"{one.error.code}: {one.error.message}", style="red")]
        parts += [Text(f"  {describe_criterion(missed)}", style="red") for missed in one.error.reasons]
    return Group(*parts)


def _describe_made_permanent(labels: Sequence[str]) -> str | None:
    return f"{', '.join(labels)}: forgetting is no longer exact" if labels else None


def describe_progress(progress: values.Progress) -> str:
    """Return a phase with its step, loss and the time that is left."""
    words = [f"{progress.phase} {progress.step}/{progress.total}"]
    if progress.loss is not None:
        words.append(f"loss {progress.loss:.4g}")
    if progress.eta_seconds is not None:
        words.append(f"{seconds(progress.eta_seconds)} left")
    return ", ".join(words)


def describe_criterion(missed: Figure) -> str:
    """Return a missed criterion."""
    extra = f" for {label}" if (label := getattr(missed, "label", None)) else ""
    name = f"{getattr(missed, 'criterion', 'criterion')}{extra}"
    return f"{name}: {percent(missed)}, not {missed.threshold}{reason(missed)}"
