"""Whether this process reaches the database steadily, so that an expired lease means a dead worker.

When the database does not answer, no worker can extend its lease. Once it answers again, every lease may have
expired while every worker lives. The same holds after the whole machine was suspended, and after the
database's clock was set forward. So after such an interruption nobody's lease is taken for as long as a
lease: living workers extend theirs within that time.
"""

import time
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.registry.database import now
from service.registry.errors import DatabaseUnavailable


class Contact:
    """The contact of one process with the database. Call `is_steady` in every sweep."""

    def __init__(self, *, lease_seconds: float, sweep_seconds: float) -> None:
        self._lease_seconds = lease_seconds
        # An interruption of half a lease ends no lease, because heartbeats come several times in a lease.
        self._longest_gap = sweep_seconds + lease_seconds / 2
        self._checked: tuple[float, datetime] | None = None
        self._steady_since = float("-inf")  # a process that starts waits for nobody

    def is_steady(self, session: Session) -> bool:
        """Return whether the database has answered without an interruption for as long as a lease."""
        database_time = session.scalars(select(now())).one()
        return self.note(time.monotonic(), database_time)

    def note(self, answered_at: float, database_time: datetime) -> bool:
        """Note an answer at that time of this process's clock and the database's. Returns `is_steady`."""
        if self._checked is not None:
            elapsed = answered_at - self._checked[0]
            elapsed_there = (database_time - self._checked[1]).total_seconds()
            if max(elapsed, elapsed_there) > self._longest_gap:
                self._steady_since = answered_at
        self._checked = answered_at, database_time
        return answered_at - self._steady_since >= self._lease_seconds

    def require_prompt(self) -> None:
        """Raise DatabaseUnavailable if the database took long since `is_steady`, to roll everything back."""
        assert self._checked is not None
        elapsed = time.monotonic() - self._checked[0]
        if elapsed > self._longest_gap:
            raise DatabaseUnavailable(f"it took {elapsed:.1f} s to answer")
