"""Density and coverage: how near draws are to real images, and what share of the real images they cover.

A network that draws the same image again and again may have a high accuracy, but has a low coverage.
Density is equation 8 of Naeem et al. 2020, coverage their equation 9.

Coverage depends on how many images there are. Images of the same distribution as the real ones cover 96.9 %
of 1,000 real images if there are 1,000 of them, and 99.99 % of 200. So it is also divided by what as many
other real images cover (`RelativeCoverage`), which is about 1 for perfect draws whatever the numbers are.
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

    def covered_by_sets(self, images: Tensor, size: int) -> Tensor:
        """Return which share of sets of images covers each real image, [n].

        images: [m, features], m >= size. The sets are disjoint and of this size, in the order of the images;
        a rest that is smaller is left out.
        """
        sets = len(images) // size
        nearest = torch.cdist(self.real, images[: sets * size]).view(-1, sets, size).amin(dim=2)
        return (nearest <= self.radii[:, None]).float().mean(dim=1)

    def coverage_by_sets(self, drawn: Tensor) -> float:
        """Return the mean coverage of sets of draws ([m, features]), to compare with that of other draws.

        A set has as many draws as there are real images, or all where there are fewer: 1,000 draws of
        anything cover nearly all of 34 images, so they would be as good as any others.
        """
        return self.covered_by_sets(drawn, min(len(self.real), len(drawn))).mean().item()

    def depths(self, drawn: Tensor) -> Tensor:
        """Return in how many neighbourhoods each draw lies, divided by k, [m].

        The mean is the density, about 1 for real images.
        """
        within = torch.cdist(self.real, drawn) <= self.radii[:, None]
        return within.float().sum(dim=0) / self.k


@dataclass(frozen=True)
class RelativeCoverage:
    """The coverage of draws, divided by that of as many real images.

    Both are measured on sets of `size` images, and averaged over the sets there are. There are never more in
    a set than real images to cover: 1,000 images of anything cover nearly all of 34, and tell nothing.
    """

    around: Neighbourhoods
    of_real: float
    """The mean coverage of sets of other real images, above 0."""
    size: int

    @classmethod
    def of(cls, around: Neighbourhoods, others: Tensor, draws: int) -> "RelativeCoverage | None":
        """Measure the coverage of other real images. None if they cover nothing.

        others: [m, features], real images like those of `around`, but not the same. draws: how many draws
        will be compared.
        """
        size = min(len(around.real), len(others), draws)
        of_real = around.covered_by_sets(others, size).mean().item() if size else 0.0
        return cls(around, of_real, size) if of_real > 0 else None

    def of_draws(self, drawn: Tensor) -> float:
        """Return the relative coverage of draws [m, features]; 0 or more, about 1 for perfect draws."""
        return self.by_image(drawn).mean().item()

    def by_image(self, drawn: Tensor) -> Tensor:
        """Return how often each real image is covered, over the mean for other real images; [n]."""
        return self.around.covered_by_sets(drawn, self.size) / self.of_real


def sample_images(images: Tensor, most: int) -> Tensor:
    """Choose at most so many of the images [n, ...] at random, always the same ones of the same images.

    The first ones would not do: the order of a dataset may be that of its writers.
    """
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:most]]
