"""Forgets that also delete the images of their labels from uploaded datasets.

A request is a row of its own, like that of a purge. It begins in the transaction that publishes the forget:
the labels are taken out of every dataset that the model learned them from (dataset_deletions.py). It is done
when the last of these deletions is, and only then is the receipt signed.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import exc, select
from sqlalchemy.orm import Session

from service.registry import dataset_deletions, labels, purging
from service.registry.database import is_duplicate, now
from service.registry.elsewhere import find_elsewhere
from service.registry.tables import DatasetDeletionRow, DatasetRow, ImageErasureRow, JobRow, ModelRow


def request(session: Session, job: JobRow, names: Collection[str]) -> None:
    """Request that a forget deletes the images of these labels, whether or not it has run.

    Repeating a request changes nothing. A request for further labels of the same job begins again.
    """
    row = session.get(ImageErasureRow, job.id)
    if row is None:
        try:
            with session.begin_nested():
                session.add(ImageErasureRow(job_id=job.id, labels=sorted(names), state="requested"))
            return
        except exc.IntegrityError as error:
            if not is_duplicate(error):
                raise
            # another client at the same moment
            row = session.get_one(ImageErasureRow, job.id)
    if not set(names) <= set(row.labels):
        row.labels = sorted({*row.labels, *names})
        row.state, row.finished_at = "requested", None
        session.flush()


def begin(session: Session, job: JobRow) -> None:
    """Take the labels out of the datasets they were learned from. Do nothing if that was not requested.

    job: a forget that has succeeded.
    """
    erasure = session.get(ImageErasureRow, job.id, with_for_update=True, populate_existing=True)
    if erasure is None or erasure.state != "requested":
        return
    model = session.get_one(ModelRow, job.model_id)
    sources = labels.find_sources(session, model, erasure.labels)
    for dataset in sorted({dataset for dataset, _ in sources}):
        key = (model.project_id, dataset)
        row = session.get(DatasetRow, key, with_for_update=True, populate_existing=True)
        # One that was uploaded after the labels were learned has other images, under an earlier name.
        names = [
            label
            for label in (row.images if row else ())
            if row and (learned_at := sources.get((dataset, label))) and row.created_at <= learned_at
        ]
        if row is not None and names:
            dataset_deletions.withdraw(session, row, names, job_id=job.id)
    erasure.state = "pending"
    purging.clear_receipt(session, job)
    session.flush()


def find_requested(session: Session) -> list[str]:
    """Return the ids of the succeeded jobs whose erasure has to begin, the oldest first."""
    return _find(session, "requested")


def find_pending(session: Session) -> list[str]:
    """Return the ids of the jobs whose images are being deleted, the oldest first."""
    return _find(session, "pending")


def has_changed(session: Session, job_id: str) -> bool:
    """Whether `update` would change the job's erasure."""
    erasure = session.get_one(ImageErasureRow, job_id)
    unfinished = [one for one in _deletions(session, job_id) if not _is_over(one)]
    return not unfinished or erasure.waits_for != _find_blocking_job(session, unfinished)


def update(session: Session, job: JobRow) -> bool:
    """End the erasure if all of its deletions are done and in the erasure log; else record what it waits for.

    When it ends, what else holds the same images is looked up again, so that what is deleted is not listed.
    Returns whether it has ended.
    """
    erasure = session.get_one(ImageErasureRow, job.id, with_for_update=True, populate_existing=True)
    if erasure.state != "pending":
        return False
    deletions = _deletions(session, job.id)
    unfinished = [one for one in deletions if not _is_over(one)]
    erasure.waits_for = _find_blocking_job(session, unfinished)
    if not unfinished:
        erasure.datasets = [one.entry() for one in deletions]
        erasure.state, erasure.finished_at = "done", now()
        job.elsewhere = find_elsewhere(session, session.get_one(ModelRow, job.model_id), job.labels)
    session.flush()
    return not unfinished


def _find(session: Session, state: str) -> list[str]:
    query = select(ImageErasureRow.job_id).join(JobRow, JobRow.id == ImageErasureRow.job_id)
    query = query.where(ImageErasureRow.state == state, JobRow.state == "succeeded")
    return list(session.scalars(query.order_by(JobRow.sequence)))


def _deletions(session: Session, job_id: str) -> Sequence[DatasetDeletionRow]:
    query = select(DatasetDeletionRow).where(DatasetDeletionRow.job_id == job_id)
    return session.scalars(query.order_by(DatasetDeletionRow.id)).all()


def _is_over(deletion: DatasetDeletionRow) -> bool:
    return deletion.state == "done" and deletion.logged_at is not None


def _find_blocking_job(session: Session, deletions: Sequence[DatasetDeletionRow]) -> str | None:
    waiting = (one for one in deletions if one.state == "requested")
    blocking = (dataset_deletions.find_blocking_job(session, one) for one in waiting)
    return next((job_id for job_id in blocking if job_id is not None), None)
