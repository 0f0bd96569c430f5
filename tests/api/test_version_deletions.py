"""Deleting a version over HTTP: its files go, its number and its receipts stay, nothing in use is deleted."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.registry import versions
from service.registry.tables import ModelRow, VersionDeletionRow
from service.registry.version_files import DESCRIPTIVE_FILES
from tests.api.serving import Served


def delete(served: Served, name: str, number: int | str) -> httpx2.Response:
    return served.http.delete(f"/v1/models/{name}/versions/{number}")


def files_of(served: Served, name: str, number: int) -> dict[str, Path]:
    """{name of a file: where its artifact lies} of a version."""
    files = served.http.get(f"/v1/models/{name}/versions/{number}").json()["files"]
    return {file: served.path(entry["sha256"]) for file, entry in files.items()}


@pytest.fixture
def digits(served: Served, name: str) -> str:
    """A model whose versions 1 to 3 learned the labels 1 to 3."""
    served.model(name)
    for label in ("1", "2", "3"):
        served.done(name, "learn", labels=[label])
    return name


def test_a_deleted_version_is_gone_but_for_its_number_report_and_manifest(
    served: Served, digits: str
) -> None:
    served.worker.measure(served.worker.claim(served.submit(digits, "evaluate", version=2)["id"]))
    full = served.http.get(f"/v1/models/{digits}/versions/2/report?level=full").json()["source"]["sha256"]
    sample = served.http.post(f"/v1/models/{digits}/samples", json={"labels": ["1"], "version": 2})
    files = files_of(served, digits, 2)
    assert delete(served, digits, 2).status_code == 204
    path = f"/v1/models/{digits}/versions/2"
    for one in (
        f"{path}/images/1/0.png",
        f"{path}/files/decoder.onnx",
        f"/v1/samples/{sample.headers['X-Sample-Id']}/images",
    ):
        gone = served.http.get(one)
        assert (gone.status_code, gone.json()["code"]) == (410, "version_deleted"), one
    assert served.http.put(f"/v1/models/{digits}/aliases/a", json={"version": 2}).status_code == 409
    assert served.http.post(f"/v1/models/{digits}/evaluate", json={"version": 2}).status_code == 409
    served.sweep()
    there = {file for file, artifact in files.items() if artifact.exists()}
    assert there == set(DESCRIPTIVE_FILES)
    assert not served.worker.artifacts.exists(full)
    tombstone = served.http.get(path).json()
    assert (tombstone["number"], tombstone["state"]) == (2, "deleted")
    assert tombstone["deleted_at"] is not None
    assert served.http.get(f"{path}/report").json()["level"] == "quick"
    assert served.http.get(f"{path}/report", headers={"Accept": "text/html"}).status_code == 200
    assert served.http.get(f"{path}/files/manifest.json").status_code == 200
    lineage = served.http.get(f"/v1/models/{digits}/versions/3/lineage").json()["data"]
    assert [version["number"] for version in lineage] == [3, 2, 1]
    listed = served.http.get(f"/v1/models/{digits}/versions?state=deleted").json()["data"]
    assert [version["number"] for version in listed] == [2]
    assert delete(served, digits, 2).status_code == 204, "once more changes nothing"
    assert served.done(digits, "learn", labels=["4"]).number == 4
    actions = [entry["action"] for entry in served.http.get("/v1/audit?limit=100").json()["data"]]
    assert actions[: actions.index("model.create")].count("version.delete") == 1


def test_what_is_in_use_is_not_deleted(served: Served, digits: str) -> None:
    served.http.put(f"/v1/models/{digits}/aliases/production", json={"version": 1}).raise_for_status()
    measuring = served.submit(digits, "evaluate", version=2)["id"]
    for named, mentioned in (
        ("head", "head"),
        (3, "head"),
        (1, "production"),
        ("production", "production"),
        (2, measuring),
    ):
        refused = delete(served, digits, named)
        assert (refused.status_code, refused.json()["code"]) == (409, "version_in_use")
        assert mentioned in refused.json()["detail"]
    assert refused.json()["job"] == measuring
    served.worker.fail(served.worker.claim(measuring))
    assert delete(served, digits, 2).status_code == 204
    served.http.delete(f"/v1/models/{digits}/aliases/production").raise_for_status()
    assert delete(served, digits, 1).status_code == 204


@pytest.mark.parametrize("other", ["alias", "evaluate"])
def test_a_version_is_deleted_or_used_but_not_both(served: Served, digits: str, other: str) -> None:
    """A deletion and a request that needs the version arrive at the same time."""
    model = f"{served.address}/v1/models/{digits}"
    requests: list[tuple[str, str, dict[str, Any] | None]] = [
        ("DELETE", f"{model}/versions/2", None),
        ("PUT", f"{model}/aliases/production", {"version": 2})
        if other == "alias"
        else ("POST", f"{model}/evaluate", {"version": 2}),
    ]
    with ThreadPoolExecutor(2) as pool:
        deleted, used = pool.map(
            lambda one: httpx2.request(one[0], one[1], json=one[2], timeout=30), requests
        )
    if deleted.is_success:
        assert (used.status_code, used.json()["code"]) == (409, "version_deleted")
    else:
        assert (deleted.json()["code"], used.is_success) == ("version_in_use", True)


def test_no_exact_forget_starts_from_a_deleted_version(served: Served, digits: str) -> None:
    def newest_without_3() -> int | None:
        with served.worker.database.reading() as session:
            model = session.get_one(ModelRow, served.http.get(f"/v1/models/{digits}").json()["id"])
            return versions.find_newest_without(session, model, ["3"])

    assert newest_without_3() == 2
    waiting = served.submit(digits, "forget", labels=["3"], guarantee="exact")
    refused = delete(served, digits, 2)
    assert (refused.json()["code"], refused.json()["job"]) == ("version_in_use", waiting["id"])
    served.http.post(f"/v1/jobs/{waiting['id']}/cancel").raise_for_status()
    assert delete(served, digits, 2).status_code == 204
    assert newest_without_3() == 1


def test_a_receipt_says_that_an_older_version_was_deleted(served: Served, digits: str) -> None:
    assert delete(served, digits, 2).status_code == 204
    forget = served.done(digits, "forget", labels=["2"])
    served.sweep()
    served.sweep()
    receipt = f"/v1/jobs/{forget.job_id}/receipt"
    statement = _payload(served.http.get(receipt).json())
    states = {one["version"]: one["state"] for one in statement["predicate"]["older_versions"]}
    assert states == {2: "deleted", 3: "revoked"}
    assert "Version 2: A client deleted them" in json.dumps(statement)
    before = served.http.get(receipt).content
    delete(served, digits, 3)
    assert served.http.get(receipt).content == before, "a signed receipt stays as it is"


def test_a_receipt_waits_for_the_files_that_it_calls_deleted(served: Served, digits: str) -> None:
    forget = served.done(digits, "forget", labels=["2"])
    assert delete(served, digits, 2).status_code == 204
    waiting = served.http.get(f"/v1/jobs/{forget.job_id}/receipt")
    assert (waiting.status_code, waiting.json()["code"]) == (409, "receipt_not_ready")
    served.sweep()
    served.sweep()
    assert served.http.get(f"/v1/jobs/{forget.job_id}/receipt").status_code == 200


def test_a_file_that_another_version_has_too_is_kept(served: Served, digits: str) -> None:
    shared = files_of(served, digits, 1)["decoder.onnx"]
    served.model(f"{digits}-other")
    served.done(f"{digits}-other", "learn", labels=["1"])
    assert files_of(served, f"{digits}-other", 1)["decoder.onnx"] == shared
    delete(served, digits, 1)
    served.sweep()
    assert shared.exists()
    model = served.http.get(f"/v1/models/{digits}").json()["id"]
    with served.worker.database.reading() as session:
        deletion = session.get_one(VersionDeletionRow, (model, 1))
    assert "decoder.onnx" in {file["file"] for file in deletion.kept}
    assert "checkpoint.safetensors" in {file["file"] for file in deletion.keys}


def test_a_rollback_passes_over_a_deleted_version(served: Served, digits: str) -> None:
    alias = f"/v1/models/{digits}/aliases/production"
    for number in (1, 2, 3):
        served.http.put(alias, json={"version": number}, headers={"If-Match": "*"} if number > 1 else {})
    delete(served, digits, 2).raise_for_status()
    assert served.http.post(f"{alias}/rollback", json={}).json()["version"] == 1


@pytest.mark.parametrize(("number", "code"), [(9, "version_not_found"), ("canary", "alias_not_found")])
def test_what_does_not_exist_is_not_deleted(served: Served, digits: str, number: Any, code: str) -> None:
    refused = delete(served, digits, number)
    assert (refused.status_code, refused.json()["code"]) == (404, code)


def _payload(envelope: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(base64.b64decode(envelope["payload"])))
