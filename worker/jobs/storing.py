"""Store the file of a report, and record the row that refers to it."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from worker.jobs.attempt import Attempt
from worker.jobs.version_files import File, store, store_again


def store_report(attempt: Attempt, file: File, record: Callable[[Session], object]) -> None:
    """Store the file durably, then make the change that refers to it, as `Attempt.record` does."""
    files, artifacts = {"report": file}, attempt.worker_context.artifacts
    attempt.with_retries(lambda: store(files, artifacts))

    def store_again_and_record(session: Session) -> None:
        store_again(session, files, artifacts)
        record(session)

    attempt.with_retries(lambda: attempt.record(store_again_and_record))
