"""Images over HTTP: the same address, the same pixels; none from a revoked version or a corrupt file."""

import base64
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.api.batched_drawing import BatchedDrawing
from service.drawing.decoders import Generator
from service.settings import Settings
from tests.api.serving import Served, serving


@pytest.fixture(scope="module")
def drawn(served: Served) -> Served:
    """`drawing`: learned 1, 2, 3 (version 1), forgot 3 (version 2, which revokes 1)."""
    served.model("drawing")
    served.done("drawing", "learn", labels=["1", "2", "3"])
    served.done("drawing", "forget", labels=["3"])
    return served


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return np.asarray(image)


def png(served: Served, label: str, seed: int, query: str = "", version: int = 2) -> bytes:
    path = f"/v1/models/drawing/versions/{version}/images/{label}/{seed}.png{query}"
    answer = served.http.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png"), answer.text
    return answer.content


def sample(served: Served, **body: Any) -> Any:
    answer = served.http.post("/v1/models/drawing/samples", json=body)
    assert answer.status_code == 200, answer.text
    return answer


def test_the_same_address_gives_the_same_bytes(drawn: Served) -> None:
    assert png(drawn, "1", 7) == png(drawn, "1", 7)
    assert pixels(png(drawn, "1", 7)).shape == (28, 28)
    different = [png(drawn, "1", 7), png(drawn, "1", 8), png(drawn, "2", 7)]
    assert len(set(different)) == 3


def test_scale_repeats_pixels_and_a_grid_holds_the_next_seeds(drawn: Served) -> None:
    single = pixels(png(drawn, "1", 7))
    assert np.array_equal(pixels(png(drawn, "1", 7, "?scale=4"))[::4, ::4], single)
    page = pixels(png(drawn, "1", 7, "?grid=2x3"))
    assert page.shape == (56, 84)
    for index in range(6):
        row, column = divmod(index, 3)
        part = page[row * 28 : row * 28 + 28, column * 28 : column * 28 + 28]
        assert np.array_equal(part, pixels(png(drawn, "1", 7 + index)))


