"""Deleting a model: its name is free again, its files go, and a purge is proved by a signed receipt."""

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console

from service.receipts.printing import print_receipt
from service.receipts.verification import NotGenuine, fetch_keys, verify_receipt
from tests.api.serving import Served


def files_of(served: Served, name: str) -> list[Path]:
    """The artifacts of every version of the model."""
    versions = served.http.get(f"/v1/models/{name}/versions").json()["data"]
    hashes = {file["sha256"] for version in versions for file in version["files"].values()}
    return [served.path(sha256) for sha256 in sorted(hashes)]


def delete(served: Served, name: str, **query: Any) -> httpx2.Response:
    return served.http.delete(f"/v1/models/{name}", params=query)


def test_a_deleted_model_is_gone_and_its_name_is_free(served: Served, name: str) -> None:
    old = served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    forgotten = served.done(name, "forget", labels=["2"])
    queued = served.submit(name, "learn", labels=["3"])
    assert delete(served, name).status_code == 204
    for path in (f"/v1/models/{name}", f"/v1/models/{old['id']}", f"/v1/models/{old['id']}/versions/1"):
        assert served.http.get(path).status_code == 404
    for operation in ("learn", "samples", "evaluate"):
        body = {"labels": ["1"]} if operation != "evaluate" else {}
        assert served.http.post(f"/v1/models/{name}/{operation}", json=body).status_code == 404
    assert delete(served, name).status_code == 404
    assert served.http.get(f"/v1/jobs/{queued['id']}").json()["state"] == "cancelled"
    assert served.http.get(f"/v1/jobs/{forgotten.job_id}/receipt").status_code == 200
    assert old["id"] not in {one["id"] for one in served.http.get("/v1/models?limit=100").json()["data"]}
    new = served.http.post("/v1/models", json={"name": name, "dataset": "mnist"})
    assert (new.status_code, new.json()["id"] == old["id"]) == (201, False)


@pytest.mark.parametrize("operation", ["learn", "evaluate"])
def test_a_model_is_not_deleted_while_a_worker_runs_its_job(
    served: Served, name: str, operation: str
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    running = served.submit(name, operation, **({"labels": ["3"]} if operation == "learn" else {}))
    claim = served.worker.claim(running["id"])
    queued = served.submit(name, "resize", policy="prune")
    refused = delete(served, name, purge=True)
    assert (refused.status_code, refused.json()["code"]) == (409, "model_busy")
    assert refused.json()["job"] == running["id"]
    assert served.http.get(f"/v1/jobs/{queued['id']}").json()["state"] == "queued"
    served.worker.fail(claim)
    assert delete(served, name).status_code == 204


def test_a_purged_model_leaves_no_file_and_a_signed_receipt(
    served: Served, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    served.done(name, "forget", labels=["2"])
    files = files_of(served, name)
    accepted = delete(served, name, purge=True, reference="DSR-7")
    assert (accepted.status_code, accepted.json()["state"]) == (202, "pending")
    address = accepted.headers["Location"]
    pending = served.http.get(f"{address}/receipt")
    assert (pending.status_code, pending.json()["code"]) == (409, "receipt_not_ready")
    deadline = time.monotonic() + 30
    while served.http.get(address).json()["state"] != "done":
        assert time.monotonic() < deadline
        served.sweep()
    assert [file for file in files if file.exists()] == []
    receipt = served.http.get(f"{address}/receipt").content
    verified = verify_receipt(receipt, fetch_keys(served.address)[0])
    predicate = verified.statement.predicate
    assert (predicate.model.id, predicate.reference) == (model["id"], "DSR-7")  # type: ignore[union-attr]
    assert {file.sha256 for file in predicate.deleted} == {file.name for file in files}  # type: ignore[union-attr]
    print_receipt(Console(width=200), "it", verified)
    assert "DSR-7" in capsys.readouterr().out
    with pytest.raises(NotGenuine):
        verify_receipt(receipt.replace(b"payload", b"Payload", 1), fetch_keys(served.address)[0])
    assert served.http.get(f"/v1/models/{name}/deletion").status_code == 404, "by its id only"


def test_a_model_without_a_version_can_be_purged(served: Served, name: str) -> None:
    served.model(name)
    address = delete(served, name, purge=True).headers["Location"]
    served.sweep()
    assert served.http.get(f"{address}/receipt").status_code == 200


def test_files_that_another_model_has_too_are_kept(served: Served, name: str) -> None:
    served.model(name)
    served.model(f"{name}-other")
    for one in (name, f"{name}-other"):
        served.done(one, "learn", labels=["1"])
    shared = set(files_of(served, name)) & set(files_of(served, f"{name}-other"))
    address = delete(served, name, purge=True).headers["Location"]
    served.sweep()
    assert shared
    assert all(file.exists() for file in shared)
    assert served.http.get(address).json()["files_kept"] >= len(shared)


@pytest.mark.parametrize("purge", [True, False])
def test_what_was_measured_of_a_deleted_model_is_answered_as_deleted(
    served: Served, name: str, purge: bool
) -> None:
    """Each of its jobs that had a report: of a version, of a rejected candidate, and of an evaluation."""
    model = served.model(name)
    measured = [served.done(name, "learn", labels=["1"]).job_id]
    drawn = served.http.post(f"/v1/models/{name}/samples", json={"labels": ["1"], "count": 1})
    sample = drawn.headers["X-Sample-Id"]
    for operation, end in (("resize", served.worker.refuse), ("evaluate", served.worker.measure)):
        body = {"policy": "prune"} if operation == "resize" else {}
        measured.append(served.submit(name, operation, **body)["id"])
        end(served.worker.claim(measured[-1]))
    files = files_of(served, name)
    assert delete(served, name, **({"purge": True} if purge else {})).is_success
    served.sweep()
    for file in files:  # without a purge they are collected an hour later
        file.unlink(missing_ok=True)
    for job_id in measured:
        answer = served.http.get(f"/v1/jobs/{job_id}/report")
        assert (answer.status_code, answer.json()["code"]) == (410, "report_deleted"), answer.text
        assert model["id"] in answer.json()["detail"]
        assert ("deletion/receipt" in answer.json()["detail"]) is purge
    assert served.http.get(f"/v1/samples/{sample}/images").status_code in (404, 410)
