"""What clients see of a service whose artifacts lie in a bucket."""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from palimpsest import Palimpsest
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.requests.archives import as_npz
from tests.s3 import S3Server


@pytest.fixture(scope="module")
def served(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home: Path = tmp_path_factory.mktemp("home")
    url = f"s3://{s3.make_bucket()}/palimpsest"
    with serving(Settings(home=home, artifacts_url=url, signed_links=True)) as served:
        served.model("m")
        served.done("m", "learn", labels=["1", "2"])
        yield served


def test_weights_are_redirected_to_a_link_that_needs_no_key(served: Served) -> None:
    address = "/v1/models/m/versions/1/files/decoder.onnx"
    answer = served.http.get(address)
    assert answer.status_code == 307
    assert answer.headers["Cache-Control"] == "no-store"
    etag = answer.headers["ETag"]
    data = httpx2.get(answer.headers["Location"]).content
    assert hashlib.sha256(data).hexdigest() == etag.strip('"')
    part = served.http.get(address, headers={"Range": "bytes=3-5"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, data[3:6])
    assert served.http.get(address, headers={"If-None-Match": etag}).status_code == 304
    head = served.http.head(address)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(data)))
    with Palimpsest(served.address) as client:
        assert client.versions.file("m", 1, "decoder.onnx") == data


def test_what_pages_show_is_sent_by_the_service_itself(served: Served) -> None:
    answer = served.http.get("/v1/models/m/versions/1/files/manifest.json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")


def test_images_are_drawn_and_uploads_learned_from(served: Served) -> None:
    drawn = served.http.post("/v1/models/m/samples", json={"labels": ["1"], "seed": 1})
    assert drawn.status_code == 200
    pixels = np.arange(20 * 784, dtype=np.uint8).reshape(20, 28, 28)
    headers = {"Content-Type": "application/zip"}
    uploaded = served.http.put("/v1/datasets/doodles", content=as_npz({"doodle": pixels}), headers=headers)
    assert uploaded.status_code == 201
    assert served.http.get("/v1/datasets/doodles/labels/doodle/examples/0.png").status_code == 200
    assert served.http.delete("/v1/datasets/doodles").status_code == 204
    served.sweep()
    assert served.http.get("/v1/datasets/doodles").status_code == 404


def test_an_export_is_redirected_downloaded_and_deleted_with_every_old_version(
    served: Served, tmp_path: Path
) -> None:
    export = served.http.post("/v1/models/m/exports", json={"count": 5, "shard_images": 4}).json()
    served.worker.export(export["id"])
    [shard, *_] = served.http.get(f"/v1/exports/{export['id']}/shards").json()["data"]
    answer = served.http.get(shard["href"])
    assert (answer.status_code, answer.headers["ETag"]) == (307, f'"{shard["sha256"]}"')
    assert hashlib.sha256(httpx2.get(answer.headers["Location"]).content).hexdigest() == shard["sha256"]
    head = served.http.head(shard["href"])
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(shard["bytes"]))
    assert served.http.get(f"/v1/exports/{export['id']}/manifest").status_code == 200
    with Palimpsest(served.address) as client:
        client.exports.download(export["id"], tmp_path)
    assert (tmp_path / shard["file"]).stat().st_size == shard["bytes"]
    served.http.delete(f"/v1/exports/{export['id']}").raise_for_status()
    served.sweep()
    assert not served.worker.artifacts.exists(shard["sha256"])


def test_the_service_is_ready_and_writes_no_artifact_to_its_home(served: Served) -> None:
    assert served.http.get("/readyz").json()["checks"]["artifacts"] == "ok"
    assert not served.settings.artifacts.exists()


def test_a_link_that_was_made_before_a_forget_ends_with_its_file_and_the_receipt_says_so(
    served: Served,
) -> None:
    served.model("linked")
    served.done("linked", "learn", labels=["1", "2"])
    address = "/v1/models/linked/versions/1/files/checkpoint.safetensors"
    link = served.http.get(address).headers["Location"]
    forget = served.done("linked", "forget", labels=["2"])
    assert served.http.get(address).status_code == 410
    assert httpx2.get(link).status_code == 200
    served.sweep()
    receipt = served.http.get(f"/v1/jobs/{forget.job_id}/receipt").json()
    predicate = json.loads(base64.b64decode(receipt["payload"]))["predicate"]
    [bucket] = [entry["detail"] for entry in predicate["stores"] if entry["store"] == "bucket"]
    assert "a link works for 60 s after it was made, but no longer than its file is there" in bucket
    again = served.http.post("/v1/models/linked/forget", json={"labels": ["2"], "purge": True})
    assert again.status_code == 202
    served.sweep()
    assert httpx2.get(link).status_code == 404
