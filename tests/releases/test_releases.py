"""What an earlier release wrote, this one migrates, keeps and finishes: on each backing, with real processes.

Each folder beside this file is a release, as make.py wrote it with that release's own code. Rows are asked
for by the names of their tables, and everything else over HTTP, as clients do.
"""

import io
import json
import lzma
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from PIL import Image
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from migrations import find_differences, upgrade
from reports import FORMAT, read_report
from service.receipts import verification
from service.receipts.issuing import build_statement
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.tables import PurgeRow, ReceiptRow, Row, VersionRow
from service.settings import Settings
from tests.conftest import BACKINGS, new_postgresql_database, own_broker, own_database
from tests.instance import instance_of, wait_for

HOME, DUMP, EXPECTED = "home.tar.xz", "postgresql.sql.xz", "expected.json"
RELEASES = sorted(file.parent for file in Path(__file__).parent.glob(f"*/{EXPECTED}"))
PATIENCE_SECONDS = 120.0
RENAMED_PURGE_STATES = {"asked": "requested"}
"""{as release 0.1.0 wrote it: its name now}."""
CAST = re.compile(r"::(character varying|text)(\[\])?|[()]")
"""What PostgreSQL writes in another way in a condition that was dumped and read again."""


class Restored:
    """One earlier release's home and database, as it left them; nothing is migrated and nothing runs."""

    def __init__(self, release: Path, deployment: Settings) -> None:
        self.deployment = deployment
        self.expected: dict[str, Any] = json.loads((release / EXPECTED).read_text())

    @property
    def public_key(self) -> Path:
        return self.deployment.keys / "signing.pub.pem"


