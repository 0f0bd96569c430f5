"""Exports over HTTP: requested, followed, downloaded, cancelled, deleted, and refused."""

import base64
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest

from service.api import exports as api
from service.api.exports import MAX_IMAGES
from service.registry import claims, export_parts, exports
from service.registry.claims import Claim
from service.registry.tables import ExportRow
from tests.api.serving import Served

BODY: dict[str, Any] = {"count": 5, "seed": 3, "shard_images": 4}


@pytest.fixture
def model(served: Served, name: str) -> str:
    """A model with a version that holds the labels 1 and 2."""
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    return name


def create(served: Served, model: str, **changes: Any) -> dict[str, Any]:
    answer = served.http.post(f"/v1/models/{model}/exports", json=BODY | changes)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def read(served: Served, path: str, **headers: str) -> httpx2.Response:
    return served.http.get(path, headers=headers)


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("number", ["3", "0000000003", "0" * 9 + "9" * 30, "9" * 5000, "-1", "1e1", "\u0661"])
def test_a_number_that_is_no_shard_of_the_export_is_not_found(
    served: Served, model: str, number: str
) -> None:
    export = create(served, model)
    answer = read(served, f"/v1/exports/{export['id']}/shards/{number}")
    assert code_of(answer) == (404, "export_file_not_found")


def exports_in_receipt(served: Served, path: str) -> dict[str, str]:
    """Return what the receipt says of exports."""
    answer = served.http.get(path)
    assert answer.status_code == 200, answer.text
    predicate = json.loads(base64.b64decode(answer.json()["payload"]))["predicate"]
    entries = predicate["stores" if "stores" in predicate else "erasure"]  # that of a deleted model
    [entry] = [one for one in entries if one["store"] == "exports"]
    return dict(entry)


def claim_next_part(served: Served, export_id: str) -> Claim:
    """Claim the next part of the export, as a worker does that then draws it."""
    with served.worker.database.reading() as session:
        job = export_parts.find_next(session, export_id)
    assert job is not None, "a part is queued"
    return served.worker.claim(job.id)


def give_up(served: Served, claim: Claim) -> None:
    """End the claim, as a worker does that notices that its job is cancelled."""
    with served.worker.database.transaction() as session:
        claims.finish_cancelled(session, claim)


def test_an_export_is_followed_and_downloaded(served: Served, model: str) -> None:
    export = create(served, model)
    path = f"/v1/exports/{export['id']}"
    assert (export["labels"], export["images"], export["shards"], export["state"]) == (
        *(["1", "2"], 10, 3, "queued"),
    )
    assert code_of(read(served, f"{path}/manifest")) == (409, "export_file_not_ready")
    served.worker.export(export["id"], shards=1)
    halfway = read(served, path)
    progress = halfway.json()["progress"]
    assert (progress["images"], progress["fraction"], halfway.headers["Retry-After"]) == (4, 0.4, "1")
    assert progress["eta_seconds"] is not None
    assert code_of(read(served, f"{path}/shards/2")) == (409, "export_file_not_ready")
    served.worker.export(export["id"])
    done = read(served, path).json()
    assert (done["state"], done["done"], done["progress"]["eta_seconds"]) == ("succeeded", True, None)
    listed = read(served, f"{path}/shards", limit="2").json()["data"]
    assert [(one["number"], one["first_image"], one["images"]) for one in listed] == [
        *((0, 0, 4), (1, 4, 4), (2, 8, 2)),
    ]
    for one in listed:
        shard = read(served, one["href"])
        assert hashlib.sha256(shard.content).hexdigest() == one["sha256"] == shard.headers["ETag"].strip('"')
        assert read(served, one["href"], **{"If-None-Match": shard.headers["ETag"]}).status_code == 304
        part = read(served, one["href"], Range="bytes=100-199")
        assert (part.status_code, part.content) == (206, shard.content[100:200])
    manifest = read(served, done["manifest"]["href"])
    assert hashlib.sha256(manifest.content).hexdigest() == done["manifest"]["sha256"]
    assert [one["sha256"] for one in json.loads(manifest.content)["shards"]] == [
        one["sha256"] for one in listed
    ]


