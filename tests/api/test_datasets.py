"""Datasets over HTTP: an upload is a dataset like the others, and never changes."""

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from service.registry import datasets
from service.registry.artifacts import Artifacts
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.requests.archives import as_arrays, as_folders, as_npz, doodles, drawings, npz

ZIP = {"Content-Type": "application/zip"}


def put(served: Served, name: str, archive: bytes) -> httpx2.Response:
    return served.http.put(f"/v1/datasets/{name}", content=archive, headers=ZIP)


def test_an_upload_is_a_dataset_like_the_others(served: Served, name: str) -> None:
    answer = put(served, name, as_npz(doodles()))
    assert (answer.status_code, answer.headers["Location"]) == (201, f"/v1/datasets/{name}")
    assert answer.json() == {
        "object": "dataset",
        "name": name,
        "title": "Uploaded: 12 images",
        "labels": ["bar", "ring"],
        "image_shape": [28, 28],
        "bundled": True,
        "images": {"bar": 6, "ring": 6},
        "test_images": {"bar": 1, "ring": 1},
        "deleted_labels": [],
        "conversions": [],
        "warnings": answer.json()["warnings"],
        "sha256": sha256(b"".join(one.tobytes() for one in doodles().values())).hexdigest(),
        "sent_sha256": sha256(as_npz(doodles())).hexdigest(),
        "previews": None,
        "viewable": True,
        "package": None,
    }
    assert served.http.get(f"/v1/datasets/{name}").json() == answer.json()
    for path in ("datasets", "catalog"):
        listed = served.http.get(f"/v1/{path}").json()
        assert name in [one["name"] for one in listed.get("data", listed.get("datasets"))]


def test_the_pixels_of_an_upload_are_stored_under_their_hash(served: Served, name: str) -> None:
    put(served, name, as_folders(doodles()))
    with served.worker.database.reading() as session:
        row = datasets.find(session, name)
    assert row is not None
    assert row.images == {"bar": 6, "ring": 6}
    assert served.worker.artifacts.read(row.sha256) == b"".join(one.tobytes() for one in doodles().values())


def test_the_same_images_in_either_kind_of_archive_change_nothing(served: Served, name: str) -> None:
    put(served, name, as_npz(doodles()))
    before = served.counts()
    for archive in (as_npz(doodles()), as_folders(doodles())):
        answer = put(served, name, archive)
        assert (answer.status_code, answer.json()["name"]) == (200, name)
    assert served.counts() == before


def test_other_images_under_the_same_name_are_refused(served: Served, name: str) -> None:
    put(served, name, as_npz(doodles()))
    renamed = {"bar": doodles()["bar"], "wheel": doodles()["ring"]}  # the same pixels
    for images in (doodles(seed=1), renamed):
        answer = put(served, name, as_npz(images))
        assert (answer.status_code, answer.json()["code"]) == (409, "dataset_exists")
    assert served.http.get(f"/v1/datasets/{name}").json()["labels"] == ["bar", "ring"]


def test_uploading_the_same_images_again_restores_a_lost_artifact(served: Served, name: str) -> None:
    images = doodles(seed=2)
    put(served, name, as_npz(images))
    with served.worker.database.reading() as session:
        row = datasets.find(session, name)
    assert row is not None
    served.path(row.sha256).unlink()
    assert put(served, name, as_npz(images)).status_code == 200
    assert len(served.worker.artifacts.read(row.sha256)) == 12 * 784


