"""The bundled digits look like MNIST, and their split into train and test images never changes."""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from service.drawing.examples import read_sheet
from worker.learning.datasets import Dataset, load


@lru_cache
def digits() -> Dataset:
    return load("digits", Path("no such folder: bundled"))


def all_images() -> Tensor:
    return torch.cat([split[label] for split in (digits().train, digits().test) for label in digits().labels])


def test_there_are_all_1797_digits_as_28x28_bytes() -> None:
    assert all_images().shape == (1797, 784)
    assert all_images().dtype == torch.uint8
    assert digits().labels == tuple("0123456789")


def test_each_label_has_a_fifth_of_its_images_in_the_test_split() -> None:
    for label in digits().labels:
        train, test = len(digits().train[label]), len(digits().test[label])
        assert test == (train + test) // 5


def test_no_image_is_in_both_splits() -> None:
    seen = {image.numpy().tobytes() for label in digits().labels for image in digits().train[label]}
    held_out = {image.numpy().tobytes() for label in digits().labels for image in digits().test[label]}
    assert not seen & held_out


def test_reading_twice_gives_the_same_bytes() -> None:
    assert load("digits", Path("elsewhere")).sha256() == digits().sha256()


def test_the_ink_is_white_on_black_in_a_box_of_20_pixels() -> None:
    images = all_images().view(-1, 28, 28)
    assert (images[:, [0, -1]] > 0).any((1, 2)).float().mean() < 0.01  # hardly any touches the frame's edge
    assert (images.amax((1, 2)) == 255).float().mean() > 0.99
    inked = images >= 64
    height, width = inked.any(2).sum(1), inked.any(1).sum(1)
    longer = torch.maximum(height, width).float()
    assert longer.min() >= 17
    assert longer.max() <= 22
    assert abs(longer.mean().item() - 20) < 0.6


def test_the_centre_of_mass_is_in_the_middle_of_the_frame() -> None:
    images = all_images().view(-1, 28, 28).float()
    at = torch.arange(28) + 0.5
    for weights in (images.sum(1), images.sum(2)):
        middle = (weights * at).sum(1) / weights.sum(1)
        assert (middle - 14).abs().max() < 1


def test_edges_are_smooth_and_ink_is_as_plentiful_as_mnists() -> None:
    images = all_images().float() / 255
    assert 0.11 < images.mean() < 0.16  # MNIST: 0.131
    assert 0.07 < ((images > 0.05) & (images < 0.9)).float().mean() < 0.15  # MNIST: 0.095


def test_the_sheet_that_the_service_shows_has_their_first_images() -> None:
    for row, label in enumerate(digits().labels):
        shown, total = read_sheet("digits", row, first=0, count=100)
        own = digits().train[label][:total].view(-1, 28, 28)
        assert (torch.from_numpy(shown.copy()).int() - own.int()).abs().max() <= 1, label
