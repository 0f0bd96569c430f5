"""Whether two networks look alike from outside: what they draw, and what they make of the same image."""

from collections.abc import Iterable

import torch
from torch import Tensor

from worker.learning.networks.network import Network

PERMUTATIONS = 500


def energy_distance(one: Tensor, other: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| of two sets of features, [n, k] and [m, k].

    0 for equal distributions. Szekely & Rizzo 2013, the unbiased form: on average 0 for two samples of one.
    """
    return _energy(*_apart(one, other), len(one))


def permutation_p(
    one: Tensor, other: Tensor, rng: torch.Generator, permutations: int = PERMUTATIONS
) -> float:
    """How often, if who drew what did not matter, the two sets would be as far apart: a p-value in (0, 1].

    It is small for any two networks that differ at all, two retrained references included: it informs.
    """
    apart, pooled = _apart(one, other)
    found, n = _energy(apart, pooled, len(one)), len(pooled)
    further = sum(
        _energy(apart, torch.randperm(n, generator=rng), len(one)) >= found for _ in range(permutations)
    )
    return (1 + further) / (1 + permutations)


def _apart(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    both = torch.cat([one, other]).double()
    return torch.cdist(both, both), torch.arange(len(both))


def _energy(apart: Tensor, order: Tensor, n: int) -> float:
    """order: all indices into `apart`, the first n of them the first set."""
    first = torch.zeros(len(order), dtype=apart.dtype)
    first[order[:n]] = 1
    to_first = apart @ first
    within = float(first @ to_first)
    across = float((1 - first) @ to_first)
    total, m = float(apart.sum()), len(order) - n
    return 2 * across / (n * m) - within / (n * (n - 1)) - (total - within - 2 * across) / (m * (m - 1))


@torch.no_grad()
def function_distance(one: Network, other: Network, examples: Iterable[tuple[Tensor, int]]) -> float:
    """How differently two networks reconstruct the same images: the root mean square over pixels, in [0, 1].

    examples: (images [n, pixels] in [0, 1], slot). The latents themselves cannot be compared: two trainings
    end in coordinates of their own, so the difference of decoders at one z says nothing.
    """
    squares = []
    for images, slot in examples:
        slots = torch.full((len(images),), slot)
        made = [network.decode(network.encode(images, slots)[0], slots).sigmoid() for network in (one, other)]
        squares.append((made[0] - made[1]).square().mean(dim=1))
    return torch.cat(squares).mean().sqrt().item()