def test_of_simultaneous_uploads_one_is_new_and_all_are_answered(served: Served, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        same = list(pool.map(lambda _: put(served, name, as_npz(doodles())).status_code, range(8)))
        other = list(
            pool.map(lambda i: put(served, f"{name}-", as_npz(doodles(seed=i))).status_code, range(8))
        )
    assert sorted(same) == [200] * 7 + [201]
    assert sorted(other) == [201] + [409] * 7


def test_an_upload_needs_no_media_type(served: Served, name: str) -> None:
    """As `curl -T` sends it."""
    request = httpx2.Request("PUT", f"{served.address}/v1/datasets/{name}", content=as_npz(doodles()))
    assert "content-type" not in request.headers
    assert served.http.send(request).status_code == 201


def test_a_model_learns_from_an_uploaded_dataset(served: Served, name: str) -> None:
    put(served, name, as_npz(doodles()))
    created = served.http.post("/v1/models", json={"name": name, "dataset": name}).json()
    assert [(one["name"], one["status"]) for one in created["labels"]] == [
        ("bar", "absent"),
        ("ring", "absent"),
    ]
    served.done(name, "learn", labels=["ring"])
    served.done(name, "learn", labels=["1"], dataset="mnist")
    answer = served.http.post(f"/v1/models/{name}/learn", json={"labels": ["wheel"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_label")
    assert answer.json()["detail"].endswith("it has: bar, ring.")
    for found in (
        served.http.get(f"/v1/models/{name}").json(),
        served.http.get("/v1/models").json()["data"][0],
    ):
        statuses = [(one["name"], one["dataset"], one["status"]) for one in found["labels"]]
        assert statuses == [("bar", name, "absent"), ("ring", name, "permanent"), ("1", "mnist", "permanent")]


def test_a_model_of_another_dataset_learns_an_uploaded_label(served: Served, name: str) -> None:
    put(served, name, as_npz(doodles()))
    served.model(name)
    served.done(name, "learn", labels=["ring"], dataset=name, **{"as": {"ring": "circle"}})
    assert served.http.get(f"/v1/models/{name}").json()["labels"][-1]["source"] == "ring"


def test_an_upload_that_is_too_large_packed_or_unpacked_is_refused(tmp_path: Path) -> None:
    with serving(Settings(home=tmp_path / "home", max_upload_bytes=20_000)) as served:
        packed = put(served, "packed", as_npz(doodles(each=20)))
        assert (packed.status_code, packed.json()["code"]) == (413, "payload_too_large")
        blank = {"a": doodles(each=30)["bar"] * 0}
        assert len(as_npz(blank)) < 20_000
        unpacked = put(served, "unpacked", as_npz(blank))
        assert (unpacked.status_code, unpacked.json()["code"]) == (413, "payload_too_large")
        assert "unpacks to" in unpacked.json()["detail"]
        assert put(served, "small", as_npz(doodles())).status_code == 201
        assert [one["name"] for one in served.http.get("/v1/datasets").json()["data"]][2:] == ["small"]


def test_a_full_disk_is_a_507_and_leaves_no_dataset(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Artifacts, data: bytes) -> str:
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Artifacts, "put", full)
        answer = put(served, name, as_npz(doodles()))
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert served.http.get(f"/v1/datasets/{name}").status_code == 404
    assert put(served, name, as_npz(doodles())).status_code == 201


def test_an_upload_of_another_form_says_how_it_was_read_and_what_looks_wrong(
    served: Served, name: str
) -> None:
    images, labels = as_arrays(drawings())
    archive = npz(x=255 - images[:, None], y=labels)
    found = put(served, name, archive).json()
    assert [note["code"] for note in found["conversions"]] == ["arrays_by_name", "axes_reshaped"]
    assert [(note["code"], note["labels"]) for note in found["warnings"]] == [
        ("inverted", ["0", "1"]),
        ("too_few_to_judge", ["0", "1"]),
    ]
    assert found["sent_sha256"] == sha256(archive).hexdigest()
    assert found["sha256"] == sha256((255 - images).tobytes()).hexdigest()
    listed = served.http.get("/v1/datasets").json()["data"]
    assert next(one for one in listed if one["name"] == name) == found


def test_a_dry_run_answers_the_same_and_keeps_nothing(served: Served, name: str) -> None:
    archive = as_npz(drawings())
    before = served.counts()
    tried = put(served, f"{name}?dry_run=true", archive)
    assert served.counts() == before
    assert served.http.get(f"/v1/datasets/{name}").status_code == 404
    kept = put(served, name, archive)
    assert (tried.status_code, kept.status_code) == (201, 201)
    previews = tried.json()["previews"]
    assert {**tried.json(), "previews": None} == kept.json()
    with urllib.request.urlopen(previews["1"]) as file, Image.open(file) as strip:
        shown = np.asarray(strip).reshape(28, 6, 28).swapaxes(0, 1)
    assert shown.tolist() == drawings()["1"].tolist()
    again = put(served, f"{name}?dry_run=true", archive)
    assert (again.status_code, again.json()["previews"]) == (200, previews)
    other = put(served, f"{name}?dry_run=true", as_npz(drawings(seed=1)))
    assert (other.status_code, other.json()["code"]) == (409, "dataset_exists")
    refused = put(served, f"{name}-2?dry_run=true", b"no archive")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_archive")


def test_the_same_images_in_another_split_are_other_images(served: Served, name: str) -> None:
    images, labels = as_arrays(drawings(each=12, labels=("a",)))
    split = {"x_train": images[:9], "y_train": labels[:9], "x_test": images[9:], "y_test": labels[9:]}
    found = put(served, name, npz(**split)).json()
    assert (found["images"], found["test_images"]) == ({"a": 12}, {"a": 3})
    whole = put(served, name, npz(images=images, labels=labels))
    assert (whole.status_code, whole.json()["code"]) == (409, "dataset_exists")
    assert put(served, name, npz(**split)).status_code == 200


def test_images_of_another_size_are_scaled_only_where_that_is_requested(served: Served, name: str) -> None:
    archive = as_npz({"a": np.kron(drawings()["0"], np.ones((1, 2, 2), np.uint8))})
    refused = put(served, name, archive)
    assert (refused.status_code, "?fit=28" in refused.json()["detail"]) == (422, True)
    assert put(served, f"{name}?fit=32", archive).status_code == 422
    fitted = put(served, f"{name}?fit=28", archive)
    assert (fitted.status_code, fitted.json()["conversions"][-1]["code"]) == (201, "fitted")
