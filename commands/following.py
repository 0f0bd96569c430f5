"""Follow a job to its end: a progress bar at a terminal, a line for each phase elsewhere."""

import sys
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from commands import tables
from commands.session import INTERRUPTED, JOB_FAILED, Session
from palimpsest import TooManyRequests
from palimpsest.values import AnyJobEvent, Job, LogEvent, ProgressEvent, StateEvent


def follow(session: Session, job: Job) -> None:
    """Wait for a job, show its progress and what became of it; exit with 3 unless it succeeded.

    Ctrl-C at a terminal asks whether the job goes on or is cancelled. Elsewhere the job goes on.
    """
    finished = (
        _wait_with_bar(session, job) if session.messages.is_terminal else _wait_with_lines(session, job)
    )
    if session.as_json:
        session.show(finished, as_text=tables.job)
    else:
        _print_outcome(session, finished)
    if not finished.succeeded:
        raise typer.Exit(JOB_FAILED)


def title(job: Job) -> str:
    """Return what a job does in a few words: `learn 5 6 7`."""
    return " ".join([job.operation, *job.labels])


def _wait_with_bar(session: Session, job: Job) -> Job:
    while True:
        with _progress_bar(session.messages) as bar:
            task = bar.add_task(title(job), total=1.0, detail=_describe_wait(job))
            try:
                for event in _events(session, job):
                    _update(bar, task, event)
                return session.client.jobs.wait(job)
            except KeyboardInterrupt:
                pass
        _ask_about(session, job)


def _events(session: Session, job: Job) -> Iterator[AnyJobEvent]:
    """Iterate over what happens to the job, unless too many listen to the service already."""
    try:
        yield from session.client.jobs.events(job)
    except TooManyRequests:
        session.messages.print("the service tells no progress now: it has too many listeners", style="dim")


def _ask_about(session: Session, job: Job) -> None:
    """Ask what becomes of a job after Ctrl-C: return to wait on, or exit."""
    if not sys.stdin.isatty():
        raise typer.Exit(INTERRUPTED)
    try:
        answer = typer.prompt(
            f"{job.id} goes on without this command. Leave it running, cancel it, or wait on? [l/c/w]",
            default="l",
            err=True,
        )
    except (KeyboardInterrupt, typer.Abort):
        raise typer.Exit(INTERRUPTED) from None
    if answer.lower().startswith("c"):
        session.client.jobs.cancel(job)
    elif not answer.lower().startswith("w"):
        session.messages.print(f"It goes on: palimpsest watch {job.id}", soft_wrap=True)
        raise typer.Exit(0)


def _progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        console=console,
    )


def _update(bar: Progress, task: TaskID, event: AnyJobEvent) -> None:
    if isinstance(event, LogEvent):
        bar.console.print(event.message, style="dim")
    elif isinstance(event, StateEvent):
        bar.update(task, completed=1.0 if event.done else 0.0, detail=event.state)
    elif isinstance(event, ProgressEvent):
        share = min(event.progress.fraction, 0.99)  # the end of a phase is not the end of the job
        bar.update(task, completed=share, detail=tables.describe_progress(event.progress))


def _describe_wait(job: Job) -> str:
    if job.state == "queued" and job.queue_position:
        return f"queued behind {job.queue_position}"
    return job.state


def _wait_with_lines(session: Session, job: Job) -> Job:
    phase = ""
    for event in _events(session, job):
        if isinstance(event, LogEvent):
            news = event.message
        elif isinstance(event, StateEvent):
            news = event.state
        elif isinstance(event, ProgressEvent) and event.progress.phase != phase:
            news = phase = event.progress.phase
        else:
            continue
        typer.echo(f"{job.id} {title(job)}: {news}", err=True)
    return session.client.jobs.wait(job)


def _print_outcome(session: Session, job: Job) -> None:
    took = "" if job.seconds is None else f" in {tables.seconds(job.seconds)}"
    if not job.succeeded:
        reason = f": {job.error.code}: {job.error.message}" if job.error else ""
        session.console.print(Text(f"{title(job)} {job.state}{took}{reason}", style="red"), soft_wrap=True)
        for missed in job.error.reasons if job.error else ():
            session.console.print(Text(f"  {tables.describe_criterion(missed)}", style="red"))
        session.advise(f"More about it: palimpsest jobs show {job.id}")
        return
    if job.already_forgotten:
        session.console.print(f"forgotten before: {tables.names(job.already_forgotten)}")
    if job.output_version is not None:
        _print_version(session, job, took)
    elif job.evaluated_version is not None:
        session.console.print(f"version {job.evaluated_version} measured{took}")
        session.advise(f"Read it: palimpsest report {job.model_name} {job.evaluated_version}")
    else:
        session.console.print(f"{title(job)} succeeded{took}")
    if job.followed_by is not None:
        session.advise(f"A resize follows it: palimpsest watch {job.followed_by}")


def _print_version(session: Session, job: Job, took: str) -> None:
    version = session.client.versions.get(job.model_name, job.output_version or 0)
    session.console.print(Text(f"version {version.number} published{took}", style="green"))
    session.console.print(f"  labels: {tables.names(version.labels)}")
    if version.figures.retained.n:
        session.console.print(f"  recognised in its draws: {tables.percent(version.figures.retained)}")
    if version.figures.forgotten.n:
        session.console.print(
            f"  forgotten labels still recognised: {tables.percent(version.figures.forgotten)}"
        )
    if why := tables.why_no_verdict(version.figures.retained, version.figures.forgotten):
        session.console.print(f"  no verdict: {why}")
    if job.operation == "forget":
        session.advise(f"Its receipt: palimpsest receipt {job.id} --output receipt.json")
    elif version.labels:
        session.advise(
            f"Draw it: palimpsest sample {job.model_name} {tables.names(version.labels[:3])} --count 8"
        )
