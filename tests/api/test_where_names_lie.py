"""Every place where the name of a label lies is a store that the receipts list, and no log has it."""

import base64
import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from sqlalchemy import update

from service.process.webhooks import deliver
from service.registry import claims, job_events
from service.registry.database import from_now
from service.registry.tables import JobRow
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.requests.archives import as_npz

NAME = "Quokka-77"
ZIP = {"Content-Type": "application/zip"}

DATABASE = "database"
STORE_OF_COLUMN = {
    "audit_log.details": "audit log",
    "dataset_deletions.labels": DATABASE,
    "datasets.deleted_labels": DATABASE,
    "datasets.images": DATABASE,
    "datasets.label_digests": DATABASE,
    "datasets.warnings": DATABASE,
    "image_erasures.datasets": DATABASE,
    "image_erasures.labels": DATABASE,
    "job_events.data": "job events",
    "jobs.already_forgotten": DATABASE,
    "jobs.elsewhere": DATABASE,
    "jobs.error": DATABASE,
    "jobs.labels": DATABASE,
    "jobs.renamed": DATABASE,
    "labels.name": DATABASE,
    "labels.renamed_from": DATABASE,
    "model_deletions.envelope": DATABASE,
    "model_deletions.keys": DATABASE,
    "purges.keys": DATABASE,
    "purges.kept": DATABASE,
    "receipts.envelope": DATABASE,
    "reports.report": "full reports",
    "samples.labels": "recorded samples",
    "versions.files": DATABASE,
    "versions.labels": DATABASE,
    "versions.report": "reports and manifests",
    "webhook_deliveries.data": "webhook messages",
}
STORE_OF_FILE = {"artifacts": "reports and manifests", "erasures.jsonl": "erasure log"}
"""By the first part of a path in the home folder. The files of the database are searched by column."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(Settings(home=tmp_path, webhooks_to_private_addresses=True)) as served:
        yield served


def stores_of(served: Served, path: str) -> set[str]:
    """The stores in the receipt at that address."""
    envelope = served.http.get(path).json()
    predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    listed = predicate["stores"] if "stores" in predicate else predicate["erasure"]  # of a model
    return {one["store"] for one in listed}


def columns_with(database: Path, text: str) -> set[str]:
    """Every column that has the text in some row. Receipts are decoded."""
    found = set()
    with sqlite3.connect(database) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            for row in cursor:
                found |= {
                    f"{table}.{name}"
                    for name, value in zip(names, row, strict=True)
                    if text in _readable(name, value)
                }
    return found


def _readable(column: str, value: Any) -> str:
    if column == "envelope" and value is not None:
        return base64.b64decode(json.loads(value)["payload"]).decode()
    return str(value)


def files_with(home: Path, text: str) -> set[str]:
    """The first parts of the paths of files that have the text, in their names or in their bytes."""
    files = [path for path in home.rglob("*") if path.is_file() and not path.name.startswith("palimpsest.db")]
    return {
        path.relative_to(home).parts[0]
        for path in files
        if text.encode() in path.read_bytes() or text in str(path)
    }


def use_in_every_way(served: Served) -> tuple[str, str]:
    """Let the name pass through all that takes one. Return the addresses of the receipts of that."""
    labels = (NAME, f"{NAME} for a while", "b")
    images = {name: np.full((6, 28, 28), at, dtype=np.uint8) for at, name in enumerate(labels)}
    for dataset in ("mine", "other"):
        assert served.http.put(f"/v1/datasets/{dataset}", content=as_npz(images), headers=ZIP).is_success
    hook = {"url": "http://127.0.0.1:9/", "types": ["label.forgotten"]}
    assert served.http.post("/v1/webhooks", json=hook).status_code == 201
    deleted = served.model("n", dataset="mine")
    served.done("n", "learn", labels=[NAME], retention="temporary", **{"as": {NAME: f"{NAME} too"}})
    served.model("m", dataset="mine")
    served.done("m", "learn", labels=[NAME, "b"])
    assert served.http.post("/v1/models/m/samples", json={"labels": [NAME], "count": 1}).is_success
    expiring = served.done("m", "learn", labels=[labels[1]], retention="temporary", expires_in=60).job_id
    fail_as_a_worker_does(served, served.submit("m", "resize", policy="prune")["id"])
    forgot = served.submit("m", "forget", labels=[NAME], purge=True, also={"datasets": True})["id"]
    served.worker.work(forgot)
    evaluated = served.submit("m", "evaluate")
    served.worker.measure(served.worker.claim(evaluated["id"]))
    again = {"Idempotency-Key": "forget"}
    for _ in range(2):
        answer = served.http.post("/v1/models/m/forget", json={"labels": [NAME, "b"]}, headers=again)
        assert answer.json()["already_forgotten"] == {NAME: forgot}
    with served.worker.database.transaction() as session:
        old = {"finished_at": from_now(-99), "created_at": from_now(-99)}
        session.execute(update(JobRow).where(JobRow.id == expiring).values(old))
        session.execute(update(JobRow).where(JobRow.state == "queued").values(cancel_requested=True))
    served.sweep()
    assert served.http.delete("/v1/models/n?purge=true").status_code == 202
    path = f"/v1/datasets/other/labels/{quote(NAME)}"
    assert served.http.delete(path, headers={"Idempotency-Key": "delete"}).status_code == 204
    served.sweep()
    deliver(served.worker.database, served.settings)
    return f"/v1/jobs/{forgot}/receipt", f"/v1/models/{deleted['id']}/deletion/receipt"


def fail_as_a_worker_does(served: Served, job_id: str) -> None:
    """End the job with an error and an event that name the label."""
    claim = served.worker.claim(job_id)
    message = f"the dataset has no images of {NAME}"
    error = {"type": "user", "code": "source_unavailable", "message": message, "retryable": False}
    with served.worker.database.transaction() as session:
        job_events.add_log(session, job_id, message)
        claims.finish_failed(session, claim, error)


def test_a_labels_name_lies_only_where_the_receipts_say_and_in_no_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """A new column or file with a name needs a store, so that no receipt leaves it out."""
    caplog.set_level(logging.DEBUG, logger="service")
    of_forget, of_model = use_in_every_way(served)
    home = served.settings.home
    assert columns_with(home / "palimpsest.db", NAME) == set(STORE_OF_COLUMN)
    assert files_with(home, NAME) == set(STORE_OF_FILE)
    assert caplog.records
    assert [line for line in caplog.messages if NAME in line] == []
    of_names = {*STORE_OF_COLUMN.values(), *STORE_OF_FILE.values()}
    assert of_names - stores_of(served, of_forget) == set()
    of_versions = {"reports and manifests", "full reports"}  # a deleted model has none of them any more
    assert of_names - of_versions - stores_of(served, of_model) == set()
