"""A real server on a loopback port, and a stand-in for the worker that publishes small random decoders.

The stand-in uses the registry as the worker does (claim, heartbeat, publish), but learns nothing, so that the
answers of the API can be tested in milliseconds.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from fastapi import FastAPI
from sqlalchemy import func, select

from migrations import upgrade
from reports import Report, read_report
from service.api.app import create_app
from service.drawing.decoders import RENDERING
from service.drawing.exporting import ExportDrawing
from service.drawing.images import png
from service.drawing.shards import write_shard
from service.process import sweeper
from service.process.http_server import Server, server_config
from service.process.signer import make_signing_key
from service.registry import claims, export_parts, job_events, jobs, labels, publishing, reports, versions
from service.registry.artifacts import Artifacts, Content, FolderArtifacts, encode_document
from service.registry.claims import Claim
from service.registry.database import Database
from service.registry.export_parts import StoredShard
from service.registry.opening import open_artifacts
from service.registry.publishing import Origin
from service.registry.reports import MeasuredReport
from service.registry.sweeping import NextJob
from service.registry.tables import (
    JobRow,
    LabelRow,
    Level,
    ModelRow,
    Row,
    VersionRow,
)
from service.registry.version_files import before_file, forgotten_file, isolated_file
from service.requests.catalog import Catalog
from service.settings import Settings
from tests.api.documented import check_documented
from tests.api.offered import CATALOG
from tests.drawing.decoders import decoder
from tests.reports.made_up import WEAK, by_weak_judge, full_report, quick_report

MEDIA_TYPES = {"json": "application/json", "png": "image/png"}
COST = {
    "seconds": 12.5,
    "phases": {"preparing": 0.5, "learning": 12.0},
    "examples": 400,
    "energy": {"joules": None, "reason": "this machine has no energy counter (RAPL)"},
}
REFUSAL: dict[str, Any] = {
    "type": "acceptance_failed",
    "code": "acceptance_failed",
    "message": "The candidate was not published, because it missed criteria: retained_accuracy_min 0.99 "
    "(measured 0.951 on 1000 draws).",
    "retryable": True,
    "reasons": [
        {
            "criterion": "retained_accuracy_min",
            "label": None,
            "value": 0.951,
            "n": 1000,
            "interval": [0.936, 0.963],
            "threshold": {"op": ">=", "limit": 0.99},
            "verdict": "missed",
            "reason": None,
        }
    ],
}


@dataclass
class StandInWorker:
    """Changes the rows as the worker does, one step at a time."""

    database: Database
    artifacts: Artifacts
    decoders: Mapping[int, bytes] = field(default_factory=dict)
    """{version number: decoder bytes}. Every other version gets a small random decoder."""
    relapses: dict[str, float] = field(default_factory=dict)
    """{forgotten label: its measured accuracy}. It is 1.2 % for every other label."""
    has_weak_judge: bool = False
    """Whether the judge misses thresholds of its own."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """The manifest of the versions that it publishes."""

    def claim(self, job_id: str) -> Claim:
        with self.database.transaction() as session:
            claim = claims.claim(session, job_id, worker="here:1", lease_seconds=600)
        assert claim is not None, "the job can be claimed"
        return claim

    def progress(self, claim: Claim, phase: str, step: int, total: int, loss: float | None = 100.0) -> None:
        progress = {"phase": phase, "step": step, "total": total, "loss": loss, "eta_seconds": None}
        with self.database.transaction() as session:
            claims.heartbeat(session, claim, lease_seconds=600, progress=progress)
            job_events.add_progress(session, claim.job_id, progress)

    def fail(self, claim: Claim, *, type: str = "user", code: str = "dataset_unavailable") -> None:
        error = {"type": type, "code": code, "message": "set PALIMPSEST_DATA", "retryable": True}
        with self.database.transaction() as session:
            claims.finish_failed(session, claim, error)

    def finish(self, claim: Claim) -> VersionRow:
        """Publish the next version of the job's model."""
        with self.database.reading() as session:
            job = jobs.find(session, claim.job_id)
            model = session.get_one(ModelRow, job.model_id)
            held = {} if model.head is None else dict(versions.find_head(session, model).labels)
            known = labels.find_all(session, model.id)
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
        gone = [name for name, row in known.items() if row.status == "forgotten" and name not in held]
        gone += [name for name in job.labels if job.operation == "forget"]
        report = quick_report(
            held,
            {name: self.relapses.get(name, 0.012) for name in gone},
            guarantee=job.guarantee if job.operation == "forget" else None,
        )
        report = by_weak_judge(report) if self.has_weak_judge else report
        files = {
            "decoder.onnx": self.decoders.get(number) or decoder(slots=12, seed=number),
            "checkpoint.safetensors": b"weights " * 100 + claim.job_id.encode(),
            "report.json": encode_document(report.as_json()),
            "manifest.json": encode_document(self.manifest),
        }
        for name in (name for name, slot in held.items() if slot is None):
            files[isolated_file(name, "decoder.onnx")] = decoder(slots=1, seed=1000 + len(name))
        for name in gone:
            files[forgotten_file(name)] = png(np.full((56, 224), 120, dtype=np.uint8))
        for name in held if job.operation == "forget" else ():
            own = np.frombuffer(sha256(f"{claim.job_id} {name}".encode()).digest(), np.uint8)
            files[before_file(name)] = png(np.resize(own, (28, 224)))
        for name in job.labels if job.operation == "forget" and job.guarantee == "approximate" else ():
            own = np.frombuffer(sha256(f"{claim.job_id} {name}".encode()).digest(), np.uint8)
            files[before_file(name)] = png(np.resize(own, (56, 224)))
        publication = publishing.Publication(
            parent=model.head,
            labels=held,
            origins={name: origin(name, job, known) for name in held},
            files={
                name: {
                    "sha256": self.artifacts.put(data),
                    "bytes": len(data),
                    "media_type": MEDIA_TYPES.get(name.rpartition(".")[2], "application/octet-stream"),
                }
                for name, data in files.items()
            },
            parameters=1_000_000 + number * 10_000,
            widths={"encoder": [512, 256], "decoder": [256, 512]},
            report=report,
            cost=COST,
        )
        with self.database.transaction() as session:
            return publishing.publish(session, claim, publication)

    def refuse(self, claim: Claim) -> None:
        """End the job as the quality gate does: its report is stored, and nothing is published."""
        report = quick_report(["1"], {})
        why = WEAK if self.has_weak_judge else None
        error = {**REFUSAL, "reasons": [one | {"reason": why} for one in REFUSAL["reasons"]]}
        with self.database.transaction() as session:
            reports.record_rejected(session, claim, error, self.store_report("quick", report), COST)

    def measure(self, claim: Claim) -> None:
        """End an evaluate job."""
        with self.database.reading() as session:
            job = jobs.find(session, claim.job_id)
            model = session.get_one(ModelRow, job.model_id)
            version = versions.find_measurable(session, model, job.evaluated_version)
        with self.database.transaction() as session:
            reports.record(
                session, claim, self.store_report("full", full_report(read_report(version.report))), COST
            )

    def store_report(self, level: Level, report: Report) -> MeasuredReport:
        return MeasuredReport(level, self.artifacts.put(encode_document(report.as_json())), report)

    def export(self, export_id: str, *, shards: int | None = None) -> None:
        """Draw shards of an export, or all of them, and then write its manifest."""
        parts = 0
        while parts != shards and (job := self._next_part(export_id)):
            self._export_part(self.claim(job.id))
            parts += 1

    def _next_part(self, export_id: str) -> NextJob | None:
        with self.database.reading() as session:
            return export_parts.find_next(session, export_id)

    def _export_part(self, claim: Claim) -> None:
        with self.database.transaction() as session:
            part = export_parts.read_part(session, claim)
            export_parts.begin(session, claim)
        if part.is_manifest:
            with self.database.transaction() as session:
                content = encode_document(export_parts.describe(session, part.export_id))
                export_parts.note_file(session, claim, Content(content).sha256)
                sha256 = self.artifacts.put(content)
                export_parts.publish_manifest(session, claim, sha256=sha256, size=len(content))
            return
        file = BytesIO()
        drawing = ExportDrawing(self.artifacts, part.plan, part.decoders)
        write_shard(file, part.format, part.plan, part.range, drawing.blocks(part.range))
        content = file.getvalue()
        with self.database.transaction() as session:
            export_parts.note_file(session, claim, Content(content).sha256)
        shard = StoredShard(self.artifacts.put(content), len(content), RENDERING)
        with self.database.transaction() as session:
            export_parts.publish_shard(session, claim, part, shard)

    def work(self, job_id: str) -> VersionRow:
        """Claim a queued job and publish its version."""
        return self.finish(self.claim(job_id))