def test_an_image_is_cached_for_a_minute_and_then_revalidated(drawn: Served) -> None:
    path = "/v1/models/drawing/versions/2/images/1/7.png"
    first = drawn.http.get(path)
    again = drawn.http.get(path, headers={"If-None-Match": f'"other", W/{first.headers["ETag"]}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert first.headers["Cache-Control"] == "private, max-age=60"
    others = ("1/8.png", "2/7.png", "1/7.png?scale=2", "1/7.png?grid=1x2")
    tags = {
        drawn.http.get(f"/v1/models/drawing/versions/2/images/{other}").headers["ETag"] for other in others
    }
    assert len(tags | {first.headers["ETag"]}) == 5


def test_a_revoked_image_is_a_410_even_for_a_client_that_has_it(drawn: Served) -> None:
    drawn.model("revoked")
    drawn.done("revoked", "learn", labels=["1", "2"])
    path = "/v1/models/revoked/versions/1/images/1/0.png"
    known = {"If-None-Match": drawn.http.get(path).headers["ETag"]}
    assert drawn.http.get(path, headers=known).status_code == 304
    drawn.done("revoked", "forget", labels=["2"])
    gone = drawn.http.get(path, headers=known)
    assert (gone.status_code, gone.json()["code"]) == (410, "version_revoked")


def test_a_sample_is_recorded_and_drawn_again_to_the_last_pixel(drawn: Served) -> None:
    before = drawn.counts()["samples"]
    answer = sample(drawn, labels=["1", "2"], count=5, seed=3)
    assert answer.headers["Content-Type"] == "image/png"
    record = drawn.http.get(f"/v1/samples/{answer.headers['X-Sample-Id']}").json()
    assert drawn.counts()["samples"] == before + 1
    assert record["links"]["self"] == answer.headers["Location"]
    assert {name: record[name] for name in ("object", "version", "labels", "count", "seed", "format")} == {
        "object": "sample",
        "version": 2,
        "labels": ["1", "2"],
        "count": 5,
        "seed": 3,
        "format": "png_grid",
    }
    again = drawn.http.get(record["links"]["images"])
    assert (again.status_code, again.content) == (200, answer.content)
    assert drawn.counts()["samples"] == before + 1


@pytest.mark.parametrize("format", ["png_grid", "npz", "b64_json"])
def test_every_format_holds_the_images_of_their_own_addresses(drawn: Served, format: str) -> None:
    answer = sample(drawn, labels=["2", "1"], count=3, seed=10, format=format)
    expected = [(label, seed, pixels(png(drawn, label, seed))) for label in "21" for seed in (10, 11, 12)]
    if format == "npz":
        with np.load(io.BytesIO(answer.content), allow_pickle=False) as archive:
            found = list(
                zip(archive["labels"].tolist(), archive["seeds"].tolist(), archive["images"], strict=True)
            )
    elif format == "b64_json":
        data = answer.json()["data"]
        found = [(one["label"], one["seed"], pixels(base64.b64decode(one["b64_json"]))) for one in data]
    else:
        page = pixels(answer.content)
        corner = (4, page.shape[1] - 3 * 60)
        places = [(corner[0] + row * 60, corner[1] + column * 60) for row in range(2) for column in range(3)]
        tiles = [page[top : top + 56 : 2, left : left + 56 : 2] for top, left in places]
        found = [(label, seed, tile) for (label, seed, _), tile in zip(expected, tiles, strict=True)]
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    for (_, _, image), (_, _, wanted) in zip(found, expected, strict=True):
        assert np.array_equal(image, wanted)
    again = drawn.http.get(f"/v1/samples/{answer.headers['X-Sample-Id']}/images")
    assert again.content == answer.content


def test_a_webp_has_the_pixels_of_the_grid_and_always_the_same_bytes(drawn: Served) -> None:
    body: dict[str, Any] = {"labels": ["2", "1"], "count": 3, "seed": 10}
    grid = sample(drawn, **body)
    first, again = (sample(drawn, **body, format="webp") for _ in range(2))
    assert first.headers["Content-Type"] == "image/webp"
    assert first.content == again.content
    with Image.open(io.BytesIO(first.content), formats=["WEBP"]) as image:
        assert np.array_equal(np.asarray(image.convert("L")), pixels(grid.content))
    recorded = drawn.http.get(f"/v1/samples/{first.headers['X-Sample-Id']}/images")
    assert (recorded.content, recorded.headers["Content-Type"]) == (first.content, "image/webp")


def test_a_single_png_is_the_image_of_its_address(drawn: Served) -> None:
    answer = sample(drawn, labels=["1"], seed=7, format="png")
    assert answer.content == png(drawn, "1", 7)


def test_a_seed_not_given_is_chosen_and_recorded(drawn: Served) -> None:
    first, second = (sample(drawn, labels=["1"], format="png") for _ in range(2))
    assert first.content != second.content
    seed = drawn.http.get(first.headers["Location"]).json()["seed"]
    assert first.content == png(drawn, "1", seed)


def test_a_sample_of_a_revoked_version_is_gone(drawn: Served) -> None:
    drawn.model("erased")
    drawn.done("erased", "learn", labels=["1", "2"])
    answer = drawn.http.post("/v1/models/erased/samples", json={"labels": ["1"], "seed": 0})
    drawn.done("erased", "forget", labels=["2"])
    images = drawn.http.get(f"{answer.headers['Location']}/images")
    assert (images.status_code, images.json()["code"]) == (410, "version_revoked")
    assert drawn.http.get(answer.headers["Location"]).status_code == 200, "the record stays"


def test_a_label_that_is_forgotten_while_it_is_drawn_is_not_handed_out(
    drawn: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn.model("racing")
    drawn.done("racing", "learn", labels=["1", "2"])
    before = drawn.counts()["samples"]
    draw = Generator.draw

    def draw_too_late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        drawn.done("racing", "forget", labels=["2"])
        return draw(*arguments, **options)

    monkeypatch.setattr(Generator, "draw", draw_too_late)
    answer = drawn.http.post("/v1/models/racing/samples", json={"labels": ["2"], "version": 1})
    assert (answer.status_code, answer.json()["code"]) == (410, "version_revoked")
    assert drawn.counts()["samples"] == before


@pytest.mark.parametrize("what", ["image", "recorded sample"])
def test_images_that_waited_while_their_version_was_revoked_are_not_sent(
    drawn: Served, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    model = f"waiting-{what[:5]}"
    drawn.model(model)
    drawn.done(model, "learn", labels=["1", "2"])
    path = f"/v1/models/{model}/versions/1/images/2/3.png"
    if what == "recorded sample":
        answer = drawn.http.post(f"/v1/models/{model}/samples", json={"labels": ["2"]})
        path = f"{answer.headers['Location']}/images"
    draw = Generator.draw

    def forget_after_drawing(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        images = draw(*arguments, **options)
        drawn.done(model, "forget", labels=["2"])
        return images

    monkeypatch.setattr(Generator, "draw", forget_after_drawing)
    monkeypatch.setattr(BatchedDrawing, "takes", lambda *arguments: False)  # as if it drew for long
    answer = drawn.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (410, "version_revoked")


@pytest.mark.parametrize("fault", ["flipped", "truncated", "empty", "deleted", "swapped"])
def test_a_corrupt_decoder_is_a_503_and_never_a_wrong_image(tmp_path: Path, fault: str) -> None:
    home = tmp_path / "home"
    with serving(Settings(home=home)) as served:
        served.model("drawing")
        versions = [served.done("drawing", "learn", labels=[label]) for label in "12"]
        good, bad = (served.path(v.files["decoder.onnx"]["sha256"]) for v in versions)
        data = bytearray(bad.read_bytes())
        if fault == "flipped":
            data[len(data) // 2] ^= 1
        broken = {
            "flipped": bytes(data),
            "truncated": bytes(data[: len(data) // 2]),
            "empty": b"",
            "swapped": good.read_bytes(),
        }
        if fault == "deleted":
            bad.unlink()
        else:
            bad.write_bytes(broken[fault])
        before = served.counts()
        for answer in (
            served.http.get("/v1/models/drawing/versions/2/images/1/0.png"),
            served.http.post("/v1/models/drawing/samples", json={"labels": ["1"], "seed": 0}),
            served.http.get("/v1/models/drawing/versions/2/files/decoder.onnx"),
        ):
            assert answer.status_code == 503
            assert answer.json()["code"] == ("artifact_missing" if fault == "deleted" else "artifact_corrupt")
            assert "Retry-After" in answer.headers
            assert str(home) not in answer.text
        assert served.counts() == before, "nothing is recorded"
        assert len(png(served, "1", 0, version=1)) > 0, "the version before still draws"


def test_a_loaded_version_still_draws_when_its_file_is_missing(tmp_path: Path) -> None:
    with serving(Settings(home=tmp_path / "home")) as served:
        served.model("drawing")
        version = served.done("drawing", "learn", labels=["1"])
        first = png(served, "1", 0, version=1)
        served.path(version.files["decoder.onnx"]["sha256"]).unlink()
        assert png(served, "1", 0, version=1) == first


def test_a_file_is_served_completely_with_its_sha256_as_etag(drawn: Served) -> None:
    version = drawn.http.get("/v1/models/drawing/versions/2").json()
    assert set(version["files"]) == {
        "decoder.onnx",
        "checkpoint.safetensors",
        "report.json",
        "manifest.json",
        "forgotten-3.png",
        "before-1.png",
        "before-2.png",
        "before-3.png",
    }
    for file in version["files"].values():
        answer = drawn.http.get(file["href"])
        assert answer.status_code == 200
        assert answer.headers["ETag"] == f'"{file["sha256"]}"'
        assert answer.headers["Content-Type"].startswith(file["media_type"])
        assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
        assert len(answer.content) == file["bytes"]
        again = drawn.http.get(file["href"], headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("requested", "status", "first", "end"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=10-", 206, 10, None),
        ("bytes=-10", 206, -10, None),
        ("bytes=5-100000000", 206, 5, None),
        ("bytes=-100000000", 206, 0, None),
        ("bytes=100000000-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=9-3", 200, 0, None),
        ("bytes=0-1,5-6", 200, 0, None),
        ("bytes=-", 200, 0, None),
        ("lines=0-1", 200, 0, None),
        ("bytes=" + "9" * 30 + "-", 200, 0, None),
    ],
)
def test_a_range_of_a_file_can_be_requested(
    drawn: Served, requested: str, status: int, first: int, end: int | None
) -> None:
    path = "/v1/models/drawing/versions/2/files/decoder.onnx"
    whole = drawn.http.get(path).content
    answer = drawn.http.get(path, headers={"Range": requested})
    assert answer.status_code == status
    if status == 416:
        assert answer.json()["code"] == "range_not_satisfiable"
        assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"
        return
    assert answer.content == whole[first:end]
    if status == 206:
        start = first % len(whole)
        assert (
            answer.headers["Content-Range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(whole)}"
        )


def test_a_range_is_only_given_of_the_file_that_the_client_began_with(drawn: Served) -> None:
    path = "/v1/models/drawing/versions/2/files/decoder.onnx"
    etag = drawn.http.get(path).headers["ETag"]
    resumed = drawn.http.get(path, headers={"Range": "bytes=0-9", "If-Range": etag})
    other = drawn.http.get(path, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (resumed.status_code, other.status_code) == (206, 200)


def test_evidence_of_a_revoked_version_stays(drawn: Served) -> None:
    version = drawn.http.get("/v1/models/drawing/versions/1").json()
    assert version["revoked_by"].startswith("job_")
    assert drawn.http.get(version["files"]["report.json"]["href"]).status_code == 200
    assert drawn.http.get(version["links"]["report"]).json()["retained"]["value"] == 0.951


def test_versions_list_their_labels_and_their_ancestors(drawn: Served) -> None:
    listed = drawn.http.get("/v1/models/drawing/versions").json()["data"]
    assert [(v["number"], v["parent"], v["operation"], v["labels"]) for v in listed] == [
        (2, 1, "forget", ["1", "2"]),
        (1, None, "learn", ["1", "2", "3"]),
    ]
    figures = listed[0]["figures"]
    assert (figures["retained"]["value"], figures["forgotten"]["value"]) == (0.951, 0.012)
    assert drawn.http.get(listed[0]["links"]["self"]).json() == listed[0]
    lineage = drawn.http.get(listed[0]["links"]["lineage"]).json()["data"]
    assert [ancestor["number"] for ancestor in lineage] == [2, 1]
    assert [one["number"] for one in drawn.http.get(listed[1]["links"]["lineage"]).json()["data"]] == [1]


def test_versions_and_lineage_are_paged(drawn: Served) -> None:
    for list_of in ("versions", "versions/2/lineage"):
        first = drawn.http.get(f"/v1/models/drawing/{list_of}?limit=1")
        assert first.json()["has_more"]
        second = drawn.http.get(first.links["next"]["url"])
        assert [v["number"] for v in first.json()["data"] + second.json()["data"]] == [2, 1]
        assert not second.json()["has_more"]
