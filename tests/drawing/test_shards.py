"""Shards are files that other programs read, and their bytes depend on their images alone."""

import io
import tarfile
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.drawing.shards import BLOCK, estimate_bytes, write_shard
from service.registry.export_plan import ExportPlan

LABELS = [f"label {number}" for number in range(12)]
PLAN = ExportPlan(LABELS, count=200, seed=5, shard_images=BLOCK + 100)


def pixels(first: int, end: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (PLAN.images, 28, 28), dtype=np.uint8)[first:end]


def blocks(shard: int, *, of: int = BLOCK) -> Iterator[NDArray[np.uint8]]:
    images = PLAN.range_of(shard)
    for first in range(images.first, images.end, of):
        yield pixels(first, min(first + of, images.end))


def written(format: str, shard: int, *, of: int = BLOCK) -> bytes:
    file = io.BytesIO()
    write_shard(file, format, PLAN, PLAN.range_of(shard), blocks(shard, of=of))
    return file.getvalue()


@pytest.mark.parametrize("shard", range(PLAN.shards))
def test_a_tar_archive_has_a_png_and_a_class_of_every_image(shard: int) -> None:
    images = PLAN.range_of(shard)
    with tarfile.open(fileobj=io.BytesIO(written("webdataset", shard))) as archive:
        found = [(member.name, member.mode, archive.extractfile(member)) for member in archive]
    names = [name for name, *_ in found]
    numbers = range(images.first, images.end)
    assert names == [f"{number:09}.{kind}" for number in numbers for kind in ("png", "cls")]
    assert {mode for _, mode, _ in found} == {0o644}
    content = {name: file.read() for name, _, file in found if file is not None}
    for number, image in zip(numbers, pixels(images.first, images.end), strict=True):
        assert content[f"{number:09}.cls"] == str(number % len(LABELS)).encode()
        with Image.open(io.BytesIO(content[f"{number:09}.png"]), formats=["PNG"]) as png:
            assert (np.asarray(png) == image).all()


def test_an_npz_archive_has_images_labels_and_seeds() -> None:
    with np.load(io.BytesIO(written("npz", 1)), allow_pickle=False) as arrays:
        images = PLAN.range_of(1)
        assert (arrays["images"] == pixels(images.first, images.end)).all()
        numbers = np.arange(images.first, images.end)
        assert arrays["labels"].tolist() == [LABELS[number % 12] for number in numbers]
        assert arrays["seeds"].tolist() == (5 + numbers // 12).tolist()


@pytest.mark.parametrize("format", ["npz", "webdataset"])
def test_the_blocks_in_which_images_come_change_no_byte(format: str) -> None:
    assert written(format, 0) == written(format, 0, of=100)


@pytest.mark.parametrize("format", ["npz", "webdataset"])
def test_the_size_is_known_before_an_image_is_drawn(format: str) -> None:
    total = sum(len(written(format, shard)) for shard in range(PLAN.shards))
    assert estimate_bytes(format, PLAN) <= total <= 1.01 * estimate_bytes(format, PLAN)


def test_every_image_is_in_one_shard() -> None:
    ranges = [PLAN.range_of(shard) for shard in range(PLAN.shards)]
    assert [number for one in ranges for number in range(one.first, one.end)] == list(range(PLAN.images))
