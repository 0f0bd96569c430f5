"""`client.versions`: the published states of a model, their reports and files."""

from collections.abc import Mapping

import httpx2

from palimpsest.calls import call, pages
from palimpsest.errors import UnexpectedAnswer
from palimpsest.requests import (
    UNCHANGED,
    Page,
    Request,
    Unchanged,
    changes,
    content,
    delete,
    get,
    metadata_query,
    nothing,
    page,
    patch,
    segment,
    value,
)
from palimpsest.resources.models import PAGE, path_of
from palimpsest.values import Ancestor, EvaluationReport, Model, QuickReport, Version
from reports import Report, UnreadableReport, read_report


class Versions:
    """The published states of a model, their reports and files.

    `version` is its number, an alias, or `head`.
    """

    @call
    def get(self, model: str | Model, version: int | str) -> Request[Version]:
        """Get a version."""
        return get(version_path(model, version), value(Version))

    @pages
    def list(
        self,
        model: str | Model,
        *,
        state: str | None = None,
        operation: str | None = None,
        metadata: Mapping[str, str] | None = None,
        order: str | None = None,
    ) -> Request[Page[Version]]:
        """Iterate over the versions of a model, newest first.

        state: only those that are usable, revoked, purged or deleted. operation, metadata: only those that
        have them. order: "asc" or "desc".
        """
        own = {"state": state, "operation": operation, "order": order}
        path = f"{path_of(model)}/versions"
        return get(path, page(Version), limit=PAGE, **own, **metadata_query(metadata))

    @call
    def update(
        self,
        model: str | Model,
        version: int | str,
        *,
        description: str | Unchanged | None = UNCHANGED,
        metadata: Mapping[str, str | None] | Unchanged = UNCHANGED,
    ) -> Request[Version]:
        """Change the description and the metadata of a version, and nothing else: the rest never changes.

        description: None removes it. metadata: entries to set, or to remove where the value is None; the
        others stay.
        """
        changed = changes(description=description, metadata=metadata)
        return patch(version_path(model, version), changed, value(Version))

    @call
    def delete(self, model: str | Model, version: int | str) -> Request[None]:
        """Delete a version that is neither the newest, nor in use, nor named by an alias.

        Its report, its place in the lineage and the receipts that name it stay.
        """
        return delete(version_path(model, version), nothing)

    @pages
    def lineage(self, model: str | Model, version: int | str) -> Request[Page[Ancestor]]:
        """Iterate over a version and its ancestors, back to the first version."""
        return get(f"{version_path(model, version)}/lineage", page(Ancestor), limit=PAGE)

    @call
    def report(
        self, model: str | Model, version: int | str, *, level: str | None = None
    ) -> Request[QuickReport | EvaluationReport]:
        """Get the report on a version.

        level: "quick", measured before the version was published, or "full", measured by an evaluate job
        beside retained references; by default "full" if there is one. A full report is an EvaluationReport.
        """
        return get(f"{version_path(model, version)}/report", _version_report, level=level)

    @call
    def file(self, model: str | Model, version: int | str, name: str) -> Request[bytes]:
        """Get a file of a version; `Version.files` lists their names and sha256."""
        return get(f"{version_path(model, version)}/files/{segment(name)}", content)


def version_path(model: str | Model, version: int | str) -> str:
    """Return the path of a version."""
    return f"{path_of(model)}/versions/{segment(version)}"


def job_report(response: httpx2.Response) -> Report:
    """Read the report of a job: the file that was stored, whichever release wrote it."""
    try:
        return read_report(response.json(), unknown="allow")
    except UnreadableReport as error:
        raise UnexpectedAnswer(f"{response.request.url}: {error}") from error


def _version_report(response: httpx2.Response) -> QuickReport | EvaluationReport:
    if response.json().get("level") == "full":
        return value(EvaluationReport)(response)
    return value(QuickReport)(response)
