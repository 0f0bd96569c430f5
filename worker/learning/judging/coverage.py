"""Density and coverage: how near draws are to real images, and what share of the real images they cover.

A network that draws the same image again and again may have a high accuracy, but has a low coverage.
Density is equation 8 of Naeem et al. 2020, coverage their equation 9.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = 5
"""k, as in the paper."""


@dataclass(frozen=True)
class Neighbourhoods:
    """The features of one label's real images, each with the distance to its k-th nearest neighbour.

    The ball of that radius around a real image is its neighbourhood.
    """

    real: Tensor  # [n, features]
    radii: Tensor  # [n]
    k: int = NEIGHBOURS

    @classmethod
    def of(cls, real: Tensor, k: int = NEIGHBOURS) -> "Neighbourhoods":
        """Find the neighbourhoods of real images [n, features], n > k."""
        distances = torch.cdist(real, real)
        return cls(real, distances.kthvalue(k + 1, dim=1).values, k)  # the nearest is the image itself

    def coverage(self, drawn: Tensor) -> float:
        """Return the share of real images with at least one draw ([m, features]) in their neighbourhood."""
        return self.covered(drawn).float().mean().item()

    def covered(self, drawn: Tensor) -> Tensor:
        """Return which real images have a draw in their neighbourhood, bool [n]."""
        return torch.cdist(self.real, drawn).min(dim=1).values <= self.radii

    def density(self, drawn: Tensor) -> float:
        """Return the mean number of neighbourhoods a draw lies in, divided by k; about 1 for real images."""
        return self.depths(drawn).mean().item()

    def depths(self, drawn: Tensor) -> Tensor:
        """Return in how many neighbourhoods each draw lies, divided by k, [m]."""
        within = torch.cdist(self.real, drawn) <= self.radii[:, None]
        return within.float().sum(dim=0) / self.k
