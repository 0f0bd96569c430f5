"""Find the row that a name, id or number in a path refers to.

A malformed name is answered with the same 404 as an unknown one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session
from starlette.types import Scope

from service.api.context import ApiContext
from service.api.error_kinds import VERSION_NOT_FOUND, as_conflict
from service.api.problems import Problem
from service.api.responses import VERSION_HEADER
from service.api.route import FOR_ONE_CLIENT, FOR_ONE_MINUTE
from service.registry import aliases, jobs, models, versions
from service.registry.errors import (
    ArtifactMissing,
    ModelHasNoVersion,
    UnknownAlias,
    UnknownJob,
    UnknownModel,
    UnknownVersion,
    VersionUnusable,
)
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.requests.fields import ALIAS, HEAD, JOB_ID, NAME, NUMBER, VERSION_RULE
from service.requests.violations import InvalidRequest, Violation

VERSION_ERRORS = (UnknownModel, UnknownVersion, UnknownAlias, ModelHasNoVersion)
"""What an endpoint declares that finds a version of a model."""


def find_model(session: Session, project: str, name_or_id: str) -> ModelRow:
    """Return the project's model of that name or id. Raises UnknownModel."""
    if not NAME.fullmatch(name_or_id):
        raise UnknownModel(name_or_id)
    return models.find(session, name_or_id, project=project)


def lock_model(context: ApiContext, session: Session, name_or_id: str) -> ModelRow:
    """Return the model, and lock it until the transaction ends. Raises UnknownModel.

    The transaction stands in the line of that name: `context.database.transaction(line=name_or_id)`.
    """
    row = jobs.lock_model(session, find_model(session, context.project, name_or_id))
    context.database.serve(name_or_id)
    return row


def find_version(session: Session, model: ModelRow, named: int | str) -> VersionRow:
    """Return the version of that number (also given as text), or of that alias, or the head.

    Raises UnknownVersion, ModelHasNoVersion, UnknownAlias; Problem 404 for what can name no version.
    """
    if isinstance(named, int) or NUMBER.fullmatch(named):
        return versions.find(session, model, int(named))
    if named == HEAD:
        return versions.find_head(session, model)
    if not ALIAS.fullmatch(named):
        raise Problem(VERSION_NOT_FOUND, f"There is no such version: {VERSION_RULE}.")
    return versions.find(session, model, aliases.find(session, model, named).version)


def find_filter(
    session: Session, project: str, model: str | None, version: int | str | None
) -> tuple[str | None, int | None]:
    """Return the id of a model and the number of its version that a list is filtered by, if it is.

    Raises InvalidRequest for a version without its model, and what finding them raises.
    """
    if model is None:
        if version is not None:
            detail = "`version` is that of a model; name the model with `model`"
            raise InvalidRequest(Violation("/query/model", "required", detail))
        return None, None
    row = find_model(session, project, model)
    return row.id, None if version is None else find_version(session, row, version).number


VERSION_PART = 5
"""Which part of /v1/models/MODEL/versions/VERSION/... names the version, split at each slash."""


def headers_of_version(scope: Scope, number: int, named: str) -> dict[str, str]:
    """Return the headers of an answer that was made with version `number`: which one, and who may cache it.

    scope: of the request. named: what stands in the URL. Behind a number there is always the same version,
    which can only be revoked. Behind `head` or an alias there may be another one at any time, so every cache
    has to ask again.
    """
    headers = {VERSION_HEADER: str(number)}
    if NUMBER.fullmatch(named):
        return {**headers, "Cache-Control": FOR_ONE_MINUTE}
    parts = scope["raw_path"].decode("latin-1").split("/")
    parts[VERSION_PART] = str(number)  # found by its place: letters of the name may be percent-encoded
    query = scope["query_string"].decode("latin-1")
    location = "/".join(parts) + (f"?{query}" if query else "")
    return {**headers, "Cache-Control": FOR_ONE_CLIENT, "Content-Location": location}


@contextmanager
def refused_as_conflict() -> Iterator[None]:
    """Answer 409 and not 410 if the block needs a version that may not be drawn from.

    410 says that the URL has nothing any more; here it is the URL of a model or an alias, which exists.
    """
    try:
        yield
    except VersionUnusable as error:
        raise Problem(as_conflict(type(error)), error.message, job_id=error.job_id) from error


def find_job(session: Session, project: str, job_id: str) -> JobRow:
    """Return the project's job of that id. Raises UnknownJob."""
    if not JOB_ID.fullmatch(job_id):
        raise UnknownJob(job_id)
    return jobs.find(session, job_id, project=project)


@contextmanager
def unless_purged(context: ApiContext, model: ModelRow, version: VersionRow) -> Iterator[None]:
    """Run a block that reads files of a version, and explain a missing file by the purge that deleted it.

    The version's row is read before its files, so a purge may delete the files in between. The block then
    raises VersionPurged or VersionRevoked (410) in place of ArtifactMissing, which remains for a file that
    no purge deleted.
    """
    try:
        yield
    except ArtifactMissing:
        with context.database.reading() as session:
            found = models.find(session, model.id, project=model.project_id)
            versions.check_drawable(found, versions.find(session, found, version.number))
        raise
