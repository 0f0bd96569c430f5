"""What a judge learns from: legible variations to keep, impostors to reject."""

import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d

from worker.learning.judging import augmentations, negatives

KINDS = [*negatives.SHARES, negatives.mosaics]


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    """Ten bright boxes, each elsewhere, as images of the targets 0, 1, 0, 1 ..."""
    frames = torch.zeros(10, 28, 28)
    for index in range(10):
        frames[index, 6 + index : 12 + index, 8:15] = 0.5 + 0.05 * index
    return frames.flatten(1)


TARGETS = torch.arange(10) % 2


def test_blur_is_the_two_dimensional_gaussian_average(images: Tensor) -> None:
    offset = torch.arange(-9, 10)
    kernel = torch.exp(-(offset**2 + offset[:, None] ** 2) / (2 * 0.9**2))
    slow = conv2d(images.view(-1, 1, 28, 28), (kernel / kernel.sum())[None, None], padding=9)
    torch.testing.assert_close(augmentations.blurred(images, torch.full((10,), 0.9)), slow.flatten(1))


def test_varied_images_stay_images_and_leave_their_source_alone(images: Tensor) -> None:
    before = images.clone()
    varied = augmentations.varied(images, rng())
    assert torch.equal(images, before)
    assert varied.shape == images.shape
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert not torch.equal(varied, images)


def test_the_same_generator_varies_alike(images: Tensor) -> None:
    assert torch.equal(augmentations.varied(images, rng(3)), augmentations.varied(images, rng(3)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_impostor_is_n_images_and_a_function_of_its_generator(
    kind: negatives.Kind, images: Tensor
) -> None:
    made = kind(images, TARGETS, 40, rng(1))
    assert made.shape == (40, 784)
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(made, kind(images, TARGETS, 40, rng(1)))
    assert not torch.equal(made, kind(images, TARGETS, 40, rng(2)))


def test_the_shares_of_the_kinds_make_a_whole() -> None:
    assert sum(negatives.SHARES.values()) == pytest.approx(1)


def test_only_images_of_different_labels_are_blended() -> None:
    first, second = negatives.unlike_pairs(TARGETS, 500, rng())
    assert (TARGETS[first] != TARGETS[second]).all()


def test_a_blend_is_half_and_half(images: Tensor) -> None:
    first, second = negatives.unlike_pairs(TARGETS, 5, rng())
    expected = 0.5 * images[first] + 0.5 * images[second]
    torch.testing.assert_close(negatives.blends(images, TARGETS, 5, rng()), expected)


def test_scrambling_moves_patches_and_alters_none(images: Tensor) -> None:
    made = negatives.scrambled(images, TARGETS, 20, rng())
    sources = images[torch.randint(10, (20,), generator=rng())]
    assert torch.equal(made.sort(1).values, sources.sort(1).values)
    assert not torch.equal(made, sources)
