"""Negatives: images that a classifier must reject, such as noise, greys, blends, averages, scrambled patches.

Every kind is a function (images, targets, n, rng) -> [n, pixels] in [0, 1]. Some kinds are made from real
images [m, pixels] in [0, 1] with targets [m], the others from random numbers alone. There are no
partial digits: a judge trained to reject those rejected three quarters of the soft but readable draws.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from worker.learning.judging.augmentations import add_noisy_background, blur

Kind = Callable[[Tensor, Tensor, int, Generator], Tensor]


def uniform_noise(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Draw each pixel uniformly from [0, 1]."""
    return torch.rand(n, images.shape[1], generator=rng)


def other_noise(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Noise of any strength around a random grey, or a random share of white pixels; half of it blurred."""
    pixels = torch.rand(n, images.shape[1], generator=rng)
    level, strength, share, which, grain = torch.unbind(torch.rand(5, n, 1, generator=rng))
    noise = torch.where(which < 0.6, level + strength * (2 * pixels - 1), (pixels < share**2).float())
    return torch.where(grain < 0.5, noise.clamp(0, 1), blur(noise.clamp(0, 1), 0.3 + grain))


def clouds(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Smooth blobs: noise blurred by 1 to 4 pixels, stretched to full contrast, cut off at a random level."""
    sigma, cut, gain = torch.unbind(torch.rand(3, n, 1, generator=rng))
    smooth = blur(torch.rand(n, images.shape[1], generator=rng), 1 + 3 * sigma)
    low, high = smooth.amin(1, keepdim=True), smooth.amax(1, keepdim=True)
    return ((smooth - low) / (high - low) - 0.7 * cut).mul(1 + 3 * gain).clamp(0, 1)


def flat_grey(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """The same grey in every pixel, from black to white."""
    levels = torch.clamp(torch.rand(n, 1, generator=rng) * 1.2 - 0.1, 0, 1)
    return levels.repeat(1, images.shape[1])


def waves(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Sinusoidal gratings of any direction and contrast, with periods from 3 to 90 pixels."""
    at = torch.arange(math.isqrt(images.shape[1]))
    angle, length, phase, low, high = torch.unbind(torch.rand(5, n, 1, 1, generator=rng))
    along = (angle * math.tau).cos() * at + (angle * math.tau).sin() * at[:, None]
    wave = 0.5 + 0.5 * torch.sin(math.tau * (along / (3 * 30**length) + phase))
    return (low + (high - low) * wave).flatten(1)


def blends(images: Tensor, targets: Tensor, n: int, rng: Generator) -> Tensor:
    """The mean of two images of different labels."""
    first, second = pairs_of_different_targets(targets, n, rng)
    return (images[first] + images[second]) / 2


def other_blends(images: Tensor, targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Two images of different labels in shares of 33 to 67 %; half of them up to 1.5 times as bright."""
    first, second = pairs_of_different_targets(targets, n, rng)
    share, gain = torch.unbind(torch.rand(2, n, 1, generator=rng))
    share = 0.33 + 0.34 * share
    return ((share * images[first] + (1 - share) * images[second]) * (0.5 + gain).clamp(min=1)).clamp(0, 1)


def averages(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """The mean of 6 to 64 images of any labels."""
    weights = torch.rand(n, 64, generator=rng)
    count = torch.randint(6, 65, (n, 1), generator=rng)
    weights = (torch.arange(64) < count) * weights
    sources = images[torch.randint(len(images), (n, 64), generator=rng)]
    return torch.einsum("nk,nkp->np", weights / weights.sum(1, keepdim=True), sources)


def shadows(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Put images on a noisy grey, at up to 30 % of the contrast it leaves: too faint to count as a label."""
    sources = images[torch.randint(len(images), (n,), generator=rng)]
    return add_noisy_background(sources, rng, least_contrast=0.0, most_contrast=0.3)


def scrambled(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Images with their patches of 4x4 or 7x7 pixels in random order."""
    sources = images[torch.randint(len(images), (n,), generator=rng)]
    half = n // 2
    return torch.cat([_shuffle_patches(sources[:half], 4, rng), _shuffle_patches(sources[half:], 7, rng)])


def mosaics(images: Tensor, _targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Four quarters, each of another image. Not in SHARES: a judge is tested on them, not trained."""
    side = math.isqrt(images.shape[1])
    top, right = torch.arange(side)[:, None] < side // 2, torch.arange(side) >= side // 2
    quarter = (2 * top + right).flatten()
    sources = images[torch.randint(len(images), (n, 4), generator=rng)]
    return sources[:, quarter, torch.arange(side**2)]


SHARES: dict[Kind, float] = {
    blends: 0.30,
    other_blends: 0.24,
    scrambled: 0.08,
    shadows: 0.06,
    clouds: 0.07,
    averages: 0.07,
    other_noise: 0.07,
    uniform_noise: 0.04,
    flat_grey: 0.04,
    waves: 0.03,
}
"""How often each kind occurs among the negatives that a judge is trained on. Blends are the hardest."""


def draw_negatives(images: Tensor, targets: Tensor, n: int, rng: Generator) -> Tensor:
    """Make about n negatives of all kinds, in the proportions of SHARES, from images with targets."""
    return torch.cat([kind(images, targets, round(n * share), rng) for kind, share in SHARES.items()])


def pairs_of_different_targets(targets: Tensor, n: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Draw n pairs of indices whose targets differ, two int64 [n]. There have to be two different targets."""
    first = torch.randint(len(targets), (n,), generator=rng)
    second = torch.randint(len(targets), (n,), generator=rng)
    while (equal := targets[first] == targets[second]).any():
        second[equal] = torch.randint(len(targets), (int(equal.sum()),), generator=rng)
    return first, second


def _shuffle_patches(images: Tensor, size: int, rng: Generator) -> Tensor:
    side = math.isqrt(images.shape[1])
    per_side = side // size
    patches = (
        images.view(-1, per_side, size, per_side, size).transpose(2, 3).reshape(-1, per_side**2, size, size)
    )
    order = torch.rand(len(images), per_side**2, generator=rng).argsort(1)
    patches = patches[torch.arange(len(images))[:, None], order]
    return patches.view(-1, per_side, per_side, size, size).transpose(2, 3).reshape(-1, side**2)
