"""Pixels become files without changing: nearest neighbour, exact grids, reproducible bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from service.drawing.images import Pixels, enlarge, grid, labelled_grid, npz, png, webp


def digits(n: int, *, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (n, 28, 28), dtype=np.uint8)


def opened(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        assert image.mode == "L"
        return np.asarray(image)


@pytest.mark.parametrize("scale", [1, 2, 16])
def test_enlarging_repeats_every_pixel(scale: int) -> None:
    (image,) = digits(1)
    large = enlarge(image, scale)
    assert large.shape == (28 * scale, 28 * scale)
    assert np.array_equal(large[scale // 2 :: scale, scale // 2 :: scale], image)
    assert np.array_equal(large, np.kron(image, np.ones((scale, scale), np.uint8)))


def test_a_grid_is_filled_row_by_row() -> None:
    images = digits(6)
    page = grid(images, 2, 3)
    assert page.shape == (56, 84)
    for index, image in enumerate(images):
        row, column = divmod(index, 3)
        assert np.array_equal(page[row * 28 : row * 28 + 28, column * 28 : column * 28 + 28], image)


def test_a_png_contains_exactly_the_pixels() -> None:
    (image,) = digits(1)
    assert np.array_equal(opened(png(image)), image)
    assert png(image) == png(image)


def test_a_webp_contains_exactly_the_pixels() -> None:
    (image,) = digits(1)
    data = webp(image)
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as opened_again:
        channels = np.asarray(opened_again)
    assert channels.shape == (28, 28, 3), "the format has no grey images"
    assert (channels == image[:, :, np.newaxis]).all()
    assert webp(image) == data


def test_a_labelled_grid_contains_every_image_and_a_name_for_each_row() -> None:
    rows = {"3": digits(4), "a long name": digits(4, seed=1)}
    page = labelled_grid(rows, scale=2, gap=4)
    margin = page.shape[1] - 4 * 60
    for row, images in enumerate(rows.values()):
        top = 4 + row * 60
        for column, image in enumerate(images):
            left = margin + column * 60
            assert np.array_equal(page[top : top + 56, left : left + 56], enlarge(image, 2))
        assert (page[top : top + 56, :margin] < 128).any(), "the row has its name beside it"
    assert np.array_equal(page, labelled_grid(rows, scale=2, gap=4))


def test_an_archive_is_read_without_pickle_and_always_has_the_same_bytes() -> None:
    images = digits(3)
    data = npz(list(images), ["3", "3", "sneaker"], [0, 1, 2**53 - 1])
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert np.array_equal(archive["images"], images)
        assert archive["labels"].tolist() == ["3", "3", "sneaker"]
        assert archive["seeds"].tolist() == [0, 1, 2**53 - 1]
    assert data == npz(list(images), ["3", "3", "sneaker"], [0, 1, 2**53 - 1])


def test_an_enlarged_image_takes_little_more_than_the_same_pixels_once() -> None:
    image = digits(1)[0]
    large = enlarge(image, 4)
    assert np.array_equal(opened(png(large, is_enlarged=True)), large)
    assert len(png(large, is_enlarged=True)) < 3 * len(png(image))
