"""The file system of the artifacts hangs: whoever opens a file there waits, and nothing fails."""

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.registry.tables import JobRow
from service.settings import Settings
from tests import invariants
from tests.conftest import missing
from tests.instance import Instance, instance_of, stop, wait_for
from tests.requests.archives import as_npz

ANSWER_SECONDS = 2.0
"""How much longer than usual an answer may take. (A busy machine is slow without it.)"""
MNT_DETACH = 2
DOODLES = as_npz({"doodle": np.arange(20 * 784, dtype=np.uint8).reshape(20, 28, 28)})
STALL = {"PALIMPSEST_STALL_SECONDS": "3"}


@contextmanager
def hung_mount(folder: Path) -> Iterator[None]:
    """Mount a file system whose server never answers (FUSE). At the end, those who wait get an error."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        missing(f"/dev/fuse cannot be opened ({error})")
    try:
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        if libc.mount(b"hung", os.fsencode(folder), b"fuse", 0, options) != 0:
            missing(f"FUSE cannot be mounted ({os.strerror(ctypes.get_errno())}); only root may")
        yield
    finally:
        libc.umount2(os.fsencode(folder), MNT_DETACH)
        os.close(device)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with instance_of(Settings(home=tmp_path / "home", port=0), tmp_path) as instance:
        yield instance


def test_the_api_answers_while_the_artifacts_hang(instance: Instance) -> None:
    process = instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    version = f"{instance.url}/v1/models/m/versions/1"
    files = [f"{version}/files/{name}" for name in ("checkpoint.safetensors", "decoder.onnx")] * 10
    images = [f"{version}/images/0/{seed}.png" for seed in range(20)]
    ready = f"{instance.url}/readyz"
    with ThreadPoolExecutor(len(files + images)) as pool:
        usual = list(pool.map(get, [*files, ready]))  # no image: its decoder would stay in memory
        assert {answer.status_code for answer in usual} == {200}
        longest = ANSWER_SECONDS + slowest(usual)
        with hung_mount(instance.deployment.artifacts):
            sent = [pool.submit(get, url) for url in files + images]
            others = [get(f"{instance.url}{path}") for path in ("/livez", "/v1/models/m")]
            is_ready = get(ready)
            submitted = httpx2.post(f"{instance.url}/v1/models/m/learn", json={"labels": ["2"]}, timeout=60)
            uploads = [put(f"{instance.url}/v1/datasets/hung", DOODLES) for _ in range(3)]
            refused = [each.result() for each in sent]
    assert [answer.status_code for answer in others] == [200, 200]
    assert (is_ready.status_code, submitted.status_code) == (503, 202)
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["code"] for answer in refused} == {"artifact_unreadable"}
    assert [answer.status_code for answer in uploads] == [503] * 3
    assert {answer.json()["code"] for answer in uploads} == {"storage_unavailable"}
    assert slowest([*others, is_ready, submitted, *refused, *uploads]) < longest
    instance.request("POST", f"/v1/jobs/{submitted.json()['id']}/cancel", status=202)
    wait_for("images are drawn again", lambda: get(images[0]).status_code == 200)
    wait_for("it is ready", lambda: get(ready).status_code == 200)
    assert put(f"{instance.url}/v1/datasets/hung", DOODLES).status_code == 201
    wait_for("every job has ended", lambda: all(job.done for job in jobs_of(instance)))
    assert stop(process) == 0
    invariants.check(instance.deployment, instance.database, ended=True)


def test_a_job_whose_artifacts_hang_stalls_and_goes_on_when_they_answer(instance: Instance) -> None:
    process = instance.up(**STALL)
    instance.create()
    job_id = instance.submit("learn", labels=["0"], steps=800)
    worker = instance.worker_in_training(job_id)
    with hung_mount(instance.deployment.artifacts):
        job = instance.wait_until(job_id, lambda job: job.state == "queued" or job.done)
        assert job.state == "queued", "it stalled, and waits for a worker that can read"
        wait_for("its worker was ended", lambda: not Path(f"/proc/{worker}").exists())
    assert instance.succeeded(job_id).attempt == 2
    assert stop(process) == 0
    invariants.check(instance.deployment, instance.database, ended=True)


def get(url: str) -> httpx2.Response:
    return httpx2.get(url, timeout=60)


def put(url: str, archive: bytes) -> httpx2.Response:
    return httpx2.put(url, content=archive, headers={"Content-Type": "application/zip"}, timeout=60)


def slowest(answers: list[httpx2.Response]) -> float:
    return max(answer.elapsed.total_seconds() for answer in answers)


def jobs_of(instance: Instance) -> list[JobRow]:
    ids = [job["id"] for job in instance.request("GET", "/v1/jobs?limit=100", status=200)["data"]]
    return [instance.job(job_id) for job_id in ids]
