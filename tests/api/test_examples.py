"""Images of datasets: of uploads, of files in the data folder, and of those that come with the service."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.requests.catalog import DatasetEntry, read_catalog
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.requests.archives import as_npz

IMAGES = {
    label: np.random.default_rng(seed).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    for seed, label in enumerate(("bar", "ring"))
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with every dataset of the release; its data folder has the letters of EMNIST, two of each."""
    data = tmp_path_factory.mktemp("data")
    letters = entry("emnist_letters")
    assert letters.files is not None
    targets = np.repeat(np.arange(1, 27, dtype=np.uint8), 2)
    pixels = np.arange(52 * 784, dtype=np.uint32).astype(np.uint8).reshape(52, 28, 28)
    for name, header, content in ((letters.files.images, 16, pixels), (letters.files.targets, 8, targets)):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(bytes(header) + content.tobytes())
    settings = Settings(home=tmp_path_factory.mktemp("home"), data=data)
    with serving(settings, offered=read_catalog()) as served:
        yield served


def entry(name: str) -> DatasetEntry:
    return next(one for one in read_catalog().datasets if one.name == name)


def path(dataset: str, label: str, index: int | str, query: str = "") -> str:
    return f"/v1/datasets/{dataset}/labels/{label}/examples/{index}.png{query}"


def pixels(served: Served, url: str) -> NDArray[np.uint8]:
    answer = served.http.get(url)
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def upload(served: Served, name: str) -> None:
    answer = served.http.put(
        f"/v1/datasets/{name}", content=as_npz(IMAGES), headers={"Content-Type": "application/zip"}
    )
    assert answer.json()["viewable"] is True


def test_an_upload_shows_its_images_alone_and_in_a_grid(served: Served) -> None:
    upload(served, "doodles")
    assert np.array_equal(pixels(served, path("doodles", "ring", 5)), IMAGES["ring"][5])
    large = pixels(served, path("doodles", "bar", 0, "?scale=3"))
    assert np.array_equal(large[::3, ::3], IMAGES["bar"][0])
    grid = pixels(served, path("doodles", "bar", 4, "?grid=2x2"))
    assert np.array_equal(grid[:28, :28], IMAGES["bar"][4])
    assert np.array_equal(grid[:28, 28:], IMAGES["bar"][5])
    assert not grid[28:].any(), "filled up with black, and not with images of another label"


def test_deleted_images_are_shown_no_more_and_no_cache_may_show_them_unasked(served: Served) -> None:
    upload(served, "fading")
    first = served.http.get(path("fading", "bar", 0))
    assert first.headers["Cache-Control"] == "private, no-cache"
    known = {"If-None-Match": first.headers["ETag"]}
    assert served.http.get(path("fading", "bar", 0), headers=known).status_code == 304
    served.http.delete("/v1/datasets/fading/labels/bar")
    gone = served.http.get(path("fading", "bar", 0), headers=known)
    assert (gone.status_code, gone.json()["code"]) == (410, "images_deleted")
    for _ in range(2):  # before and after the sweeper moves what is left
        assert np.array_equal(pixels(served, path("fading", "ring", 1)), IMAGES["ring"][1])
        served.sweep()
    served.http.delete("/v1/datasets/fading")
    assert served.http.get(path("fading", "ring", 1)).json()["code"] == "dataset_not_found"


def test_files_in_the_data_folder_are_shown_the_right_way_round(served: Served) -> None:
    shown = pixels(served, path("emnist_letters", "b", 1))
    assert np.array_equal(shown.T.reshape(-1), np.arange(3 * 784, 4 * 784, dtype=np.uint32).astype(np.uint8))
    viewable = {one["name"]: one["viewable"] for one in served.http.get("/v1/datasets").json()["data"]}
    assert viewable["emnist_letters"]
    assert not viewable["emnist"], "its files are not there"
    assert served.http.get(path("emnist", "A", 0)).json()["code"] == "example_not_found"


def test_a_file_that_is_cut_off_is_an_error_with_advice(served: Served) -> None:
    letters = entry("emnist_letters").files
    assert letters is not None
    file = served.app.state.context.settings.data / letters.images
    whole = file.read_bytes()
    file.write_bytes(whole[:5000])
    try:
        refused = served.http.get(path("emnist_letters", "z", 0))
    finally:
        file.write_bytes(whole)
    assert (refused.status_code, refused.json()["code"]) == (503, "dataset_unreadable")
    assert "data folder" in refused.json()["detail"]


def test_digits_come_with_the_service(served: Served) -> None:
    assert pixels(served, path("digits", "0", 0, "?grid=2x4&scale=2")).any()
    sheet = Path("service/drawing/sheets/digits.png")
    with Image.open(sheet) as picture:
        own = np.asarray(picture)
    assert np.array_equal(pixels(served, path("digits", "7", 3)), own[7 * 28 : 8 * 28, 3 * 28 : 4 * 28])


@pytest.mark.parametrize(
    ("url", "status", "code"),
    [
        (path("nothing", "0", 0), 404, "dataset_not_found"),
        (path("digits", "x", 0), 404, "unknown_label"),
        (path("digits", "0", 8), 404, "example_not_found"),
        (path("digits", "0", -1), 422, None),
        (path("digits", "0", 0, "?grid=17x1"), 422, None),
        (path("digits", "0", 0, "?grid=16x16&scale=16"), 422, None),
    ],
)
def test_what_is_not_there_is_refused(served: Served, url: str, status: int, code: str | None) -> None:
    refused = served.http.get(url)
    assert refused.status_code == status
    assert code is None or refused.json()["code"] == code