def test_an_export_has_the_images_of_a_sample(served: Served, model: str) -> None:
    export = create(served, model, shard_images=10)
    served.worker.export(export["id"])
    body = {"labels": export["labels"], "count": 5, "seed": 3, "format": "npz"}
    sample = served.http.post(f"/v1/models/{model}/samples", json=body)
    arrays = []
    for content in (read(served, f"/v1/exports/{export['id']}/shards/0").content, sample.content):
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            order = np.lexsort((found["seeds"], found["labels"]))
            arrays.append([found[key][order] for key in ("images", "labels", "seeds")])
    for exported, drawn in zip(*arrays, strict=True):
        assert (exported == drawn).all()


def test_exports_are_listed_and_filtered(served: Served, model: str) -> None:
    ids = [create(served, model, labels=[label])["id"] for label in ("1", "2")]
    served.worker.export(ids[1])

    def listed(**query: str) -> list[str]:
        answer = served.http.get("/v1/exports", params={"model": model, **query})
        return [one["id"] for one in answer.json()["data"]]

    assert listed() == ids[::-1]
    assert listed(limit="1", after=ids[1]) == [ids[0]]
    assert listed(label="1") == [ids[0]]
    assert listed(state="succeeded", version="head") == [ids[1]]


def test_a_repeated_request_makes_one_export(served: Served, model: str) -> None:
    key = {"Idempotency-Key": f"export-{model}"}
    answers = [served.http.post(f"/v1/models/{model}/exports", json=BODY, headers=key) for _ in range(2)]
    first, second = (answer.json()["id"] for answer in answers)
    assert first == second
    assert answers[1].headers["Idempotency-Replayed"] == "true"
    served.http.delete(f"/v1/exports/{first}").raise_for_status()
    gone = served.http.post(f"/v1/models/{model}/exports", json=BODY, headers=key)
    assert code_of(gone) == (410, "resource_gone")


