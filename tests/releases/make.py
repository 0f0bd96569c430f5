"""Write the fixture of this release: a home folder, its database on each backing, and what is in them.

    python -m tests.releases.make FOLDER

Needs PostgreSQL on 127.0.0.1 and pg_dump. The rows come from real `palimpsest` processes on SQLite: some end
their work, some are killed in the middle of it. They are then copied to PostgreSQL, table by table; the
artifacts serve both. Written are

    home.tar.xz             palimpsest.db, artifacts/, judges/, and keys/, which sign for nothing else
    postgresql.sql.xz       the same rows, as pg_dump writes them
    expected.json           what a later release has to find in them, and how the unfinished jobs must end

A release is written once, by its own code, before its schema changes. The networks are as small as they get.
"""

import json
import lzma
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import select, text

from migrations import upgrade
from service.registry.database import Database
from service.registry.tables import JobRow, Row
from service.settings import Settings
from tests.conftest import new_postgresql_database
from tests.instance import Instance, instance_of, schedule, stop, wait_for
from tests.jobs.worker_contexts import BRIEF_EVALUATION
from tests.requests.archives import as_npz, doodles

HOME, DUMP, EXPECTED = "home.tar.xz", "postgresql.sql.xz", "expected.json"
KEPT = ("palimpsest.db", "artifacts", "judges", "keys")
"""What of a home is kept. Its lock and its queue matter to running processes alone."""

NETWORK = {"encoder_widths": [2], "decoder_widths": [2], "latent": 2}
TEMPORARY: dict[str, Any] = {**schedule(5), "encoder_widths": [1], "decoder_widths": [1]}
"""Params of a temporary label's own network."""
FORGETTING: dict[str, Any] = {**schedule(5), "naive_steps": 3}
LONG = 300
"""Steps that last long enough for their worker to be killed; who runs the job again takes them all."""
ENDLESS = 100_000
UNSWEPT = {"sweep_seconds": 3600.0, "lease_seconds": 1.0}
"""No sweep but the one at the start; and progress in the row every quarter of a second."""

JOB_SECONDS = 180.0
"""The first full report trains a classifier, which then lies in judges/."""

IMAGES = (
    ("changes", 6, "0", 1),
    ("changes", 7, "2", 7),
    ("changes", 8, "3", 2),
    ("changes", 9, "5", 3),
    ("doodles", 1, "ring", 4),
    ("purging", 2, "6", 5),
)
"""(model, version, label, seed) of pictures that every later release draws the same: versions after a forget,
a relearn, a resize and a temporary learn (from its own network), of an upload, and after a purge."""


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        home = folder / "home"
        expected = lived(Settings(home=home, port=0), folder)
        for name in set(os.listdir(home)) - set(KEPT):
            path = home / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (target / EXPECTED).write_text(json.dumps(expected, indent=1) + "\n")
        (target / DUMP).write_bytes(
            lzma.compress(dump_of(home / "palimpsest.db"), preset=9 | lzma.PRESET_EXTREME)
        )
        pack(home, target / HOME)
    for file in sorted(target.iterdir()):
        sys.stdout.write(f"{file.stat().st_size:>9,} bytes  {file}\n")


def lived(deployment: Settings, folder: Path) -> dict[str, Any]:
    """Run this release until there is a row of every kind, and say what they are."""
    with instance_of(deployment, folder) as instance:
        supervisor = instance.up()
        finish_jobs(instance)
        finished = answers(instance)
        assert stop(supervisor) == 0

        instance.deployment = deployment.model_copy(update=UNSWEPT)
        server = instance.up("serve")
        leave_purges_and_receipts(instance)
        ends = leave_jobs(instance)
        assert stop(server) == 0
    with closing(sqlite3.connect(deployment.home / "palimpsest.db")) as database:
        busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert not busy, "every row is in palimpsest.db itself"
        database.row_factory = sqlite3.Row
        return {**rows(database, ends), **finished}


