"""Coverage: how much of the variety of real images the draws reach. Accuracy is highest when draws collapse.

Naeem et al. 2020, equation 9.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from worker.learning.judging.judge import CHUNK, Judge

NEIGHBOURS = 5


@dataclass(frozen=True)
class Neighbourhoods:
    """Real images of one label in an embedding, each with the distance to its k-th nearest real neighbour."""

    real: Tensor  # [n, features]
    radii: Tensor  # [n]

    @classmethod
    def of(cls, real: Tensor, k: int = NEIGHBOURS) -> "Neighbourhoods":
        """real: [n, features], n > k."""
        apart = torch.cdist(real, real)
        return cls(real, apart.kthvalue(k + 1, dim=1).values)  # the first is the image itself

    def coverage(self, drawn: Tensor) -> float:
        """The share of real images with at least one draw, [m, features], in their neighbourhood."""
        nearest = torch.cdist(self.real, drawn).min(dim=1).values
        return (nearest <= self.radii).float().mean().item()


@torch.no_grad()
def embedded(judge: Judge, images: Tensor) -> Tensor:
    """Images [n, pixels] in [0, 1] as the judge's last hidden layer sees them, [n, 128]."""
    layers = list(judge.network.children())[:-1]
    return torch.cat([torch.nn.Sequential(*layers)(chunk) for chunk in torch.split(images.float(), CHUNK)])
