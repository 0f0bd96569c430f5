"""Measure how alike two networks are by their outputs: their draws, and their reconstructions of an image."""

from collections.abc import Iterable

import torch
from torch import Tensor

from worker.learning.networks.network import Network

PERMUTATIONS = 500


def energy_distance(one: Tensor, other: Tensor) -> float:
    """Return 2 E|X - Y| - E|X - X'| - E|Y - Y'| for two sets of features, [n, k] and [m, k].

    Szekely & Rizzo 2013, in the unbiased form: its mean is 0 for two samples of one distribution.
    """
    distances = _distances(one, other)
    return _energy(distances, torch.arange(len(distances)), len(one))


def permutation_p_value(
    one: Tensor, other: Tensor, rng: torch.Generator, permutations: int = PERMUTATIONS
) -> float:
    """Return the p-value, in (0, 1], of the hypothesis that both sets have one distribution.

    It is the share of random splits of all features, [n + m, k], into n and m whose energy distance is at
    least as large. It is small for any two different networks, even two references, so no verdict uses it.
    """
    distances = _distances(one, other)
    found, n = _energy(distances, torch.arange(len(distances)), len(one)), len(distances)
    as_large = sum(
        _energy(distances, torch.randperm(n, generator=rng), len(one)) >= found for _ in range(permutations)
    )
    return (1 + as_large) / (1 + permutations)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Return the distances between all features of both sets, [n + m, n + m], float64."""
    both = torch.cat([one, other]).double()
    return torch.cdist(both, both)


def _energy(distances: Tensor, order: Tensor, n: int) -> float:
    """Return the energy distance of two sets. order: all indices, those of the first set first."""
    first = torch.zeros(len(order), dtype=distances.dtype)
    first[order[:n]] = 1
    to_first = distances @ first
    within = float(first @ to_first)
    across = float((1 - first) @ to_first)
    total, m = float(distances.sum()), len(order) - n
    return 2 * across / (n * m) - within / (n * (n - 1)) - (total - within - 2 * across) / (m * (m - 1))


@torch.no_grad()
def function_distance(one: Network, other: Network, examples: Iterable[tuple[Tensor, int]]) -> float:
    """Return how differently two networks reconstruct the same images.

    It is the root mean square over pixels, in [0, 1]. Decoders are not compared at the same latent, because
    every training arranges the latent space in its own way. examples: (images [n, pixels] in [0, 1], slot).
    """
    squares = []
    for images, slot in examples:
        slots = torch.full((len(images),), slot)
        first, second = (
            network.decode(network.encode(images, slots)[0], slots).sigmoid() for network in (one, other)
        )
        squares.append((first - second).square().mean(dim=1))
    return torch.cat(squares).mean().sqrt().item()
