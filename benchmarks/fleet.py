"""A local service with several workers, for benchmarks."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.jobs import wait
from palimpsest import Palimpsest
from palimpsest.local_server import NOT_INHERITED, local_server
from service.registry import workers
from service.registry.database import Database


@contextmanager
def running_fleet(
    count: int, *, data: Path | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[Palimpsest]:
    """Run a service on SQLite with so many workers; yield a client of it once all of them are ready.

    data: the folder of the datasets. variables: further settings of all its processes.
    """
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        own = {"PALIMPSEST_HOME": str(home), **(variables or {})}
        own |= {} if data is None else {"PALIMPSEST_DATA": str(data)}
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        with local_server(home, variables=own) as url, (home / "workers.log").open("wb") as log:
            command = [str(Path(sys.executable).with_name("palimpsest")), "worker"]
            others = [
                subprocess.Popen(command, env=inherited | own, stdout=log, stderr=log)
                for _ in range(count - 1)
            ]
            try:
                database = Database(f"sqlite:///{home / 'palimpsest.db'}")
                wait("all workers", lambda: _count_live(database) == count)
                database.dispose()
                yield Palimpsest(url)
            finally:
                for process in others:
                    process.terminate()
                for process in others:
                    process.wait(60)


def _count_live(database: Database) -> int:
    with database.reading() as session:
        return len(workers.list_live(session))
