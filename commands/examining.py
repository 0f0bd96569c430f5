"""The commands that follow jobs, and look at versions, reports and receipts."""

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from commands.application import group
from commands.failure import fail
from commands.options import Having, Limit, Model, Yes, as_version, texts
from commands.session import Session, command

Job = Annotated[str, typer.Argument(help="The id of the job.")]
Version = Annotated[
    str | None, typer.Argument(help="A version: its number, an alias, or head.", show_default=False)
]
Alias = Annotated[str, typer.Argument(help="The alias, such as production.")]
Reason = Annotated[str | None, typer.Option(help="Why; the history keeps it.")]

jobs = group("jobs", "List, show, cancel and repeat jobs.\n\nExample: palimpsest jobs list --state failed")


@command(jobs, "list")
def list_jobs(
    session: Session,
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    state: Annotated[str | None, typer.Option(help="Only those in this state, such as failed.")] = None,
    operation: Annotated[str | None, typer.Option(help="Only those of this operation.")] = None,
    label: Annotated[str | None, typer.Option(help="Only those about this label.")] = None,
    reference: Annotated[str | None, typer.Option(help="Only those requested with this reference.")] = None,
    metadata: Having = None,
    limit: Limit = 20,
) -> None:
    """List the jobs of the project.

    Example: palimpsest jobs list --model numbers --state failed
    """
    from commands import tables

    found = session.client.jobs.list(
        model=model,
        state=state,
        operation=operation,
        label=label,
        reference=reference,
        metadata=texts("--metadata", metadata),
    )
    session.show_list(islice(found, limit), as_table=tables.jobs)


@command(jobs, "show")
def show_job(session: Session, job: Job) -> None:
    """Show a job.

    Example: palimpsest jobs show job_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.jobs.get(job), as_text=tables.job)


@command(jobs, "cancel")
def cancel_job(session: Session, job: Job) -> None:
    """Cancel a job. A running one stops before its next step.

    Example: palimpsest jobs cancel job_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.jobs.cancel(job), as_text=tables.job)


@command(jobs, "retry")
def retry_job(session: Session, job: Job) -> None:
    """Repeat a job that did not succeed, as a new job.

    Example: palimpsest jobs retry job_01J0000000000000000000000
    """
    from commands import tables

    session.show(session.client.jobs.retry(job), as_text=tables.job)


@command()
def watch(session: Session, job: Job) -> None:
    """Follow a job until it is done.

    Example: palimpsest watch job_01J0000000000000000000000
    """
    from commands.following import follow

    follow(session, session.client.jobs.get(job))


@command()
def versions(
    session: Session,
    model: Model,
    version: Version = None,
    state: Annotated[
        str | None, typer.Option(help="Only those that are usable, revoked, purged or deleted.")
    ] = None,
    operation: Annotated[str | None, typer.Option(help="Only those of this operation.")] = None,
    metadata: Having = None,
    limit: Limit = 50,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the version.")] = False,
    yes: Yes = False,
) -> None:
    """List versions; show or delete one of them.

    Example: palimpsest versions numbers 2
    """
    from commands import tables

    if version is None:
        if delete:
            fail("--delete: name the version to delete", 2)
        found = session.client.versions.list(
            model, state=state, operation=operation, metadata=texts("--metadata", metadata)
        )
        session.show_list(islice(found, limit), as_table=tables.versions)
    elif delete:
        _delete_version(session, model, version, yes=yes)
    else:
        session.show(session.client.versions.get(model, version), as_text=tables.version)


def _delete_version(session: Session, model: str, version: str, *, yes: bool) -> None:
    def describe() -> list[str]:
        found = session.client.versions.get(model, version)
        size = sum(file.bytes for file in found.files.values())
        return [
            f"Version {found.number}, made by {found.operation}, can no longer be drawn or downloaded.",
            f"It holds {', '.join(found.labels) or 'no label'}.",
            f"Its files ({size:,} bytes) are deleted, where no other version needs them.",
            "Its report, its place in the lineage and the receipts that name it stay.",
            "It is refused for the newest version, and for one that an alias names or a job may start from.",
        ]

    session.confirm(f"Delete version {version} of {model} for ever?", describe, yes=yes)
    session.client.versions.delete(model, version)
    session.messages.print(f"deleted version {version} of {model}", soft_wrap=True)


@command()
def lineage(session: Session, model: Model, version: Version = None, limit: Limit = 50) -> None:
    """Show from which versions a version was made.

    Example: palimpsest lineage numbers 4
    """
    from commands import tables

    found = session.client.versions.lineage(model, version or "head")
    session.show_list(islice(found, limit), as_table=tables.lineage)


