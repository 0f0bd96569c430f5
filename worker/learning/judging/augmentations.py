"""Augmentations: variants of real images that a classifier must still recognise.

A judge that is trained only on sharp scans rejects draws because they are blurred. Every function takes its
randomness as a generator and returns new images. images: [n, side * side], n square images in [0, 1].
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample


def augment(images: Tensor, rng: Generator) -> Tensor:
    """Transform every image a little, overlay 30 %, blur 60 % (sigma up to 1.3 pixels), fade 40 % of them."""
    images = transform(images, rng)
    images = torch.where(_chosen(0.3, images, rng), overlay_another(images, rng), images)
    images = blur_some(images, rng)
    return torch.where(_chosen(0.4, images, rng), fade(images, rng), images)


def blur_some(images: Tensor, rng: Generator) -> Tensor:
    """Blur 60 % of the images, with a sigma of up to 1.3 pixels."""
    sigma = 0.2 + 1.1 * _uniform(len(images), rng)
    return torch.where(_chosen(0.6, images, rng), blur(images, sigma), images)


def transform(images: Tensor, rng: Generator) -> Tensor:
    """Rotate by up to 10 degrees, scale by 0.88 to 1.12, shear by up to 0.12, shift by up to two pixels."""
    count, side = len(images), _side(images)
    turn, shear, dx, dy = (2 * _uniform(count, rng) - 1 for _ in range(4))
    angle, shear = turn * math.radians(10), shear * 0.12
    zoom = 1 / (0.88 + 0.24 * _uniform(count, rng))
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = [cos, shear * cos - sin, dx * 4 / side, sin, shear * sin + cos, dy * 4 / side]
    theta = torch.stack(rows, dim=1).view(count, 2, 3)
    grid = affine_grid(theta, [count, 1, side, side], align_corners=False)
    return grid_sample(images.view(count, 1, side, side), grid, align_corners=False).view_as(images)


def overlay_another(images: Tensor, rng: Generator) -> Tensor:
    """Mix each image with another of the batch, whose share is at most a quarter."""
    others = images[torch.randperm(len(images), generator=rng)]
    share = 0.25 * _uniform(len(images), rng)[:, None]
    return (1 - share) * images + share * others


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Convolve each image with a Gaussian of its own sigma [n], in pixels. Outside the frame it is black."""
    side = _side(images)
    at = torch.arange(side, dtype=images.dtype)
    kernel = torch.exp(-((at[:, None] - at) ** 2) / (2 * sigma.view(-1, 1, 1) ** 2))
    kernel = kernel / kernel[:, side // 2].sum(1).view(-1, 1, 1)
    return (kernel @ images.view(-1, side, side) @ kernel).view_as(images).clamp(0, 1)  # rows, then columns


def fade(images: Tensor, rng: Generator) -> Tensor:
    """Dim the strokes to 35-100 % of their brightness, and thin or thicken them by a power of 0.7 to 1.4."""
    gain = 0.35 + 0.65 * _uniform(len(images), rng)
    power = 0.7 + 0.7 * _uniform(len(images), rng)
    return gain[:, None] * images ** power[:, None]


def add_noisy_background(
    images: Tensor, rng: Generator, *, least_contrast: float = 0.6, most_contrast: float = 1.0
) -> Tensor:
    """Put each image on a noisy grey of 5 to 50 %, with a share of the contrast that the grey leaves.

    A network that was trained to draw noise for a label may still draw the label under the noise. If a person
    can read it easily, the label is not forgotten.
    """
    grey, contrast, grain = torch.unbind(torch.rand(3, len(images), 1, generator=rng))
    grey = 0.05 + 0.45 * grey
    noise = 0.1 * grain * torch.randn(images.shape, generator=rng)
    contrast = least_contrast + (most_contrast - least_contrast) * contrast
    return (grey + contrast * (1 - grey) * images + noise).clamp(0, 1)


def _chosen(share: float, images: Tensor, rng: Generator) -> Tensor:
    """Choose a share of the images at random: bool [n, 1]."""
    return _uniform(len(images), rng)[:, None] < share


def _uniform(count: int, rng: Generator) -> Tensor:
    return torch.rand(count, generator=rng)


def _side(images: Tensor) -> int:
    return math.isqrt(images.shape[1])
