"""A deployment without processes: a database and an artifact folder, whose jobs a stand-in worker runs."""

import hashlib
from pathlib import Path
from typing import Any

from sqlalchemy import select

from migrations import upgrade
from service.process.sweeper import sweep
from service.registry import datasets, models
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.tables import ModelRow
from service.settings import Settings
from tests.api.serving import StandInWorker
from tests.registries import Registry


def settings(kind: str, home: Path, url: str) -> Settings:
    url = f"sqlite:///{home / 'palimpsest.db'}" if kind == "sqlite" else url
    return Settings(home=home, erasure_log=home.parent / "erasures.jsonl", port=0, database_url=url)


class Deployment:
    """A database and an artifact folder, whose jobs a stand-in worker runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.home.mkdir(exist_ok=True)
        self.database = Database(settings.database_url)
        upgrade(self.database)
        self.artifacts = FolderArtifacts(settings.artifacts)
        self.worker = StandInWorker(self.database, self.artifacts)

    def create(self, name: str) -> None:
        with self.database.transaction() as session:
            models.create(session, name=name, dataset="digits", network={}, seed=1)

    @property
    def registry(self) -> Registry:
        with self.database.reading() as session:
            return Registry(self.database, session.scalars(select(ModelRow)).one())

    def upload(self, name: str, *names: str) -> str:
        """Record an uploaded dataset of five images a label; return the sha256 of its file."""
        images = dict.fromkeys(names, 5)
        pixels = b"".join(f"{name} {label}".encode().ljust(5 * datasets.IMAGE_BYTES) for label in names)
        sha256 = self.artifacts.put(pixels)
        with self.database.transaction() as session:
            datasets.put(session, name, images=images, sha256=sha256)
        return sha256

    def work(self, operation: str, *names: str, **changes: Any) -> str:
        """Submit a job and run it; return its id."""
        job = self.registry.submit(operation, *names, **changes)  # type: ignore[arg-type]
        self.worker.work(job.id)
        self.sweep()
        return job.id

    def sweep(self) -> None:
        sweep(self.database, self.settings)

    def hashes(self) -> dict[str, str]:
        """Return {name of an artifact: sha256 of its bytes}."""
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.artifacts.all_files()
        }