def finish_jobs(instance: Instance) -> None:
    """Everything that comes to an end while a worker and a sweeper run."""

    def done(operation: str, model: str, **body: Any) -> str:
        body.setdefault("params", FORGETTING if operation == "forget" else schedule(5))
        return instance.succeeded(instance.submit(operation, model, **body), JOB_SECONDS).id

    create(instance, "changes")
    done("learn", "changes", labels=["0", "1", "2"])
    done("learn", "changes", labels=["3"], retention="temporary", params=TEMPORARY)
    done("learn", "changes", labels=["3"])  # merges it
    done("learn", "changes", labels=["4"], **{"as": {"4": "four"}}, retention="temporary", params=TEMPORARY)
    done("forget", "changes", labels=["four"], params={})  # drops its network
    done("forget", "changes", labels=["2"])  # by the default strategy; revokes what holds it
    done("learn", "changes", labels=["2"])  # its second generation
    done("resize", "changes", policy="prune", params={"share": 0.5, **schedule(5)})
    done("learn", "changes", labels=["5"], retention="temporary", params=TEMPORARY)
    done("evaluate", "changes", params=BRIEF_EVALUATION, version=6)
    for version, label in ((6, "1"), (9, "5")):
        sample(instance, "changes", version=version, labels=["0", label], count=2, seed=11)

    create(instance, "purging")
    done("learn", "purging", labels=["5", "6", "7"])
    bounds = {"forgotten_accuracy_max": 1.0}
    forgot = done("forget", "purging", labels=["7"], purge=True, acceptance=bounds)
    wait_for("the purge is done", lambda: get(instance, f"/v1/jobs/{forgot}")["purge"]["state"] == "done")
    done("learn", "purging", labels=["8"], **{"as": {"8": "eight"}})

    create(instance, "strict", acceptance={"retained_accuracy_min": 1.0})
    done("learn", "strict", labels=["0"], acceptance={"retained_accuracy_min": 0.0})
    refused = instance.wait_until_done(instance.submit("learn", "strict", labels=["1"]), JOB_SECONDS)
    assert refused.state == "rejected", refused.error

    upload = httpx2.put(
        f"{instance.url}/v1/datasets/doodles",
        content=as_npz(doodles()),
        headers={"Content-Type": "application/zip"},
    )
    assert upload.status_code == 201, upload.text
    create(instance, "doodles", dataset="doodles")
    done("learn", "doodles", labels=["bar", "ring"])

    create(instance, "without-a-version")
    for model in ("failing", "waiting", "interrupted"):
        create(instance, model)
        done("learn", model, labels=["0", "1"])
    wait_for("every receipt is signed", lambda: all(receipt(instance, job) for job in forgets(instance)))


def leave_purges_and_receipts(instance: Instance) -> None:
    """What a sweeper has still to do, for none comes; a job that fails, and one cancelled in the queue."""
    cancelled = instance.submit("learn", "failing", labels=["2"])
    failing = instance.submit("forget", "failing", labels=["2"], params=FORGETTING)
    instance.request("POST", f"/v1/jobs/{cancelled}/cancel", status=202)
    worker = instance.run("worker")
    assert instance.wait_until_done(failing).state == "failed", "the label it was to forget was never learnt"

    create(instance, "unsigned")
    instance.succeeded(instance.submit("learn", "unsigned", labels=["0", "1"]))
    instance.succeeded(instance.submit("forget", "unsigned", labels=["1"], params=FORGETTING))

    create(instance, "unpurged")
    instance.succeeded(instance.submit("learn", "unpurged", labels=["0", "1", "2"]))
    instance.succeeded(instance.submit("forget", "unpurged", labels=["1"], purge=True, params=FORGETTING))
    later = instance.submit("forget", "unpurged", labels=["2"], params=FORGETTING)
    instance.succeeded(later)
    body = {"labels": ["2"], "purge": True}
    again = instance.request("POST", "/v1/models/unpurged/forget", body, status=200)
    assert (again["id"], again["purge"]["state"]) == (later, "requested")
    assert stop(worker) == 0


