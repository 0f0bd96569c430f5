"""An API, a sweeper that signs, and two workers, each with a home of its own: they share no folder."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.registry import snapshots
from service.settings import Settings
from tests import invariants
from tests.conftest import own_broker, own_database
from tests.instance import Instance, instance_of, wait_for
from tests.requests.archives import as_npz
from tests.s3 import S3Server

STEPS = 4000
"""Long enough that a snapshot is saved before the worker is killed."""


@pytest.fixture
def roles(s3: S3Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Settings]]:
    """{role: its settings}."""
    bucket = s3.make_bucket(versioned=True)
    with own_database("postgresql", tmp_path, request) as url, own_broker("redis", tmp_path) as broker:
        yield {
            role: Settings(
                home=tmp_path / role,
                database_url=url,
                broker_url=broker,
                artifacts_url=f"s3://{bucket}/p",
                signer=role == "signer",
                port=0,
            )
            for role in ("api", "signer", "first", "second")
        }


@pytest.fixture
def instance(roles: dict[str, Settings], tmp_path: Path) -> Iterator[Instance]:
    with instance_of(roles["api"], tmp_path) as instance:
        yield instance


def test_they_learn_resume_forget_and_sign_without_one(
    instance: Instance, roles: dict[str, Settings], tmp_path: Path
) -> None:
    def start(command: str, role: str) -> subprocess.Popen[bytes]:
        return instance.run(command, env=roles[role].as_environment())

    instance.up("serve")
    start("sweep", "signer")
    first = start("worker", "first")
    instance.create()
    images = np.arange(40 * 784, dtype=np.uint8).reshape(40, 28, 28)
    archive = {"Content-Type": "application/zip"}
    for label in ("0", "1"):
        instance.succeeded(instance.submit("learn", labels=[label]))
    address = f"{instance.url}/v1/datasets/doodles"
    uploaded = httpx2.put(address, content=as_npz({"doodle": images, "other": 255 - images}), headers=archive)
    assert uploaded.status_code == 201
    instance.succeeded(instance.submit("learn", labels=["doodle"], dataset="doodles"))

    resumed = instance.submit("learn", labels=["2"], steps=STEPS)
    instance.worker_in_training(resumed)
    wait_for("a snapshot is saved", lambda: has_snapshot(instance, resumed))
    first.kill()
    start("worker", "second")
    assert instance.succeeded(resumed).attempt == 2
    assert "resumes from the snapshot" in events(instance, resumed)

    forgotten = instance.submit("forget", labels=["doodle"], purge=True, also={"datasets": True})
    instance.succeeded(forgotten)
    address = f"{instance.url}/v1/jobs/{forgotten}/receipt"
    wait_for("the receipt is signed", lambda: httpx2.get(address).status_code == 200)
    receipt = tmp_path / "receipt.json"
    receipt.write_bytes(httpx2.get(address).content)
    verify = [sys.executable, "-m", "commands", "verify", str(receipt), "--url", instance.url]
    assert subprocess.run(verify, capture_output=True, timeout=60).returncode == 0
    assert httpx2.get(f"{instance.url}/v1/datasets/doodles").json()["labels"] == ["other"]
    invariants.check(roles["signer"], instance.database, ended=True)

    written = {role: {path.name for path in roles[role].home.rglob("*") if path.is_file()} for role in roles}
    assert written.pop("signer") == {"signing.pem", "signing.pub.pem", "erasures.jsonl"}
    assert written == {"api": set(), "first": set(), "second": set()}


def has_snapshot(instance: Instance, job_id: str) -> bool:
    with instance.database.reading() as session:
        return snapshots.find(session, job_id) is not None


def events(instance: Instance, job_id: str) -> str:
    return httpx2.get(f"{instance.url}/v1/jobs/{job_id}/events", timeout=30).text
