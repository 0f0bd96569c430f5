"""What a judge is trained on: augmented images that it must recognise, and negatives that it must reject."""

import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d

from worker.learning.judging import augmentations, negatives
from worker.learning.judging.training_batches import Training, TrainingBatches

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
    expected = conv2d(images.view(-1, 1, 28, 28), (kernel / kernel.sum())[None, None], padding=9)
    torch.testing.assert_close(augmentations.blur(images, torch.full((10,), 0.9)), expected.flatten(1))


def test_augmented_images_stay_images_and_leave_their_source_unchanged(images: Tensor) -> None:
    before = images.clone()
    augmented = augmentations.augment(images, rng())
    assert torch.equal(images, before)
    assert augmented.shape == images.shape
    assert augmented.min() >= 0
    assert augmented.max() <= 1
    assert not torch.equal(augmented, images)


def test_where_blur_is_the_only_augmentation_every_image_keeps_its_place_and_its_ink() -> None:
    box = torch.zeros(1, 28, 28, dtype=torch.uint8)
    box[:, 10:18, 11:17] = 200
    images = {"a": box.flatten(1).repeat(50, 1), "b": box.flatten(1).repeat(50, 1)}
    training = Training(unaugmented=0, noisy_background=0, real=100, only_blurred=True)
    shown, _ = TrainingBatches(images, ("a", "b"), training).draw()
    boxes = shown[:100].view(-1, 28, 28)
    torch.testing.assert_close(boxes.sum((1, 2)), torch.full((100,), 48 * 200 / 255))
    rows = torch.arange(28.0) @ boxes.sum(2).T
    torch.testing.assert_close(rows / boxes.sum((1, 2)), torch.full((100,), 13.5))
    changed = (boxes - box.float() / 255).abs().amax((1, 2)) > 1e-3
    assert 30 < int(changed.sum()) < 90, "most are blurred, and some are not"


def test_the_same_generator_augments_alike(images: Tensor) -> None:
    assert torch.equal(augmentations.augment(images, rng(3)), augmentations.augment(images, rng(3)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_negative_is_n_images_and_a_function_of_its_generator(
    kind: negatives.Kind, images: Tensor
) -> None:
    made = kind(images, TARGETS, 40, rng(1))
    assert made.shape == (40, 784)
    assert made.min() >= 0
    assert made.max() <= 1
    assert torch.equal(made, kind(images, TARGETS, 40, rng(1)))
    assert not torch.equal(made, kind(images, TARGETS, 40, rng(2)))


def test_the_shares_of_the_kinds_add_up_to_one() -> None:
    assert sum(negatives.SHARES.values()) == pytest.approx(1)


def test_only_images_of_different_labels_are_blended() -> None:
    first, second = negatives.pairs_of_different_targets(TARGETS, 500, rng())
    assert (TARGETS[first] != TARGETS[second]).all()


def test_a_blend_is_half_and_half(images: Tensor) -> None:
    first, second = negatives.pairs_of_different_targets(TARGETS, 5, rng())
    expected = 0.5 * images[first] + 0.5 * images[second]
    torch.testing.assert_close(negatives.blends(images, TARGETS, 5, rng()), expected)


def test_scrambling_moves_patches_and_alters_none(images: Tensor) -> None:
    made = negatives.scrambled(images, TARGETS, 20, rng())
    sources = images[torch.randint(10, (20,), generator=rng())]
    assert torch.equal(made.sort(1).values, sources.sort(1).values)
    assert not torch.equal(made, sources)


def test_a_batch_has_the_real_images_first_and_then_negatives_to_reject(images: Tensor) -> None:
    pixels = (255 * images).to(torch.uint8)
    images_of = {"even": pixels[::2], "odd": pixels[1::2]}
    unchanged = Training(steps=2, real=5, negatives=20, unaugmented=1, noisy_background=0)
    batches = TrainingBatches(images_of, ("even", "odd"), unchanged)
    (first, first_targets), (second, second_targets) = batches.draw(), batches.draw()
    assert (first_targets[5:] == 2).all()
    assert len(first) == len(first_targets) >= 20
    shown, targets = torch.cat([first[:5], second[:5]]), torch.cat([first_targets[:5], second_targets[:5]])
    expected = torch.cat([images_of["even"], images_of["odd"]]).float() / 255
    order = [int((expected == one).all(1).nonzero()) for one in shown]
    assert sorted(order) == list(range(10)), "each real image is shown before one is shown again"
    assert targets.tolist() == [0 if index < 5 else 1 for index in order]