def origin(name: str, job: JobRow, known: Mapping[str, LabelRow]) -> Origin:
    """Return the origin in the label's row while the model holds it, and that of the job otherwise."""
    if name in known and known[name].status != "forgotten":
        return Origin(known[name].dataset, known[name].renamed_from)
    return Origin(job.dataset, (job.renamed or {}).get(name))


@dataclass
class Served:
    """A running server with its client, settings and stand-in worker."""

    app: FastAPI
    address: str
    http: httpx2.Client
    settings: Settings
    worker: StandInWorker

    def path(self, sha256: str) -> Path:
        """Return the path of an artifact in the artifact folder."""
        return FolderArtifacts(self.settings.artifacts).path(sha256)

    def counts(self) -> dict[str, int]:
        """Return how many rows every table has."""
        with self.worker.database.reading() as session:
            return {
                name: session.scalar(select(func.count()).select_from(table)) or 0
                for name, table in Row.metadata.tables.items()
            }

    def model(self, name: str, **more: Any) -> dict[str, Any]:
        """Return the model of that name; it is created if there is none."""
        answer = self.http.post("/v1/models", json={"name": name, "dataset": "mnist"} | more)
        if answer.status_code == 409:
            answer = self.http.get(f"/v1/models/{name}")
        assert answer.is_success, answer.text
        return dict(answer.json())

    def submit(self, model: str, operation: str, **body: Any) -> dict[str, Any]:
        """Submit a job; it is accepted and stays queued."""
        answer = self.http.post(f"/v1/models/{model}/{operation}", json=body)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def sweep(self) -> None:
        """Run the sweeper once; beside a real server it runs twice a second."""
        sweeper.sweep(self.worker.database, self.settings)

    def done(self, model: str, operation: str, **body: Any) -> VersionRow:
        """Submit a job and run it; returns the version it published."""
        return self.worker.work(self.submit(model, operation, **body)["id"])


@contextmanager
def serving(settings: Settings, *, offered: Catalog = CATALOG) -> Iterator[Served]:
    """Serve a deployment with these settings and this catalog on a free port, until the block ends."""
    database = Database(settings.database_url)
    upgrade(database)
    make_signing_key(database, settings)  # as at the start of the service
    app = create_app(settings, offered=offered)
    hooks = {"response": [check_documented]}
    with listening(app) as address, httpx2.Client(base_url=address, timeout=30, event_hooks=hooks) as http:
        worker = StandInWorker(database, open_artifacts(settings))
        yield Served(app, address, http, settings, worker)
    database.dispose()


@contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve the application with uvicorn in a thread of this process, on a free port unless one is given."""
    config = server_config(app, app.state.context.settings, host="127.0.0.1", port=port, log_level="warning")
    server = Server(config)
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