def leave_jobs(instance: Instance) -> dict[str, dict[str, str]]:
    """Jobs in every state but the last ones: how each must end once a worker runs again."""
    ends: dict[str, dict[str, str]] = {}

    running = instance.submit("learn", "interrupted", labels=["2"], steps=LONG)
    killed_while(instance, running, in_training)
    ends[running] = {"state": "succeeded"}

    create(instance, "measured")
    being_judged = instance.submit("learn", "measured", labels=["0", "1"])
    killed_while(instance, being_judged, lambda job: job.state == "verifying")
    ends[being_judged] = {"state": "succeeded"}

    create(instance, "cancelling")
    cancelling = instance.submit("learn", "cancelling", labels=["0"], steps=ENDLESS)
    killed_while(instance, cancelling, in_training)
    instance.request("POST", f"/v1/jobs/{cancelling}/cancel", status=202)
    ends[cancelling] = {"state": "cancelled"}

    head = get(instance, "/v1/models/waiting")["head"]
    queued: list[tuple[str, str, dict[str, Any]]] = [
        ("learn", "waiting", {"labels": ["2"], "as": {"2": "two"}, "params": schedule(5)}),
        ("forget", "waiting", {"labels": ["1"], "purge": True, "params": FORGETTING}),
        ("resize", "waiting", {"policy": "expand", "params": {"share": 0.5, "fisher_examples": 50}}),
        ("evaluate", "strict", {"version": 1, "params": BRIEF_EVALUATION, "seed": 1}),
    ]
    for operation, model, body in queued:
        ends[instance.submit(operation, model, **body)] = {"state": "succeeded"}
    outdated = instance.submit("learn", "waiting", labels=["3"], base_version=head)
    ends[outdated] = {"state": "failed", "code": "stale_base"}  # the three before it move the head
    return ends


def killed_while(instance: Instance, job_id: str, condition: Callable[[JobRow], object]) -> None:
    """Start a worker, and kill it as soon as the job is so."""
    worker = instance.run("worker")
    instance.wait_until(job_id, condition)
    assert stop(worker, signal.SIGKILL) == -signal.SIGKILL


def in_training(job: JobRow) -> bool:
    progress = job.progress or {}
    return job.state == "running" and progress.get("phase") == "learning" and progress["step"] > 0


def create(instance: Instance, name: str, **more: Any) -> None:
    body = {"name": name, "dataset": "digits", "seed": 3, "network": NETWORK, **more}
    instance.request("POST", "/v1/models", body, status=201)


def sample(instance: Instance, model: str, **body: Any) -> None:
    httpx2.post(f"{instance.url}/v1/models/{model}/samples", json=body).raise_for_status()


def get(instance: Instance, path: str) -> Any:
    return instance.request("GET", path, status=200)


def forgets(instance: Instance) -> list[str]:
    listed = get(instance, "/v1/jobs?state=succeeded&limit=100")["data"]
    return [job["id"] for job in listed if job["operation"] == "forget"]


def receipt(instance: Instance, job_id: str) -> str | None:
    """The bytes of a receipt that is signed, as its row keeps them; asking the API would sign it."""
    with instance.database.reading() as session:
        query = text("SELECT envelope FROM receipts WHERE job_id = :job")
        envelope: str | None = session.execute(query, {"job": job_id}).scalar_one()
    return envelope