@command()
def download(
    session: Session,
    model: Model,
    version: Annotated[str, typer.Argument(help="A version: its number, an alias, or head.")],
    file: Annotated[str, typer.Argument(help="The name of the file; `palimpsest versions` lists them.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write (default: its name, here).")
    ] = None,
) -> None:
    """Get a file of a version, such as its decoder.

    Example: palimpsest download numbers 2 decoder.onnx
    """
    content = session.client.versions.file(model, version, file)
    written = output or Path(Path(file).name)
    written.write_bytes(content)
    session.messages.print(f"wrote {written}: {len(content):,} bytes", soft_wrap=True)


@command()
def relapse(session: Session, model: Model) -> None:
    """Show whether forgotten labels stayed forgotten.

    Example: palimpsest relapse numbers
    """
    from commands import tables

    session.show(session.client.models.relapse(model), as_text=tables.relapse)


@command()
def compare(
    session: Session,
    model: Model,
    before: Annotated[str, typer.Argument(help="A version: its number, an alias, or head.")],
    after: Annotated[str, typer.Argument(help="Another version.")],
) -> None:
    """Compare the figures of two versions.

    Example: palimpsest compare numbers 1 2
    """
    from commands import tables

    session.show(session.client.models.compare(model, before, after), as_text=tables.comparison)


@command()
def promote(
    session: Session,
    model: Model,
    version: Annotated[str, typer.Argument(help="A version: its number, another alias, or head.")],
    alias: Alias,
    reason: Reason = None,
) -> None:
    """Set an alias to a version that may be drawn.

    Example: palimpsest promote numbers 4 production --reason "passed the review"
    """
    from commands import tables

    named = as_version(version) or version
    session.show(session.client.aliases.set(model, alias, named, reason=reason), as_text=tables.alias)


@command()
def rollback(session: Session, model: Model, alias: Alias, reason: Reason = None) -> None:
    """Set an alias to the version that it named before.

    Versions that hold a forgotten label are passed over.

    Example: palimpsest rollback numbers production --reason "draws blurred sevens"
    """
    from commands import tables

    session.show(session.client.aliases.rollback(model, alias, reason=reason), as_text=tables.alias)


@command()
def aliases(
    session: Session,
    model: Model,
    alias: Annotated[str | None, typer.Argument(help="Show the history of this one.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; its history stays.")] = False,
    limit: Limit = 50,
) -> None:
    """List the aliases of a model, or the history of one.

    Example: palimpsest aliases numbers production
    """
    from commands import tables

    if alias is None:
        if delete:
            fail("--delete: name the alias to delete", 2)
        session.show_list(islice(session.client.aliases.list(model), limit), as_table=tables.aliases)
        return
    if delete:
        session.client.aliases.delete(model, alias)
    session.show_list(islice(session.client.aliases.history(model, alias), limit), as_table=tables.changes)


@command()
def report(
    session: Session,
    model: Annotated[str, typer.Argument(help="The name of a model, or the id of a job.")],
    version: Version = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="What was measured before publishing, though there is more.")
    ] = False,
) -> None:
    """Show what was measured of a version, or by a job.

    Example: palimpsest report numbers 2
    """
    import json

    from commands import tables
    from reports import Report

    found: Report
    if model.startswith("job_"):
        found = session.client.jobs.report(model)
    else:
        level = "quick" if quick else None
        found = session.client.versions.report(model, version or "head", level=level)
    if session.as_json:
        typer.echo(json.dumps(found.model_dump(mode="json"), indent=2))
    else:
        session.console.print(tables.report(found))
        if not model.startswith("job_"):
            page = f"{session.client.base_url}/v1/models/{model}/versions/{version or 'head'}/report"
            session.advise(f"As a page, with all figures: {page}")


@command()
def receipt(
    session: Session,
    job: Annotated[str, typer.Argument(help="The id of the forget job, or of a purged model.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write (default: standard output).")
    ] = None,
) -> None:
    """Get the signed receipt of a forget or a deletion.

    Example: palimpsest receipt job_01J0000000000000000000000 --output receipt.json
    """
    of_model = job.startswith("mdl_")
    content = session.client.models.deletion_receipt(job) if of_model else session.client.receipts.get(job)
    if output is None:
        sys.stdout.buffer.write(content)
        return
    output.write_bytes(content)
    session.messages.print(f"wrote {output}", soft_wrap=True)
    session.advise(f"Verify it: palimpsest verify {output} --url {session.client.base_url}")