def test_a_cancelled_export_has_no_files(served: Served, model: str) -> None:
    export = create(served, model)
    path = f"/v1/exports/{export['id']}"
    served.worker.export(export["id"], shards=1)
    for _ in range(2):
        cancelled = served.http.post(f"{path}/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert code_of(read(served, f"{path}/shards/0")) == (410, "export_files_deleted")
    assert read(served, f"{path}/shards").json()["data"] == []
    finished = create(served, model, count=1)
    served.worker.export(finished["id"])
    late = served.http.post(f"/v1/exports/{finished['id']}/cancel")
    assert code_of(late) == (409, "export_already_finished")


def test_a_deleted_export_is_found_by_nobody_and_its_files_go(served: Served, model: str) -> None:
    export = create(served, model, seed=91)  # no other test has these bytes
    served.worker.export(export["id"])
    path = f"/v1/exports/{export['id']}"
    [shard, *_] = read(served, f"{path}/shards").json()["data"]
    assert served.http.delete(path).status_code == 204
    for method, rest in (("GET", ""), ("GET", "/shards"), ("GET", "/shards/0"), ("DELETE", "")):
        assert code_of(served.http.request(method, path + rest)) == (404, "export_not_found")
    served.sweep()
    assert not served.path(shard["sha256"]).exists()


def test_nothing_is_downloaded_of_a_revoked_version_and_the_receipt_says_so(
    served: Served, model: str
) -> None:
    finished, running = create(served, model, seed=92), create(served, model)
    served.worker.export(finished["id"])
    forget = served.submit(model, "forget", labels=["2"])
    served.worker.work(forget["id"])
    for export in (finished, running):
        path = f"/v1/exports/{export['id']}"
        assert read(served, path).json()["state"] == "revoked"
        assert code_of(read(served, f"{path}/shards/0")) == (410, "version_revoked")
    assert code_of(served.http.get(f"/v1/jobs/{forget['id']}/receipt")) == (409, "receipt_not_ready")
    served.sweep()
    served.sweep()
    entry = exports_in_receipt(served, f"/v1/jobs/{forget['id']}/receipt")
    assert entry["state"] == "deleted"
    assert finished["id"] in entry["detail"]
    assert running["id"] in entry["detail"]
    assert "3 shards with 10 images" in entry["detail"]


@pytest.mark.parametrize("labels", [["2"], ["1"]])
def test_a_receipt_waits_for_the_files_of_a_cancelled_export(
    served: Served, model: str, labels: list[str]
) -> None:
    """While a worker draws a part, nothing of the export is deleted."""
    export = create(served, model, seed=93, labels=labels)
    served.worker.export(export["id"], shards=1)
    [shard] = read(served, f"/v1/exports/{export['id']}/shards").json()["data"]
    claim = claim_next_part(served, export["id"])
    served.http.post(f"/v1/exports/{export['id']}/cancel").raise_for_status()
    receipt = f"/v1/jobs/{served.done(model, 'forget', labels=['2']).job_id}/receipt"
    served.sweep()
    assert code_of(served.http.get(receipt)) == (409, "receipt_not_ready")
    assert served.path(shard["sha256"]).exists()
    give_up(served, claim)
    served.sweep()
    served.sweep()
    assert not served.path(shard["sha256"]).exists()
    entry = exports_in_receipt(served, receipt)
    assert entry["state"] == "deleted"
    assert f"{export['id']}. " in entry["detail"]


def test_a_receipt_waits_for_an_export_that_an_earlier_forget_stopped(served: Served, model: str) -> None:
    export = create(served, model)
    claim = claim_next_part(served, export["id"])
    receipts = [
        f"/v1/jobs/{served.done(model, 'forget', labels=[label]).job_id}/receipt" for label in ("1", "2")
    ]
    served.sweep()
    for receipt in receipts:
        assert code_of(served.http.get(receipt)) == (409, "receipt_not_ready")
    give_up(served, claim)
    served.sweep()
    served.sweep()
    for receipt in receipts:
        assert export["id"] in exports_in_receipt(served, receipt)["detail"]


def test_a_receipt_waits_for_an_export_of_a_deleted_version(served: Served, model: str) -> None:
    export = create(served, model)
    claim = claim_next_part(served, export["id"])
    served.http.post(f"/v1/exports/{export['id']}/cancel").raise_for_status()
    served.done(model, "learn", labels=["3"])
    served.http.delete(f"/v1/models/{model}/versions/1").raise_for_status()
    receipt = f"/v1/jobs/{served.done(model, 'forget', labels=['2']).job_id}/receipt"
    served.sweep()
    served.sweep()
    assert code_of(served.http.get(receipt)) == (409, "receipt_not_ready")
    give_up(served, claim)
    served.sweep()
    served.sweep()
    assert export["id"] in exports_in_receipt(served, receipt)["detail"]


def test_the_receipt_of_a_deleted_model_waits_for_its_exports_and_names_them(
    served: Served, model: str
) -> None:
    export = create(served, model, seed=94)
    served.worker.export(export["id"], shards=1)
    [shard] = read(served, f"/v1/exports/{export['id']}/shards").json()["data"]
    claim = claim_next_part(served, export["id"])
    deletion = served.http.delete(f"/v1/models/{model}", params={"purge": True}).headers["Location"]
    served.sweep()
    assert served.http.get(deletion).json()["state"] == "pending"
    assert code_of(served.http.get(f"{deletion}/receipt")) == (409, "receipt_not_ready")
    give_up(served, claim)
    served.sweep()
    served.sweep()
    assert not served.path(shard["sha256"]).exists()
    entry = exports_in_receipt(served, f"{deletion}/receipt")
    assert (entry["state"], f"{export['id']}. " in entry["detail"]) == ("deleted", True)
    assert "1 shards with 4 images" in entry["detail"]


def test_the_receipt_of_a_deleted_model_without_exports_says_so(served: Served, model: str) -> None:
    deletion = served.http.delete(f"/v1/models/{model}", params={"purge": True}).headers["Location"]
    served.sweep()
    entry = exports_in_receipt(served, f"{deletion}/receipt")
    assert (entry["state"], entry["detail"]) == ("none", "The model had no exports.")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "required"),
        ({"count": 0}, 422, "out_of_range"),
        ({"count": MAX_IMAGES + 1}, 422, "out_of_range"),
        ({"count": MAX_IMAGES}, 422, "output_too_large"),
        ({"count": 20_000, "shard_images": 1}, 422, "output_too_large"),
        ({"count": 1, "shard_images": 200_001}, 422, "out_of_range"),
        ({"count": 1, "labels": ["1", "1"]}, 422, "duplicate_item"),
        ({"count": 1, "labels": []}, 422, "required"),
        ({"count": 1, "labels": ["9"]}, 422, "label_not_learned"),
        ({"count": 1, "format": "zip"}, 422, "unsupported_format"),
        ({"count": 1, "version": 9}, 404, "version_not_found"),
        ({"count": "1"}, 422, "wrong_type"),
        ({"count": 1, "url": "s3://bucket"}, 422, "unknown_field"),
    ],
)
def test_a_bad_export_is_refused(
    served: Served, model: str, body: dict[str, Any], status: int, code: str
) -> None:
    before = served.counts()
    assert code_of(served.http.post(f"/v1/models/{model}/exports", json=body)) == (status, code)
    assert served.counts() == before