@pytest.fixture(params=RELEASES, ids=lambda release: release.name)
def release(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.param
    return folder


@pytest.fixture(params=BACKINGS)
def restored(request: pytest.FixtureRequest, release: Path, tmp_path: Path) -> Iterator[Restored]:
    database, broker = request.param.split("+")
    home = tmp_path / "home"
    with tarfile.open(release / HOME) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in Python 3.11.2
        archive.extractall(home)
    with _database(database, release, home) as url, own_broker(broker, tmp_path) as broker_url:
        yield Restored(release, Settings(home=home, database_url=url, broker_url=broker_url, port=0))


@contextmanager
def _database(kind: str, release: Path, home: Path) -> Iterator[str]:
    """The database that came with the home, or the same rows in PostgreSQL."""
    file = home / "palimpsest.db"
    if kind == "sqlite":
        yield f"sqlite:///{file}"
        return
    file.unlink()
    with new_postgresql_database() as url:
        with psycopg.connect(url) as connection:
            connection.execute(lzma.decompress((release / DUMP).read_bytes()))
        yield url


@pytest.fixture
def migrated(restored: Restored) -> Iterator[Database]:
    database = Database(restored.deployment.database_url)
    upgrade(database)
    yield database
    database.dispose()


def test_there_is_a_release_to_migrate_from() -> None:
    assert "0.1.0" in [release.name for release in RELEASES]


def test_every_row_of_the_release_is_there_with_its_state(restored: Restored, migrated: Database) -> None:
    expected = restored.expected

    def found(query: str) -> list[tuple[Any, ...]]:
        with migrated.reading() as session:
            return [tuple(row) for row in session.execute(text(query))]

    jobs = found("SELECT id, state, operation, strategy, output_version FROM jobs ORDER BY sequence")
    assert jobs == [(job_id, *job.values()) for job_id, job in expected["jobs"].items()]
    assert found("SELECT id, name, head FROM models ORDER BY id") == [
        (model_id, model["name"], model["head"]) for model_id, model in expected["models"].items()
    ]
    assert sorted(found("SELECT model_id, name, status, generation FROM labels")) == sorted(
        (model_id, name, *label.values())
        for model_id, model in expected["models"].items()
        for name, label in model["labels"].items()
    )
    versions = found("SELECT model_id, number, revoked_by, purged_by FROM versions ORDER BY model_id, number")
    assert [(*key, revoked is not None, purged is not None) for *key, revoked, purged in versions] == [
        (one["model"], one["number"], one["revoked"], one["purged"]) for one in expected["versions"]
    ]
    assert dict(found("SELECT job_id, state FROM purges")) == {
        job_id: RENAMED_PURGE_STATES.get(state, state) for job_id, state in expected["purges"].items()
    }
    assert dict(found("SELECT name, sha256 FROM datasets")) == expected["datasets"]
    receipts = dict(found("SELECT job_id, envelope FROM receipts"))
    signed = {job: receipt for job, receipt in receipts.items() if receipt is not None}
    assert sorted(receipts.keys() - signed.keys()) == expected["unsigned"]
    assert {job: digest(receipt.encode()) for job, receipt in signed.items()} == expected["receipts"]


def test_the_migrated_database_has_the_schema_of_this_release_and_its_constraints_hold(
    restored: Restored, migrated: Database, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kind = "sqlite" if migrated.is_sqlite else "postgresql"
    (tmp_path / "declared").mkdir()
    with own_database(kind, tmp_path / "declared", request) as url:
        declared = Database(url)
        Row.metadata.create_all(declared.engine)
        found = find_differences(migrated, declared)
        declared.dispose()
    made, wanted = (
        {CAST.sub("", line.partition(": ")[2]) for line in found if line.startswith(side)}
        for side in ("only in the migrated database", "only in tables")
    )
    assert made == wanted
    with migrated.reading() as session:
        if migrated.is_sqlite:  # the second looks at every NOT NULL and CHECK, too
            assert session.execute(text("PRAGMA foreign_key_check")).all() == []
            assert session.execute(text("PRAGMA integrity_check")).all() == [("ok",)]
        else:
            unchecked = "SELECT conname FROM pg_constraint WHERE NOT convalidated"
            assert session.execute(text(unchecked)).all() == []
    for refused in ("DELETE FROM models", "UPDATE jobs SET state = 'none of these'"):
        with pytest.raises(IntegrityError), migrated.transaction() as session:
            session.execute(text(refused))


def test_migrating_again_changes_nothing(restored: Restored, migrated: Database) -> None:
    once = rows_of(migrated)
    upgrade(migrated)
    assert rows_of(migrated) == once


def test_its_receipts_verify_with_the_key_of_its_home(
    restored: Restored, migrated: Database, tmp_path: Path
) -> None:
    with migrated.reading() as session:
        query = text("SELECT envelope FROM receipts WHERE envelope IS NOT NULL")
        receipts = [receipt.encode() for receipt in session.scalars(query)]
    assert len(receipts) == len(restored.expected["receipts"]) > 0
    key = verification.read_key(restored.public_key)
    predicates = [verification.verify_receipt(receipt, key).forget for receipt in receipts]
    assert {predicate.job for predicate in predicates} == restored.expected["receipts"].keys()
    assert {predicate.guarantee for predicate in predicates} == {"exact", "approximate"}

    file = tmp_path / "receipt.json"
    file.write_bytes(receipts[-1])
    command = [sys.executable, "-m", "commands", "verify", str(file)]
    environment = os.environ | restored.deployment.as_environment()
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("restored", ["sqlite+folder"], indirect=True)
def test_a_receipt_that_is_signed_again_says_whether_its_version_has_fisher_information(
    restored: Restored, migrated: Database
) -> None:
    """What a receipt reads from the manifest is true of the file of the weights."""
    artifacts = FolderArtifacts(restored.deployment.artifacts)
    with migrated.reading() as session:
        receipts = select(ReceiptRow.job_id).where(ReceiptRow.envelope.is_not(None))
        forgets = session.scalars(select(VersionRow).where(VersionRow.job_id.in_(receipts))).all()
        for version in forgets:
            file = artifacts.path(version.files["checkpoint.safetensors"]["sha256"])
            is_stored = b'"fisher/' in file.read_bytes()
            predicate = build_statement(session, artifacts, version.job_id).predicate
            [found] = [one.state for one in predicate.erasure if one.store == "Fisher information"]
            assert version.strategy == "drop" or (found == "stored") == is_stored
    assert {version.strategy for version in forgets} == {"drop", "surrogate"}


@pytest.mark.slow
def test_an_instance_of_this_release_answers_for_it_and_finishes_what_it_began(
    restored: Restored, tmp_path: Path
) -> None:
    expected = restored.expected
    with instance_of(restored.deployment, tmp_path) as instance:
        instance.up()
        with httpx2.Client(base_url=instance.url, timeout=30) as client:
            check_what_is_kept(client, expected)
            for job_id, end in expected["ends"].items():
                job = ended(client, job_id)
                story = f"{job['operation']}: {job['error']}\n{instance.log.read_text()}"
                assert job["state"] == end["state"], story
                assert "code" not in end or job["error"]["code"] == end["code"], story
                if (expected["jobs"][job_id]["state"], end["state"]) == ("running", "succeeded"):
                    assert job["attempt"] == 2, "it was taken over"
            for job_id in expected["purges"]:
                assert purged(client, job_id)["files_deleted"], "something was deleted"
                with instance.database.reading() as session:
                    for file in session.get_one(PurgeRow, job_id).keys:
                        assert not list(restored.deployment.artifacts.rglob(file["sha256"]))
            trusted = verification.read_key(restored.public_key)
            for job_id in expected["unsigned"]:
                verification.verify_receipt(answered(client, f"/v1/jobs/{job_id}/receipt").content, trusted)
            empty = next(model["name"] for model in expected["models"].values() if model["head"] is None)
            assert ended(client, instance.submit("learn", empty, labels=["0"]))["output_version"] == 1


def check_what_is_kept(client: httpx2.Client, expected: dict[str, Any]) -> None:
    """Whether receipts and reports are those the release itself answered, byte for byte, and pictures too.

    A PNG has the same pixels: encoded as the release did, its bytes are the same.
    """
    digests = {
        **expected["images"],
        **expected["samples"],
        **{f"/v1/jobs/{job_id}/receipt": receipt for job_id, receipt in expected["receipts"].items()},
        **{f"/v1/jobs/{job_id}/report": report for job_id, report in expected["reports"].items()},
    }
    answers = {path: answered(client, path).content for path in digests}
    assert {path: digest(encoded_by_pillow(content)) for path, content in answers.items()} == digests
    for version in expected["versions"]:
        address = f"/v1/models/{version['model']}/versions/{version['number']}"
        report = answered(client, f"{address}/report").json()
        assert (report["level"] in ("quick", "full"), report["format"]) == (True, FORMAT)
        assert read_report(report).retained.labels.keys() == report["retained"]["labels"].keys()
        assert "<html" in answered(client, f"{address}/report", accept="text/html").text
        files = answered(client, address).json()["files"]
        named = {name: file["sha256"] for name, file in files.items()}
        assert {"manifest.json", "report.json"} <= named.keys()
        assert named.items() <= version["files"].items(), "a purge may have taken a picture by now, no more"


def answered(client: httpx2.Client, path: str, accept: str = "*/*") -> httpx2.Response:
    response = client.get(path, headers={"Accept": accept})
    assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
    return response


def ended(client: httpx2.Client, job_id: str) -> Any:
    """The job, once it is done."""

    def job() -> Any:
        found = answered(client, f"/v1/jobs/{job_id}").json()
        return found if found["done"] else None

    return wait_for(f"job {job_id} ends", job, PATIENCE_SECONDS)


def purged(client: httpx2.Client, job_id: str) -> Any:
    """What the purge of the job took, once it is done."""

    def purge() -> Any:
        found = answered(client, f"/v1/jobs/{job_id}").json()["purge"]
        return found if found["state"] == "done" else None

    return wait_for(f"the purge of job {job_id} is done", purge, PATIENCE_SECONDS)


def rows_of(database: Database) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    if database.is_sqlite:
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    else:
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"
    with database.reading() as session:
        return {
            table: sorted(str(row) for row in session.execute(text(f'SELECT * FROM "{table}"')))
            for table in session.scalars(text(tables)).all()
        }


def encoded_by_pillow(content: bytes) -> bytes:
    """Return a PNG file with the same pixels, encoded as release 0.1.0 did; anything else as it is."""
    if not content.startswith(b"\x89PNG"):
        return content
    file = io.BytesIO()
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        image.save(file, format="PNG")
    return file.getvalue()


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()
