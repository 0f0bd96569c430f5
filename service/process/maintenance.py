"""Run the scrub and the collection of garbage beside the API, each in a thread of its own.

They may wait for a disk or the database as long as they like: nothing waits for them.
"""

from threading import Event, Thread

from service.process.collector import collect_until
from service.process.scrubber import scrub_until
from service.registry.database import Database
from service.settings import Settings


def start_maintenance(stop: Event, database: Database, deployment: Settings) -> None:
    """Start the threads that the settings ask for. They end when `stop` is set, and with the process."""
    for name, run, wanted in (
        ("scrub", scrub_until, deployment.scrub_hours),
        ("collect", collect_until, deployment.collect_minutes),
    ):
        if wanted:
            Thread(target=run, args=(stop, database, deployment), name=name, daemon=True).start()
