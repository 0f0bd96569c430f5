"""A process that is killed between a forget and the deletion of its images deletes them all the same."""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np

from service.registry.artifacts import FolderArtifacts
from service.registry.tables import DatasetDeletionRow, DatasetRow, ImageErasureRow, ReceiptRow
from tests import invariants
from tests.faults.failing import Failpoints
from tests.instance import Instance, wait_for
from tests.requests.archives import as_npz

KILLED = 137
LABELS = ("a", "b")
POINTS = ("images.before_replace", "artifact.write", "images.after_replace", "images.after_delete")


def upload(instance: Instance) -> None:
    rng = np.random.default_rng(7)
    images = {label: rng.integers(0, 256, (20, 28, 28), dtype=np.uint8) for label in LABELS}
    headers = {"Content-Type": "application/zip"}
    answer = httpx2.put(f"{instance.url}/v1/datasets/doodles", content=as_npz(images), headers=headers)
    assert answer.status_code == 201, answer.text


def dataset(instance: Instance) -> DatasetRow:
    with instance.database.reading() as session:
        return session.query(DatasetRow).one()


def erasure_of(instance: Instance, job_id: str) -> tuple[str, str, bool]:
    """Return the states of the job's erasure and of its deletion, and whether its receipt is signed."""
    with instance.database.reading() as session:
        deletion = session.query(DatasetDeletionRow).filter_by(job_id=job_id).one()
        receipt = session.get_one(ReceiptRow, job_id)
        erasure = session.get_one(ImageErasureRow, job_id)
        return erasure.state, deletion.state, receipt.envelope is not None


def learn_two_labels(instance: Instance) -> str:
    """Learn both labels of the upload; return the sha256 of its file."""
    instance.create()
    upload(instance)
    instance.succeeded(instance.submit("learn", labels=list(LABELS), dataset="doodles"))
    return dataset(instance).sha256


def sweep_once(instance: Instance, points: Failpoints) -> int:
    """Run `palimpsest sweep --once`; return its exit code."""
    command = [sys.executable, "-m", "commands", "sweep", "--once"]
    environment = {**os.environ, **instance.deployment.as_environment(), **points.environment}
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


def test_a_deletion_of_images_interrupted_at_any_point_is_finished_by_a_later_sweep(
    instance: Instance, tmp_path: Path
) -> None:
    instance.up("serve", PALIMPSEST_SWEEP_SECONDS="3600")
    instance.run("worker")
    old = learn_two_labels(instance)
    job_id = instance.submit("forget", labels=["a"], also={"datasets": True})
    instance.succeeded(job_id)
    assert dict(dataset(instance).images) == {"b": 20}
    points = Failpoints(tmp_path, dict.fromkeys(POINTS, "exit"))
    artifacts = FolderArtifacts(instance.deployment.artifacts)
    found = []
    for name in POINTS:
        points.arm(name)
        code = sweep_once(instance, points)
        found.append((name, code, *erasure_of(instance, job_id), artifacts.exists(old)))
    assert found == [
        ("images.before_replace", KILLED, "pending", "requested", False, True),
        ("artifact.write", KILLED, "pending", "requested", False, True),
        ("images.after_replace", KILLED, "pending", "pending", False, True),
        ("images.after_delete", KILLED, "pending", "pending", False, False),
    ]
    assert sweep_once(instance, points) == 0
    assert erasure_of(instance, job_id) == ("done", "done", True)
    assert len(artifacts.read(dataset(instance).sha256)) == 20 * 784
    invariants.check(instance.deployment, instance.database, ended=True)


def test_a_service_that_is_killed_after_the_publication_deletes_the_images_after_its_next_start(
    instance: Instance, tmp_path: Path
) -> None:
    points = Failpoints(tmp_path, {"images.before_replace": "kill"})
    process = instance.up(**points.environment)
    old = learn_two_labels(instance)
    points.arm("images.before_replace")
    job_id = instance.submit("forget", labels=["a"], also={"datasets": True})
    points.wait_until_reached("images.before_replace")
    process.wait(30)
    artifacts = FolderArtifacts(instance.deployment.artifacts)
    assert artifacts.exists(old)
    instance.up()
    wait_for("the images are deleted", lambda: erasure_of(instance, job_id) == ("done", "done", True))
    assert not artifacts.exists(old)