def answers(instance: Instance) -> dict[str, Any]:
    """What this release itself answers, by path: the sha256 of pictures, and of receipts and job reports."""

    def fetched(path: str) -> str:
        return digest(httpx2.get(instance.url + path).raise_for_status().content)

    images = [
        f"/v1/models/{model}/versions/{n}/images/{label}/{seed}.png" for model, n, label, seed in IMAGES
    ]
    with instance.database.reading() as session:
        samples = session.scalars(text("SELECT id FROM samples ORDER BY id")).all()
        measured = session.scalars(text("SELECT job_id FROM reports ORDER BY job_id")).all()
    return {
        "images": {path: fetched(path) for path in images},
        "samples": {path: fetched(path) for path in (f"/v1/samples/{one}/images" for one in samples)},
        "receipts": {job: fetched(f"/v1/jobs/{job}/receipt") for job in sorted(forgets(instance))},
        "reports": {job: fetched(f"/v1/jobs/{job}/report") for job in measured},
    }


def rows(database: sqlite3.Connection, ends: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What is in the database, and how its unfinished jobs must end."""
    ask = database.execute
    [revision] = ask("SELECT version_num FROM alembic_version").fetchone()
    jobs = ask("SELECT id, state, operation, strategy, output_version FROM jobs ORDER BY sequence").fetchall()
    unfinished = {job["id"] for job in jobs if job["state"] in ("queued", "running", "verifying")}
    assert unfinished == set(ends), "it is known how every one of them must end"
    labels = ask("SELECT model_id, name, status, generation FROM labels ORDER BY model_id, name").fetchall()
    versions = ask("SELECT * FROM versions ORDER BY model_id, number").fetchall()
    return {
        "release": tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"],
        "revision": revision,
        "models": {
            model["id"]: {
                "name": model["name"],
                "head": model["head"],
                "labels": {
                    label["name"]: {"status": label["status"], "generation": label["generation"]}
                    for label in labels
                    if label["model_id"] == model["id"]
                },
            }
            for model in ask("SELECT * FROM models ORDER BY id")
        },
        "jobs": {job["id"]: {key: job[key] for key in job.keys() if key != "id"} for job in jobs},  # noqa: SIM118
        "ends": ends,
        "versions": [
            {
                "model": version["model_id"],
                "number": version["number"],
                "revoked": version["revoked_by"] is not None,
                "purged": version["purged_by"] is not None,
                "files": {name: file["sha256"] for name, file in json.loads(version["files"]).items()},
            }
            for version in versions
        ],
        "purges": dict(pairs(ask("SELECT job_id, state FROM purges ORDER BY job_id"))),
        "unsigned": [
            one for (one,) in ask("SELECT job_id FROM receipts WHERE envelope IS NULL ORDER BY job_id")
        ],
        "datasets": dict(pairs(ask("SELECT name, sha256 FROM datasets ORDER BY name"))),
    }


def pairs(found: Iterable[sqlite3.Row]) -> Iterable[tuple[str, str]]:
    return ((one, other) for one, other in found)


def dump_of(file: Path) -> bytes:
    """The rows of that SQLite database in a PostgreSQL one that this release migrated, as SQL."""
    with new_postgresql_database() as url:
        source, target = Database(f"sqlite:///{file}"), Database(url.replace("://", "+psycopg://"))
        upgrade(target)
        with source.reading() as reading, target.transaction() as writing:
            for table in Row.metadata.sorted_tables:
                query = select(table).order_by(*table.primary_key)  # ids grow: parents come first
                if found := [dict(row) for row in reading.execute(query).mappings()]:
                    writing.execute(table.insert(), found)
            writing.execute(
                text("SELECT setval(pg_get_serial_sequence('jobs', 'sequence'), max(sequence)) FROM jobs")
            )
        source.dispose()
        target.dispose()
        command = ["pg_dump", "--inserts", "--no-owner", url]
        dumped = subprocess.run(command, capture_output=True, check=True).stdout
    # Newer releases of pg_dump begin and end with a command of psql, which is no SQL.
    lines = dumped.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith((b"\\restrict ", b"\\unrestrict ")))


def pack(home: Path, archive: Path) -> None:
    """The folder's content, without names and times of the machine it was made on."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(home.iterdir()):
            tar.add(path, path.name, filter=anonymous)


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


if __name__ == "__main__":
    main()
