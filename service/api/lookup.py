"""From a name in a path to its row. What is not there is a 404, and so is what could never be a name."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from service.api.context import ApiContext
from service.api.problems import Problem
from service.registry import jobs, models, versions
from service.registry.errors import ArtifactMissing, UnknownJob, UnknownModel
from service.registry.tables import JobRow, ModelRow, VersionRow
from service.requests.fields import NAME


def find_model(session: Session, name_or_id: str) -> ModelRow:
    """Return the model of that name or id. Raises UnknownModel."""
    if not NAME.fullmatch(name_or_id):
        raise UnknownModel(name_or_id)
    return models.find(session, name_or_id)


def find_version(session: Session, model: ModelRow, number: str) -> VersionRow:
    """Return the version of that number, as it is written in a path. Raises Problem 404, UnknownVersion."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", number):
        raise Problem(404, "version_not_found", "A version is named by its number, 1 or more.")
    return versions.find(session, model, int(number))


def find_job(session: Session, job_id: str) -> JobRow:
    """Return the job of that id. Raises UnknownJob."""
    if not re.fullmatch(r"job_[0-9A-Za-z]{1,40}", job_id):
        raise UnknownJob(job_id)
    return jobs.find(session, job_id)


@contextmanager
def unless_purged(context: ApiContext, model: ModelRow, version: VersionRow) -> Iterator[None]:
    """Read a version's files inside this block: a file that a purge has just deleted is answered with 410.

    The version's row is read before its files, so that a purge can come between the two. Raises
    VersionPurged or VersionRevoked then, and ArtifactMissing for a file that no purge deleted.
    """
    try:
        yield
    except ArtifactMissing:
        with context.database.reading() as session:
            versions.check_drawable(model, versions.find(session, model, version.number))
        raise
