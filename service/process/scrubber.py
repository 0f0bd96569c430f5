"""The scrub: read every artifact gently beside the service, and record those that are missing or damaged.

At the start the files of the heads are checked, and then all files once a day. Files with a fault are checked
again every minute, so that a repair is noticed.
"""

import logging
import os
import time
from collections.abc import Sequence
from threading import Event

from service.registry import scrub
from service.registry.claims import worker_name
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.opening import open_artifacts
from service.registry.scrub import Fault, ScrubState
from service.registry.store import StoreFailed
from service.settings import Settings

log = logging.getLogger(__name__)

CHECK_SECONDS = 60.0
"""How often a process looks whether a pass is due, and checks the files that have a fault again."""
RECORD_SECONDS = 5.0
"""How often the progress of a pass is recorded."""
RECORD_FAULT_SECONDS = 0.5
"""How long a fault may wait until it is recorded, so that many are recorded together."""
MAX_LOGGED = 20
"""How many faults are logged each time. The others are in the table, and `palimpsest doctor` lists them."""


class Stopped(Exception):
    """The process has to end."""


def scrub_until(stop: Event, database: Database, deployment: Settings) -> None:
    """Check artifacts until `stop` is set, also through outages of the database."""
    scrubber = Scrubber(stop, database, deployment)
    while not stop.is_set():
        try:
            scrubber.run()
        except Stopped:
            return
        except DatabaseUnavailable as error:
            log.debug("cannot check the artifacts: the database does not answer (%s)", error.reason)
        except StoreFailed as error:
            log.warning("cannot check the artifacts: %s; it is tried again", error.strerror)
        except Exception:
            log.exception("a check of the artifacts failed with an unexpected error; it is tried again")
        stop.wait(CHECK_SECONDS)


class Scrubber:
    """The scrub of one process. `run` does what is due."""

    def __init__(self, stop: Event, database: Database, deployment: Settings) -> None:
        self._stop = stop
        self._database = database
        self._artifacts = open_artifacts(deployment)
        self._hours = deployment.scrub_hours
        self._bytes_per_second = deployment.scrub_bytes_per_second
        self._owner = worker_name(os.getpid())
        self._heads_checked = False

    def run(self) -> None:
        """Check what is due: the heads' files once, all files once a day, files with a fault every time.

        Raises Stopped, DatabaseUnavailable, StoreFailed.
        """
        with self._database.reading() as session:
            due = scrub.is_due(session, owner=self._owner, hours=self._hours)
            if due:
                names = scrub.list_artifacts(session)
            else:
                names = scrub.list_faults(session)
                names += [] if self._heads_checked else scrub.list_head_artifacts(session)
        self._check(names, is_pass=due)
        self._heads_checked = True

    def _check(self, names: Sequence[str], *, is_pass: bool) -> None:
        results: dict[str, Fault | None] = {}
        size, recorded_at = 0, time.monotonic()
        for number, sha256 in enumerate(names):
            results[sha256], read = scrub.check_artifact(self._artifacts, sha256, self._pause)
            size += read
            longest = RECORD_FAULT_SECONDS if any(results.values()) else RECORD_SECONDS
            if time.monotonic() - recorded_at > longest:
                state = ScrubState(self._owner, len(names), number + 1, size, finished=False)
                self._record(results, state if is_pass else None)
                results, recorded_at = {}, time.monotonic()
        if names or is_pass:
            state = ScrubState(self._owner, len(names), len(names), size, finished=True)
            self._record(results, state if is_pass else None)

    def _record(self, results: dict[str, Fault | None], state: ScrubState | None) -> None:
        with self._database.transaction() as session:
            news = scrub.record(session, results)
            if state is not None:
                scrub.save_state(session, state)
        for sha256, fault in list(news.items())[:MAX_LOGGED]:
            if fault is None:
                log.info("artifact %s is intact again, or no longer needed", sha256)
            else:
                log.error(
                    "artifact %s is %s: restore it from a backup; `palimpsest doctor` lists the versions "
                    "that need it",
                    *(sha256, fault),
                )

    def _pause(self, size: int) -> None:
        """Wait as long as this many bytes may take. Raises Stopped."""
        if self._stop.wait(size / self._bytes_per_second):
            raise Stopped
