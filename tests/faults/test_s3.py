"""The bucket of the artifacts dies, hangs, refuses, is slow or full: jobs wait, and requests are answered."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from service.registry import store_identity
from service.registry.artifacts import name_of
from service.registry.opening import open_artifacts
from service.registry.s3_store import S3Store
from service.registry.tables import PurgeRow
from service.settings import Settings
from tests import invariants
from tests.faults.s3_proxy import S3Proxy, proxy_to_s3
from tests.faults.test_start import refusal
from tests.faults.test_store import doctor
from tests.instance import Instance, instance_of, stop, wait_for
from tests.requests.archives import as_npz
from tests.s3 import KEY, S3Server, own_s3

ANSWER_SECONDS = 2.0
"""How much longer than usual an answer may take while the bucket hangs."""
DOODLES = as_npz({"doodle": np.arange(20 * 784, dtype=np.uint8).reshape(20, 28, 28)})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server of this test, which the environment names."""
    with own_s3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def bucket(server: S3Server) -> str:
    """A bucket that keeps old versions."""
    return server.make_bucket(versioned=True)


@pytest.fixture
def instance(bucket: str, tmp_path: Path) -> Iterator[Instance]:
    """An instance whose artifacts lie in that bucket, without processes yet."""
    with instance_of(settings(bucket, tmp_path), tmp_path) as instance:
        yield instance


@pytest.fixture
def proxy(server: S3Server) -> Iterator[S3Proxy]:
    with proxy_to_s3(server.environment["AWS_ENDPOINT_URL"]) as proxy:
        yield proxy


