"""Receipts and purges over HTTP: who has one, when, what it says, and what is gone afterwards."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Proto

from service.drawing.decoders import Generator
from tests.api.serving import Served
from tests.drawing.decoders import decoder
from tests.instance import wait_for


@pytest.fixture
def own_decoders(served: Served, name: str) -> Iterator[None]:
    """Versions whose decoders no other model shares."""
    seed = int(name[1:]) * 10
    served.worker.decoders = {number: decoder(slots=12, seed=seed + number) for number in range(1, 4)}
    yield
    served.worker.decoders = {}


def forgotten(served: Served, name: str, **body: Any) -> str:
    """A model of that name that learned 1, then 2 and 3, and forgot 3; the job that did."""
    served.model(name)
    served.done(name, "learn", labels=["1"])
    served.done(name, "learn", labels=["2", "3"])
    return served.done(name, "forget", labels=["3"], **body).job_id


def receipt(served: Served, job_id: str) -> httpx2.Response:
    return served.http.get(f"/v1/jobs/{job_id}/receipt")


def statement(served: Served, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(receipt(served, job_id).json()["payload"]))
    return found


def problem(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_receipt_is_signed_by_the_key_that_the_service_publishes(served: Served, name: str) -> None:
    """Checked by hand: the bytes DSSE v1 signs, the key's own PEM, and in-toto's validator."""
    answer = receipt(served, forgotten(served, name))
    assert answer.headers["Content-Type"] == "application/vnd.in-toto.forget-receipt+dsse"
    envelope, key = answer.json(), served.http.get("/v1/keys/signing").json()
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    [signature] = envelope["signatures"]
    assert (signature["keyid"], key["algorithm"]) == (key["keyid"], "ed25519")
    public = load_pem_public_key(key["public_key"].encode())
    assert isinstance(public, Ed25519PublicKey)
    public.verify(
        base64.b64decode(signature["sig"]), b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    )
    Statement.copy_from_pb(ParseDict(_by_protobuf(json.loads(payload)), Proto())).validate()


def _by_protobuf(document: dict[str, Any]) -> dict[str, Any]:
    """in-toto's own classes call `_type` by its JSON name `type`."""
    return {"type": document.pop("_type"), **document}


def test_a_receipt_says_what_was_requested_done_and_measured_and_where_the_rest_is(
    served: Served, name: str
) -> None:
    job_id = forgotten(served, name, seed=7, acceptance={"forgotten_accuracy_max": 0.05})
    found = statement(served, job_id)
    version = served.http.get(f"/v1/models/{name}/versions/3").json()
    assert {one["name"]: one["digest"]["sha256"] for one in found["subject"]} == {
        file: entry["sha256"] for file, entry in version["files"].items()
    }
    predicate = found["predicate"]
    parent = served.http.get(f"/v1/models/{name}/versions/2").json()
    assert predicate["parent"] == {
        "version": 2,
        "manifest_sha256": parent["files"]["manifest.json"]["sha256"],
    }
    assert predicate["asked"]["labels"] == ["3"]
    assert (predicate["asked"]["strategy"], predicate["asked"]["seed"]) == ("surrogate", 7)
    assert predicate["asked"]["acceptance"] == {"forgotten_accuracy_max": 0.05}
    assert predicate["asked"]["params"]["steps"] == 100
    assert (predicate["guarantee"], predicate["purge"]) == ("approximate", None)
    assert predicate["figures"]["forgotten"]["value"] == 0.012
    assert [store["store"] for store in predicate["stores"]] == [
        "weights", "Fisher information", "older versions", "pictures of forgotten labels", "decoder caches",
        "exports", "datasets", "judges and feature networks", "optimiser state", "replayed images",
        "snapshots", "HTTP caches", "full reports", "reports and manifests", "files without a version",
        "recorded samples", "database", "job events", "webhook messages", "idempotency keys", "audit log",
        "erasure log", "logs", "backups",
    ]  # fmt: skip
    [older] = predicate["older_versions"]
    assert (older["version"], older["state"], older["lists"]) == (2, "revoked", ["1", "2", "3"])
    assert older["files"] == {file: entry["sha256"] for file, entry in parent["files"].items()}
    words = json.dumps(found).lower()
    assert "performed" in words
    assert "measured" in words
    assert "guaranteed" not in words
    assert "descend from a network that had learned the labels" in predicate["says"]


