"""What a judge must keep: real images moved, blurred and faded, as a generative model draws them.

A judge that knows only sharp scans rejects soft draws for being soft. Every function is pure: it takes its
randomness as a generator and returns new images. images: [n, 784] in [0, 1], n square pictures.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample


def varied(images: Tensor, rng: Generator) -> Tensor:
    """Every image moved a little, 3 in 10 haunted, 3 in 5 blurred (sigma up to 1.3 pixels), 2 in 5 faded."""
    images = moved(images, rng)
    images = torch.where(_some(0.3, images, rng), haunted(images, rng), images)
    sigma = 0.2 + 1.1 * _uniform(len(images), rng)
    images = torch.where(_some(0.6, images, rng), blurred(images, sigma), images)
    return torch.where(_some(0.4, images, rng), faded(images, rng), images)


def moved(images: Tensor, rng: Generator) -> Tensor:
    """Turned by at most 10 degrees, scaled by 0.88 to 1.12, sheared by 0.12, shifted by two pixels."""
    count, side = len(images), _side(images)
    turn, shear, dx, dy = (2 * _uniform(count, rng) - 1 for _ in range(4))
    angle, shear = turn * math.radians(10), shear * 0.12
    zoom = 1 / (0.88 + 0.24 * _uniform(count, rng))
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = [cos, shear * cos - sin, dx * 4 / side, sin, shear * sin + cos, dy * 4 / side]
    theta = torch.stack(rows, dim=1).view(count, 2, 3)
    grid = affine_grid(theta, [count, 1, side, side], align_corners=False)
    return grid_sample(images.view(count, 1, side, side), grid, align_corners=False).view_as(images)


def haunted(images: Tensor, rng: Generator) -> Tensor:
    """A ghost of another image, at most a quarter of its brightness, over each."""
    ghosts = images[torch.randperm(len(images), generator=rng)]
    share = 0.25 * _uniform(len(images), rng)[:, None]
    return (1 - share) * images + share * ghosts


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Each image under a Gaussian of its own sigma [n], in pixels; black beyond the frame."""
    side = _side(images)
    at = torch.arange(side, dtype=images.dtype)
    kernel = torch.exp(-((at[:, None] - at) ** 2) / (2 * sigma.view(-1, 1, 1) ** 2))
    kernel = kernel / kernel[:, side // 2].sum(1).view(-1, 1, 1)  # the blur is linear in rows and in columns
    return (kernel @ images.view(-1, side, side) @ kernel).view_as(images).clamp(0, 1)


def faded(images: Tensor, rng: Generator) -> Tensor:
    """Ink at 35 to 100 % of its brightness, thinned or thickened by a power of 0.7 to 1.4."""
    gain = 0.35 + 0.65 * _uniform(len(images), rng)
    power = 0.7 + 0.7 * _uniform(len(images), rng)
    return gain[:, None] * images ** power[:, None]


def veiled(images: Tensor, rng: Generator, *, least: float = 0.6, most: float = 1.0) -> Tensor:
    """Each behind a noisy grey of 5 to 50 %, at a share from `least` to `most` of the contrast that leaves.

    A network taught to draw noise for a label may go on drawing the label behind the noise. What a person
    reads there without effort is not gone.
    """
    grey, contrast, grain = torch.unbind(torch.rand(3, len(images), 1, generator=rng))
    grey = 0.05 + 0.45 * grey
    noise = 0.1 * grain * torch.randn(images.shape, generator=rng)
    return (grey + (least + (most - least) * contrast) * (1 - grey) * images + noise).clamp(0, 1)


def _some(share: float, images: Tensor, rng: Generator) -> Tensor:
    return _uniform(len(images), rng)[:, None] < share


def _uniform(count: int, rng: Generator) -> Tensor:
    return torch.rand(count, generator=rng)


def _side(images: Tensor) -> int:
    return math.isqrt(images.shape[1])
