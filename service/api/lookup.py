"""Find the row that a name, id or number in a path refers to.

A malformed name is answered with the same 404 as an unknown one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from service.api.context import ApiContext
from service.api.problems import Problem
from service.registry import jobs, models, versions
from service.registry.errors import ArtifactMissing, UnknownJob, UnknownModel
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.requests.fields import JOB_ID, NAME, NUMBER


def find_model(session: Session, project: str, name_or_id: str) -> ModelRow:
    """Return the project's model of that name or id. Raises UnknownModel."""
    if not NAME.fullmatch(name_or_id):
        raise UnknownModel(name_or_id)
    return models.find(session, name_or_id, project=project)


def find_version(session: Session, model: ModelRow, number: str) -> VersionRow:
    """Return the version whose number is given as text. Raises Problem 404 or UnknownVersion."""
    if not NUMBER.fullmatch(number):
        raise Problem(404, "version_not_found", "The number of a version is an integer from 1.")
    return versions.find(session, model, int(number))


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