def test_a_receipt_that_is_signed_again_is_true_of_a_version_of_an_earlier_release(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The specs of release 0.1.0 lack the number of Gaussians, and its versions have Fisher information."""
    monkeypatch.setattr(served.worker, "manifest", {"spec": {"slots": 3}})
    job_id = forgotten(served, name)
    first = receipt(served, job_id).content
    served.http.post(f"/v1/models/{name}/forget", json={"labels": ["3"], "purge": True}).raise_for_status()
    served.sweep()
    assert receipt(served, job_id).content != first
    assert fisher_state(served, job_id) == "stored"


def test_a_receipt_does_not_guess_what_a_lost_manifest_would_tell(served: Served, name: str) -> None:
    job_id = forgotten(served, name)
    version = served.http.get(f"/v1/models/{name}/versions/3").json()
    manifest = served.path(version["files"]["manifest.json"]["sha256"])
    moved = manifest.rename(manifest.with_suffix(".moved"))  # all models of this server have the same one
    try:
        assert fisher_state(served, job_id) == "unknown"
    finally:
        moved.rename(manifest)


def test_a_receipt_waits_until_another_forget_of_the_model_has_purged_what_it_says_is_purged(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.worker, "manifest", {"spec": {"slots": 3, "components": 1}})
    job_id = forgotten(served, name)
    served.done(name, "forget", labels=["2"], purge=True)
    assert problem(receipt(served, job_id)) == (409, "receipt_not_ready")
    served.sweep()
    predicate = statement(served, job_id)["predicate"]
    details = {one["store"]: one["detail"] for one in predicate["stores"]}
    assert [one["state"] for one in predicate["older_versions"]] == ["purged"]
    assert details["weights"].endswith("The file of its weights was deleted later.")
    assert details["pictures of forgotten labels"].startswith("Those of version 3 were deleted later")
    assert fisher_state(served, job_id) == "not stored"


def fisher_state(served: Served, job_id: str) -> str:
    entries = statement(served, job_id)["predicate"]["stores"]
    [state] = [one["state"] for one in entries if one["store"] == "Fisher information"]
    return str(state)


def test_the_same_receipt_is_answered_ever_after_whoever_signed_it(served: Served, name: str) -> None:
    requested, swept = forgotten(served, name), forgotten(served, f"{name}-swept")
    first = receipt(served, requested)
    served.sweep()
    assert receipt(served, requested).content == first.content
    assert receipt(served, swept).status_code == 200
    links = served.http.get(f"/v1/jobs/{requested}").json()["links"]
    assert links["receipt"] == f"/v1/jobs/{requested}/receipt"
    assert served.http.get(links["version"]).json()["links"]["receipt"] == links["receipt"]


def test_a_dropped_network_is_distinguished_from_changed_weights(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1"])
    served.done(name, "learn", labels=["9"], retention="temporary")
    job_id = served.done(name, "forget", labels=["9"]).job_id
    served.done(name, "learn", labels=["9"])  # permanently, and before anybody asks for the receipt
    predicate = statement(served, job_id)["predicate"]
    assert "descend" not in predicate["says"], "these weights are gone"
    weights = predicate["stores"][0]
    assert weights["state"] == "dropped"
    assert "The main network never learned these labels" in weights["detail"]


def test_only_a_forget_that_succeeded_has_a_receipt(served: Served, name: str) -> None:
    forgotten(served, name)
    learned = served.http.get(f"/v1/models/{name}/versions/1").json()["job"]
    assert problem(receipt(served, learned)) == (404, "receipt_not_found")
    job_id = served.submit(name, "forget", labels=["2"])["id"]
    assert problem(receipt(served, job_id)) == (409, "receipt_not_ready")
    served.worker.fail(served.worker.claim(job_id))
    assert problem(receipt(served, job_id)) == (404, "receipt_not_found")


@pytest.mark.usefixtures("own_decoders")
def test_a_purge_is_seen_pending_then_done_and_only_then_there_is_a_receipt(
    served: Served, name: str
) -> None:
    job_id = forgotten(served, name, purge=True)
    job = served.http.get(f"/v1/jobs/{job_id}").json()
    assert (job["purge"]["state"], job["purge"]["files_deleted"]) == ("pending", 0)
    assert problem(receipt(served, job_id)) == (409, "receipt_not_ready")
    served.sweep()
    purge = served.http.get(f"/v1/jobs/{job_id}").json()["purge"]
    assert (purge["state"], purge["reason"]) == ("done", "requested")
    predicate = statement(served, job_id)["predicate"]
    gone = predicate["purge"]["keys_gone"]
    assert (purge["files_deleted"], purge["bytes_deleted"], purge["files_kept"]) == (
        5,
        sum(file["bytes"] for file in gone),
        0,
    )
    assert [(file["version"], file["file"]) for file in gone] == [
        (2, "checkpoint.safetensors"),
        (2, "decoder.onnx"),
        (3, "before-1.png"),
        (3, "before-2.png"),
        (3, "before-3.png"),
    ]
    for file in ("before-1.png", "before-3.png"):
        taken = served.http.get(f"/v1/models/{name}/versions/3/files/{file}")
        assert problem(taken) == (410, "file_purged")
    assert predicate["asked"]["purge"]
    assert predicate["older_versions"][0]["state"] == "purged"
    listed = served.http.get(f"/v1/jobs?model={name}").json()["data"]
    assert listed[0]["purge"] == purge
    assert [one["purge"] for one in listed[1:]] == [None, None]


def test_a_purged_version_answers_410_for_everything_but_its_evidence(served: Served, name: str) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    drawn = served.http.post(f"/v1/models/{name}/samples", json={"labels": ["1"], "seed": 4})
    job_id = served.done(name, "forget", labels=["2"], purge=True).job_id
    address = f"/v1/models/{name}/versions/1"
    for _ in range(2):  # marked as purged, then also without files
        for path in ("images/1/0.png", "files/decoder.onnx", "files/checkpoint.safetensors"):
            assert problem(served.http.get(f"{address}/{path}")) == (410, "version_purged")
        again = served.http.get(f"/v1/samples/{drawn.headers['X-Sample-Id']}/images")
        assert problem(again) == (410, "version_purged")
        body = {"labels": ["1"], "version": 1}
        assert problem(served.http.post(f"/v1/models/{name}/samples", json=body)) == (410, "version_purged")
        for path in ("report", "files/report.json", "files/manifest.json", "lineage"):
            assert served.http.get(f"{address}/{path}").status_code == 200
        assert served.http.get(address).json()["purged_by"] == job_id
        served.sweep()
    assert served.http.get(f"/v1/models/{name}/versions/2/images/1/0.png").status_code == 200


@pytest.mark.usefixtures("own_decoders")
def test_a_version_purged_between_its_row_and_its_file_is_a_410(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.model(name)
    served.done(name, "learn", labels=["1", "2"])
    draw = Generator.draw

    def purge_first(self: Generator, decoder: str, **how: Any) -> Any:
        served.done(name, "forget", labels=["2"], purge=True)
        served.sweep()
        return draw(self, decoder, **how)

    monkeypatch.setattr(Generator, "draw", purge_first)
    answer = served.http.get(f"/v1/models/{name}/versions/1/images/1/0.png")
    assert problem(answer) == (410, "version_purged")


@pytest.mark.usefixtures("own_decoders")
def test_a_purged_decoder_leaves_the_memory_of_the_server(served: Served, name: str) -> None:
    served.model(name)
    published = served.done(name, "learn", labels=["1", "2"]).files["decoder.onnx"]["sha256"]
    served.http.get(f"/v1/models/{name}/versions/1/images/1/0.png")
    loaded = served.app.state.context.generator._decoders
    assert published in loaded
    served.done(name, "forget", labels=["2"], purge=True)
    served.sweep()
    wait_for("the decoder is forgotten", lambda: published not in loaded)


def test_the_private_key_is_its_owners_alone_and_in_no_answer(served: Served) -> None:
    key = served.http.get("/v1/keys/signing").json()
    assert set(key) == {"object", "keyid", "algorithm", "public_key", "created_at", "retired_at"}
    private: Path = served.settings.keys / "signing.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in json.dumps(key)
    assert served.http.get("/v1/keys/signing").json() == key