def test_an_export_larger_than_the_disk_is_refused(
    served: Served, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = served.settings.reserve_bytes + 1_000_000
    monkeypatch.setattr(api, "measure_free_bytes", lambda folder: free)
    refused = served.http.post(f"/v1/models/{model}/exports", json={"count": 1_000})
    assert code_of(refused) == (507, "storage_full")


def test_what_unfinished_exports_of_any_project_need_is_not_free(
    served: Served, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served.worker.database.transaction() as session:  # those of other tests
        for row in exports.find_all_unfinished(session):
            exports.stop(session, row, "cancelled")
    body = {"count": 1_000, "labels": ["1"], "shard_images": 500}  # 796,000 bytes
    free = served.settings.reserve_bytes + 1_500_000
    monkeypatch.setattr(api, "measure_free_bytes", lambda folder: free)
    first = create(served, model, **body)
    assert code_of(served.http.post(f"/v1/models/{model}/exports", json=body)) == (507, "storage_full")
    served.http.post("/v1/projects", json={"name": f"of-{model}"}).raise_for_status()
    served.http.headers["Palimpsest-Project"] = f"of-{model}"
    served.model(model)
    served.done(model, "learn", labels=["1"])
    assert code_of(served.http.post(f"/v1/models/{model}/exports", json=body)) == (507, "storage_full")
    served.worker.export(first["id"], shards=1)  # half of it is on the disk, and counts no more
    create(served, model, **body)


def test_of_many_exports_requested_at_once_no_more_are_accepted_than_fit(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [
        f"{name}-{number}" for number in range(8)
    ]  # requests for one version wait for each other anyway
    for model in models:
        served.model(model)
        served.done(model, "learn", labels=["1"])
    with served.worker.database.transaction() as session:  # those of other tests
        for row in exports.find_all_unfinished(session):
            exports.stop(session, row, "cancelled")
    free = served.settings.reserve_bytes + 1_500_000
    monkeypatch.setattr(api, "measure_free_bytes", lambda folder: free)
    body, path = {"count": 1_000, "labels": ["1"]}, f"{served.address}/v1/models"
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda model: httpx2.post(f"{path}/{model}/exports", json=body, timeout=60), models)
        )
    assert sorted(answer.status_code for answer in answers) == [202] + [507] * 7


def test_a_version_that_is_being_exported_is_not_deleted(served: Served, model: str) -> None:
    export = create(served, model)
    served.done(model, "learn", labels=["3"])
    refused = served.http.delete(f"/v1/models/{model}/versions/1")
    assert code_of(refused) == (409, "version_in_use")
    assert export["id"] in refused.json()["detail"]


def test_a_deleted_model_takes_its_exports_along(served: Served, model: str) -> None:
    export = create(served, model)
    served.worker.export(export["id"], shards=1)
    assert served.http.delete(f"/v1/models/{model}").status_code == 204
    assert code_of(read(served, f"/v1/exports/{export['id']}")) == (404, "export_not_found")
    served.sweep()
    with served.worker.database.reading() as session:
        assert session.get_one(ExportRow, export["id"]).cleared_at is not None


def test_the_jobs_of_an_export_are_seen_by_nobody(served: Served, model: str) -> None:
    create(served, model)
    assert served.http.get("/v1/jobs", params={"model": model}).json()["data"][0]["operation"] == "learn"
    queued = served.submit(model, "learn", labels=["3"])
    assert queued["queue_position"] == 0
