"""Density and coverage: how near the draws are to real images, and how many of those they reach.

Accuracy is highest when draws collapse; coverage shows it. Naeem et al. 2020, equations 8 and 9.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from worker.learning.judging.classifiers import CHUNK
from worker.learning.judging.judge import Judge

NEIGHBOURS = 5


@dataclass(frozen=True)
class Neighbourhoods:
    """Real images of one label in an embedding, each with the distance to its k-th nearest real neighbour."""

    real: Tensor  # [n, features]
    radii: Tensor  # [n]
    k: int = NEIGHBOURS

    @classmethod
    def of(cls, real: Tensor, k: int = NEIGHBOURS) -> "Neighbourhoods":
        """real: [n, features], n > k."""
        apart = torch.cdist(real, real)
        return cls(real, apart.kthvalue(k + 1, dim=1).values, k)  # the first is the image itself

    def coverage(self, drawn: Tensor) -> float:
        """The share of real images with at least one draw, [m, features], in their neighbourhood."""
        return self.covered(drawn).float().mean().item()

    def covered(self, drawn: Tensor) -> Tensor:
        """Which real images have a draw in their neighbourhood, bool [n]."""
        return torch.cdist(self.real, drawn).min(dim=1).values <= self.radii

    def density(self, drawn: Tensor) -> float:
        """In how many real neighbourhoods a draw lies on average, over k: 1 for real images, 0 for junk."""
        return self.depths(drawn).mean().item()

    def depths(self, drawn: Tensor) -> Tensor:
        """The same for every draw, [m]."""
        within = torch.cdist(self.real, drawn) <= self.radii[:, None]
        return within.float().sum(dim=0) / self.k


@torch.no_grad()
def embedded(judge: Judge, images: Tensor) -> Tensor:
    """Images [n, pixels] in [0, 1] as the judge's last hidden layer sees them, [n, 128]."""
    layers = list(judge.network.children())[:-1]
    return torch.cat([torch.nn.Sequential(*layers)(chunk) for chunk in torch.split(images.float(), CHUNK)])
