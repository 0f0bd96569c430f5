"""Jobs, workers, readers and the deletion of files that meet at the same moment do each other no harm."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx2
import pytest
from sqlalchemy import select

from service.process import collector
from service.queue.messages import wake_worker
from service.registry import artifact_references, publishing, store_identity
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.tables import PurgeRow
from service.settings import Settings
from tests import invariants
from tests.instance import Instance, wait_for
from tests.registries import Registry, publication
from worker.jobs.version_files import File, store, store_again


def test_two_workers_run_the_jobs_of_one_model_one_after_the_other(instance: Instance) -> None:
    instance.up()
    instance.run("worker")
    model_id = instance.create()
    accepted = [instance.submit("learn", labels=[label], steps=20) for label in "0123"]
    for job_id in accepted * 5:
        wake_worker(job_id, instance.deployment)
    assert [instance.succeeded(job_id).attempt for job_id in accepted] == [1] * 4
    assert [version.job_id for version in instance.versions(model_id)] == accepted
    invariants.check(instance.deployment, instance.database, ended=True)


def test_a_label_forgotten_while_the_model_learns_is_in_no_later_version(instance: Instance) -> None:
    """The forget is accepted while the label is being learned, and a learn job waits behind it."""
    instance.up()
    model_id = instance.create()
    learning = instance.submit("learn", labels=["0", "1"], steps=2000)
    instance.worker_in_training(learning)
    forgetting = instance.submit("forget", labels=["1"])
    after = instance.submit("learn", labels=["2"])
    for job_id in (learning, forgetting, after):
        instance.succeeded(job_id)
    assert [sorted(version.labels) for version in instance.versions(model_id)] == [
        ["0", "1"],
        ["0"],
        ["0", "2"],
    ]
    assert invariants.find_drawable(instance.url, instance.database) == []
    invariants.check(instance.deployment, instance.database)


@pytest.mark.parametrize("deployment", ["sqlite+folder"], indirect=True)
def test_images_drawn_while_their_version_is_purged_are_whole_or_refused(instance: Instance) -> None:
    instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    request = {"labels": ["0"], "count": 20, "seed": 1, "version": 1, "format": "npz"}
    path, forgetting = f"{instance.url}/v1/models/m/samples", Event()

    def draw(_: int) -> list[httpx2.Response]:
        answers: list[httpx2.Response] = []
        while not forgetting.is_set() or not answers:
            answers.append(httpx2.post(path, json=request, timeout=60))
        return [*answers, httpx2.post(path, json=request, timeout=60)]

    with ThreadPoolExecutor(8) as pool:
        drawing = pool.map(draw, range(8))
        try:
            job = instance.succeeded(instance.submit("forget", labels=["1"], purge=True))
            wait_for("the purge is done", lambda: purge_state(instance, job.id) == "done", 60)
        finally:
            forgetting.set()
        answers = [answer for each in drawing for answer in each]
    assert {answer.status_code for answer in answers} <= {200, 410, 429}
    assert answers[-1].status_code == 410
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1


def purge_state(instance: Instance, job_id: str) -> str | None:
    with instance.database.reading() as session:
        return session.scalar(select(PurgeRow.state).where(PurgeRow.job_id == job_id))


def test_a_collection_of_unused_files_deletes_none_that_a_job_is_publishing(
    database: Database,
    new_model: Callable[[str], Registry],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fifty jobs publish the same bytes, while files of any age are collected again and again."""
    monkeypatch.setattr(artifact_references, "MINIMUM_AGE_SECONDS", 0.0)
    deployment = Settings(home=tmp_path)
    artifacts = FolderArtifacts(deployment.artifacts)
    files = {
        name: File(name.encode(), "application/octet-stream")
        for name in ("checkpoint.safetensors", "decoder.onnx", "report.json", "manifest.json")
    }
    store_identity.claim_store(database, artifacts)
    over = Event()

    def publish(registry: Registry) -> None:
        for number in range(25):
            claim = registry.claim(registry.submit("learn", str(number)))
            entries = store(files, artifacts)
            with database.transaction() as session:
                store_again(session, files, artifacts)
                made = publication(session, claim)
                publishing.publish(session, claim, type(made)(**{**vars(made), "files": entries}))

    def collect() -> int:
        deleted = 0
        while not over.is_set():
            artifacts.put(b"a file that no row refers to")
            deleted += collector.collect(database, deployment).artifacts
        return deleted

    with ThreadPoolExecutor(3) as pool:
        collecting = pool.submit(collect)
        publishing_all = [pool.submit(publish, new_model(name)) for name in "ab"]
        try:
            for each in publishing_all:
                each.result()
        finally:
            over.set()
        assert collecting.result() > 0
    invariants.check(deployment, database, ended=True)
