"""The sweeper's part in exports: end those of which a job failed, and delete the files of ended ones.

The next sweep continues a deletion that was interrupted anywhere (service/registry/export_clearing.py).
"""

import logging

from service import failpoints, metrics
from service.process.failing_alone import failing_alone
from service.registry import export_clearing, export_parts, exports, sweeping
from service.registry.database import Database
from service.registry.opening import open_artifacts
from service.settings import Settings

log = logging.getLogger(__name__)


def end_exports(database: Database, deployment: Settings) -> None:
    """End the exports of failed jobs, record in the audit log how exports ended, and delete their jobs' rows.

    Raises DatabaseUnavailable.
    """
    with database.reading() as session:
        is_to_settle, has_jobs = exports.is_to_settle(session), export_clearing.has_jobs(session)
        has_unrecorded = export_parts.has_unrecorded(session)
    if is_to_settle:
        with database.transaction() as session:
            exports.settle(session)
    if is_to_settle or has_unrecorded:
        with database.transaction() as session:
            ended = export_parts.add_outcomes(session) if sweeping.try_sweep_lock(session) else []
        for export in ended:
            metrics.EXPORTS_ENDED.labels(export.state).inc()
    if has_jobs:
        with database.transaction() as session:
            export_clearing.delete_ended_jobs(session)


def clear_exports(database: Database, deployment: Settings) -> None:
    """Delete the files of exports without a result, and of deleted ones. Raises DatabaseUnavailable."""
    with database.reading() as session:
        to_clear = export_clearing.find_to_clear(session)
    artifacts = open_artifacts(deployment) if to_clear else None
    for export_id in to_clear:
        with failing_alone(f"export {export_id}: delete its files"):
            assert artifacts is not None
            artifacts.require_answer()
            failpoints.reach("export.before_clear")
            is_clear = False
            while not is_clear:
                with database.transaction() as session:
                    left = export_clearing.clear(session, export_id, artifacts)
                if left is None:
                    break
                is_clear = left
            if is_clear:
                log.info("export %s: deleted its files", export_id)
