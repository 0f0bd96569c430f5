"""Tell the other processes that this worker lives, what it offers and which queues it serves.

It does so through its row in the database, where it also reads whether it is to end.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from service.registry import workers
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.tables import DrainMode
from worker.jobs.background import Background
from worker.jobs.code_version import CODE

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 4.0
"""How often a sign of life is given: five times before the worker is taken for dead (LIVE_SECONDS)."""
SIGN_OUT_SECONDS = 1.0
"""How long the end of the worker may wait for that. If it cannot sign out, it is taken for dead later."""


class Presence(Background):
    """Signs in, gives signs of life while its `with` block runs, and signs out. In a thread of its own.

    It never fails: while the database does not answer, it tries again.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        offers: Mapping[str, Any] | None,
        *,
        queues: Sequence[str],
        on_drain: Callable[[DrainMode], object],
    ) -> None:
        """name: the one under which this worker claims jobs. offers: see packages.load_packages.

        on_drain: called, perhaps again and again, once the worker is asked to end.
        """
        super().__init__("presence", join_seconds=SIGN_OUT_SECONDS)
        self._database = database
        self._name = name
        self._offers = offers
        self._queues = queues
        self._on_drain = on_drain
        self._is_signed_in = False

    def _run(self) -> None:
        has_failed = False
        while not self._ended.is_set():
            try:
                drain = self._give_sign_of_life()
                has_failed = False
                if drain is not None:
                    self._on_drain(drain)
            except DatabaseUnavailable:
                pass  # the jobs say so, and this is tried again
            except Exception:
                if not has_failed:
                    log.exception("cannot record that this worker lives; trying again every few seconds")
                has_failed = True
            self._ended.wait(INTERVAL_SECONDS)
        self._sign_out()

    def _give_sign_of_life(self) -> DrainMode | None:
        with self._database.transaction() as session:
            if not (self._is_signed_in and workers.give_sign_of_life(session, self._name)):
                workers.sign_in(session, self._name, code=CODE, offers=self._offers, queues=self._queues)
            drain = workers.find_drain(session, self._name)
        self._is_signed_in = True
        return drain

    def _sign_out(self) -> None:
        try:
            with self._database.transaction() as session:
                workers.sign_out(session, self._name)
        except Exception as error:
            log.info("cannot record that this worker stops (%s): it is taken for dead in a moment", error)