@pytest.fixture
def behind_proxy(
    proxy: S3Proxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Instance]:
    """An instance that reaches the bucket through the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    with instance_of(settings(bucket, tmp_path), tmp_path) as instance:
        yield instance


def settings(bucket: str, folder: Path) -> Settings:
    return Settings(home=folder / "home", port=0, artifacts_url=f"s3://{bucket}/p")


def kill(server: S3Server, _: str) -> Callable[[], object]:
    server.server.kill()
    return server.server.start


def suspend(server: S3Server, _: str) -> Callable[[], object]:
    server.server.suspend()
    return server.server.resume


def end_credentials(server: S3Server, _: str) -> Callable[[], object]:
    server.shell(f"s3.user.disable -name {KEY}")
    return lambda: server.shell(f"s3.user.enable -name {KEY}")


def fill(server: S3Server, bucket: str) -> Callable[[], object]:
    """Store more than the bucket may have, so that nothing can be written any more."""
    S3Store(bucket).write("filler", bytes(3 << 20))
    server.shell(f"s3.bucket.quota -name={bucket} -op=set -sizeMB=1")
    enforce = "s3.bucket.quota.enforce -apply"
    wait_for("the quota is enforced", lambda: "to read only" in server.shell(enforce))
    return lambda: server.shell(f"s3.bucket.quota -name={bucket} -op=remove")


@pytest.mark.parametrize("fault", [kill, suspend, end_credentials, fill], ids=lambda fault: fault.__name__)
def test_a_job_whose_bucket_fails_when_it_publishes_waits_and_loses_no_attempt(
    instance: Instance, server: S3Server, bucket: str, fault: Callable[[S3Server, str], Callable[[], object]]
) -> None:
    process = instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    if fault is fill:  # before the job, which would end meanwhile; what it reads can still be read
        repair = fault(server, bucket)
    job_id = instance.submit("learn", labels=["2"], steps=300)
    if fault is not fill:
        instance.worker_in_training(job_id)
        repair = fault(server, bucket)
    instance.wait_until(job_id, lambda job: job.state == "verifying")
    if fault is not fill:
        wait_for("the service notices", lambda: readiness(instance)["status"] == "unavailable")
    repair()
    assert instance.succeeded(job_id).attempt == 1
    purge_and_check(instance)
    assert stop(process) == 0


def test_a_job_is_released_while_the_bucket_stays_away_and_runs_when_it_is_back(
    instance: Instance, server: S3Server, bucket: str
) -> None:
    instance.up()
    instance.create()
    job_id = instance.submit("learn", labels=["0", "1"], steps=300)
    instance.worker_in_training(job_id)
    repair = kill(server, bucket)
    job = instance.wait_until(job_id, lambda job: job.store_failures > 0)
    assert (job.state, job.attempt) == ("queued", 0)
    repair()
    assert instance.succeeded(job_id).attempt == 1
    purge_and_check(instance)


def test_the_api_answers_while_the_bucket_hangs(instance: Instance, server: S3Server, bucket: str) -> None:
    instance.up(PALIMPSEST_ARTIFACTS_CACHE_BYTES="0")
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    version = f"{instance.url}/v1/models/m/versions/1"
    files = [f"{version}/files/{name}" for name in ("checkpoint.safetensors", "decoder.onnx")] * 10
    images = [f"{version}/images/0/{seed}.png" for seed in range(20)]
    with ThreadPoolExecutor(len(files + images)) as pool:
        usual = list(pool.map(get, [*files, f"{instance.url}/readyz"]))
        assert {answer.status_code for answer in usual} == {200}
        longest = ANSWER_SECONDS + slowest(usual)
        resume = suspend(server, bucket)
        sent = [pool.submit(get, url) for url in files + images]
        others = [get(f"{instance.url}{path}") for path in ("/livez", "/v1/models/m")]
        is_ready = get(f"{instance.url}/readyz")
        submitted = httpx2.post(f"{instance.url}/v1/models/m/learn", json={"labels": ["2"]}, timeout=60)
        refused = [each.result() for each in sent]
    assert [answer.status_code for answer in others] == [200, 200]
    assert (is_ready.status_code, submitted.status_code) == (503, 202)
    assert {answer.json()["code"] for answer in refused} == {"artifact_unreadable"}
    assert slowest([*others, is_ready, submitted, *refused]) < longest
    resume()
    wait_for("images are drawn again", lambda: get(images[0]).status_code == 200)
    assert put(f"{instance.url}/v1/datasets/hung", DOODLES).status_code == 201
    instance.succeeded(submitted.json()["id"])
    purge_and_check(instance)


def test_what_was_read_before_is_served_while_the_bucket_is_away(
    instance: Instance, server: S3Server, bucket: str
) -> None:
    instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    address = f"{instance.url}/v1/models/m/versions/1/files"
    before = get(f"{address}/checkpoint.safetensors")
    repair = kill(server, bucket)
    assert get(f"{address}/checkpoint.safetensors").content == before.content
    assert get(f"{address}/report.json").json()["code"] == "artifact_unreadable"
    upload = put(f"{instance.url}/v1/datasets/d", DOODLES)
    assert (upload.status_code, upload.json()["code"]) == (503, "storage_unavailable")
    assert "the bucket does not answer" in upload.json()["detail"]
    repair()
    wait_for("it is read again", lambda: get(f"{address}/report.json").status_code == 200)


def test_a_bucket_that_is_slow_and_refuses_some_requests_delays_a_job_and_fails_none(
    behind_proxy: Instance, proxy: S3Proxy
) -> None:
    instance = behind_proxy
    instance.up()
    proxy.seconds = 0.1
    proxy.rule = lambda method, number: (503, "SlowDown") if number % 3 == 0 else None
    instance.create()
    assert instance.succeeded(instance.submit("learn", labels=["0", "1"])).attempt == 1
    assert instance.succeeded(instance.submit("learn", labels=["2"])).attempt == 1
    proxy.rule = lambda method, number: None
    purge_and_check(instance)


def test_a_bucket_that_says_it_is_full_is_a_507_and_fails_the_job_with_that(
    behind_proxy: Instance, proxy: S3Proxy
) -> None:
    instance = behind_proxy
    instance.up()
    instance.create()
    proxy.rule = lambda method, _: (507, "XMinioStorageFull") if method in ("PUT", "POST") else None
    upload = put(f"{instance.url}/v1/datasets/d", DOODLES)
    assert (upload.status_code, upload.json()["code"]) == (507, "storage_full")
    job = instance.wait_until_done(instance.submit("learn", labels=["0", "1"]))
    assert job.error is not None
    assert (job.state, job.error["code"], job.error["retryable"]) == ("failed", "storage_full", True)
    assert instance.versions(job.model_id) == []
    proxy.rule = lambda method, number: None
    instance.succeeded(instance.submit("learn", labels=["0", "1", "2"]))
    purge_and_check(instance)


def test_a_purge_that_the_bucket_interrupts_is_finished_when_it_is_back(
    behind_proxy: Instance, proxy: S3Proxy
) -> None:
    """Every third deletion fails, and the receipt is signed only once all are done."""
    instance = behind_proxy
    instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    instance.succeeded(instance.submit("learn", labels=["2"]))
    deletions = iter(range(1, 1000))
    proxy.rule = lambda method, _: (
        (500, "InternalError") if method == "DELETE" and next(deletions) % 3 == 0 else None
    )
    purge_and_check(instance)


def test_a_changed_object_is_noticed_although_nobody_draws_and_is_never_drawn(
    instance: Instance, bucket: str
) -> None:
    process = instance.up()
    model = instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))
    assert doctor(instance.deployment)[0] == 0
    assert stop(process) == 0
    artifacts = open_artifacts(instance.deployment)
    sha256 = instance.versions(model)[0].files["decoder.onnx"]["sha256"]
    whole = artifacts.read(sha256)
    artifacts.store.write(name_of(sha256), whole[:-1] + bytes([whole[-1] ^ 1]))
    instance.up()
    wait_for("the fault is noticed", lambda: readiness(instance)["checks"]["files"] != "ok")
    drawn = httpx2.post(f"{instance.url}/v1/models/m/samples", json={"labels": ["0"]}, timeout=30)
    assert (drawn.status_code, drawn.json()["code"]) == (503, "artifact_corrupt")
    code, printed = doctor(instance.deployment, "--json")
    found = {finding["check"]: finding for finding in json.loads(printed)["findings"]}
    assert (code, [one["artifact"] for one in found["artifacts"]["details"]]) == (1, [sha256])
    artifacts.put(whole)


def emptied(store: S3Store) -> None:
    store.delete([file.name for file in store.list()])


def of_another_database(store: S3Store) -> None:
    store.write(store_identity.MARKER, b"0" * 32 + b"\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(emptied, "is not this database's, or was emptied"), (of_another_database, "is another database's")],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_start_with_an_empty_or_a_foreign_bucket_is_refused_in_one_line(
    instance: Instance, spoil: Callable[[S3Store], None], said: str
) -> None:
    process = instance.up()
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0"]))
    assert stop(process) == 0
    store = open_artifacts(instance.deployment).store
    assert isinstance(store, S3Store)
    spoil(store)
    assert said in refusal(instance.deployment, "up")


@pytest.mark.parametrize("fault", [kill, end_credentials], ids=lambda fault: fault.__name__)
def test_a_start_without_the_bucket_is_refused_in_one_line_that_names_no_secret(
    instance: Instance, server: S3Server, bucket: str, fault: Callable[[S3Server, str], Callable[[], object]]
) -> None:
    fault(server, bucket)
    line = refusal(instance.deployment, "up")
    assert "AWS_" in line
    assert server.environment["AWS_SECRET_ACCESS_KEY"] not in line


def purge_and_check(instance: Instance) -> None:
    """Forget a label with a purge; then the rules hold, and no version of a purged file is left."""
    forgotten = instance.submit("forget", labels=["1"], purge=True)
    instance.succeeded(forgotten)
    receipt = f"{instance.url}/v1/jobs/{forgotten}/receipt"
    wait_for("the receipt is signed", lambda: get(receipt).status_code == 200)
    purge = instance.request("GET", f"/v1/jobs/{forgotten}", status=200)["purge"]
    assert (purge["state"], purge["files_kept"]) == ("done", 0)
    with instance.database.reading() as session:
        deleted = session.get_one(PurgeRow, forgotten).keys
    assert deleted
    assert len(deleted) == purge["files_deleted"]
    left = {file.last_part for file in open_artifacts(instance.deployment).files(leftovers=True)}
    assert left.isdisjoint(file["sha256"] for file in deleted)
    invariants.check(instance.deployment, instance.database, ended=True)


def readiness(instance: Instance) -> dict[str, Any]:
    answer: dict[str, Any] = get(f"{instance.url}/readyz").json()
    return answer


def get(url: str) -> httpx2.Response:
    return httpx2.get(url, timeout=60)


def put(url: str, archive: bytes) -> httpx2.Response:
    return httpx2.put(url, content=archive, headers={"Content-Type": "application/zip"}, timeout=60)


def slowest(answers: list[httpx2.Response]) -> float:
    return max(answer.elapsed.total_seconds() for answer in answers)
