"""A real server on a loopback port for tests, and a stand-in for the worker that publishes small decoders.

The stand-in goes through the registry as the worker does (claim, heartbeat, publish); only the learning is
missing, so that what HTTP answers can be tested in milliseconds.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import func, select

from migrations import upgrade
from service import sweeper
from service.app import create_app
from service.registry import claims, jobs, labels, publishing, versions
from service.registry.artifacts import FolderArtifacts
from service.registry.claims import Claim
from service.registry.database import Database
from service.registry.publishing import Origin
from service.registry.tables import (
    DatasetRow,
    JobRow,
    LabelRow,
    ModelRow,
    PurgeRow,
    ReceiptRow,
    SampleRow,
    VersionRow,
)
from service.registry.versions import isolated_file
from service.settings import Settings
from tests.api.offered import CATALOG
from tests.generation.decoders import decoder

TABLES = (ModelRow, LabelRow, VersionRow, JobRow, SampleRow, DatasetRow, PurgeRow, ReceiptRow)


@dataclass
class StandInWorker:
    """Does to the rows what the worker does, when told to."""

    database: Database
    artifacts: FolderArtifacts
    decoders: Mapping[int, bytes] = field(default_factory=dict)
    """Decoder bytes by version number; a small random one for every other."""

    def claim(self, job_id: str) -> Claim:
        with self.database.transaction() as session:
            claim = claims.claim(session, job_id, worker="here:1", lease_seconds=600)
        assert claim is not None, "the job can be claimed"
        return claim

    def progress(self, claim: Claim, phase: str, step: int, total: int, loss: float | None = 100.0) -> None:
        told = {"phase": phase, "step": step, "total": total, "loss": loss}
        with self.database.transaction() as session:
            claims.heartbeat(session, claim, lease_seconds=600, progress=told)

    def fail(self, claim: Claim, *, type: str = "user", code: str = "dataset_unavailable") -> None:
        error = {"type": type, "code": code, "message": "set PALIMPSEST_DATA", "retryable": True}
        with self.database.transaction() as session:
            claims.finish_failed(session, claim, error)

    def finish(self, claim: Claim) -> VersionRow:
        """Publish the next version of the job's model."""
        with self.database.reading() as session:
            job = jobs.find(session, claim.job_id)
            model = session.get_one(ModelRow, job.model_id)
            held = {} if model.head is None else dict(versions.head(session, model).labels)
            known = labels.statuses(session, model.id)
        slots = {name: row.slot for name, row in known.items() if row.slot is not None}
        if job.operation == "learn" and job.retention == "temporary":
            held |= dict.fromkeys(job.labels)
        elif job.operation == "learn":
            new = [name for name in job.labels if name not in slots]
            slots |= {name: slot for slot, name in enumerate(new, start=len(slots))}
            held |= {name: slots[name] for name in job.labels}
        elif job.operation == "forget":
            held = {name: slot for name, slot in held.items() if name not in job.labels}
        number = (model.head or 0) + 1
        report = {
            "level": "quick",
            "n": 1000,
            "retained": {"accuracy": 0.951, "labels": {}},
            "forgotten": {"accuracy": 0.012 if job.operation == "forget" else None, "labels": {}},
        }
        files = {
            "decoder.onnx": self.decoders.get(number) or decoder(slots=12, seed=number),
            "checkpoint.safetensors": b"weights " * 100 + claim.job_id.encode(),
            "report.json": b"{}",
            "manifest.json": b"{}",
        }
        for name in (name for name, slot in held.items() if slot is None):
            files[isolated_file(name, "decoder.onnx")] = decoder(slots=1, seed=1000 + len(name))
        publication = publishing.Publication(
            parent=model.head,
            held=held,
            origins={name: origin(name, job, known) for name in held},
            files={
                name: {
                    "sha256": self.artifacts.put(data),
                    "bytes": len(data),
                    "media_type": "application/json" if name.endswith("json") else "application/octet-stream",
                }
                for name, data in files.items()
            },
            parameters=1_000_000 + number * 10_000,
            widths={"encoder": [512, 256], "decoder": [256, 512]},
            report=report,
        )
        with self.database.transaction() as session:
            return publishing.publish(session, claim, publication)

    def work(self, job_id: str) -> VersionRow:
        """Run a queued job from claim to publication."""
        return self.finish(self.claim(job_id))


def origin(name: str, job: JobRow, known: Mapping[str, LabelRow]) -> Origin:
    """Of the label's row while the model holds it, else what the job says."""
    if name in known and known[name].status != "forgotten":
        return Origin(known[name].dataset, known[name].renamed_from)
    return Origin(job.dataset, (job.renamed or {}).get(name))


@dataclass
class Served:
    """A running server and everything a test looks at."""

    app: FastAPI
    address: str
    http: httpx.Client
    settings: Settings
    worker: StandInWorker

    def counts(self) -> dict[str, int]:
        """How many rows every table has."""
        with self.worker.database.reading() as session:
            return {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
                for table in TABLES
            }

    def model(self, name: str, **more: Any) -> dict[str, Any]:
        """A model, created if there is none of that name."""
        answer = self.http.post("/v1/models", json={"name": name, "dataset": "mnist"} | more)
        if answer.status_code == 409:
            answer = self.http.get(f"/v1/models/{name}")
        assert answer.is_success, answer.text
        return dict(answer.json())

    def ask(self, model: str, operation: str, **body: Any) -> dict[str, Any]:
        """An accepted job, still queued."""
        answer = self.http.post(f"/v1/models/{model}/{operation}", json=body)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def sweep(self) -> None:
        """What the sweeper beside the server does twice a second."""
        sweeper.sweep(self.worker.database, self.settings)

    def done(self, model: str, operation: str, **body: Any) -> VersionRow:
        """A job asked for and worked off: the version it published."""
        return self.worker.work(self.ask(model, operation, **body)["id"])


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """Serve that deployment on a free port until the block ends."""
    database = Database(settings.database_url)
    upgrade(database)
    app = create_app(settings, offered=CATALOG)
    with listening(app) as address, httpx.Client(base_url=address, timeout=30) as http:
        worker = StandInWorker(database, FolderArtifacts(settings.artifacts))
        yield Served(app, address, http, settings, worker)
    database.dispose()


@contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """uvicorn in a thread of this process, as `palimpsest serve` runs it in its own."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive(), "the server started"
        assert time.monotonic() < deadline, "the server started in time"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
