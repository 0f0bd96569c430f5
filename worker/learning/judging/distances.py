"""How far drawn images are from real ones as sets, and how different from each other, in an embedding."""

import torch
from torch import Tensor


def frechet(one: Tensor, other: Tensor) -> float:
    """FID: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two sets of features, [n, k] and [m, k].

    0 for equal sets. Heusel et al. 2017. Biased upwards by small sets: compare figures of the same n only,
    beside the floor that real images have against real images.
    """
    (mean1, cov1), (mean2, cov2) = (_mean_and_covariance(each) for each in (one, other))
    # tr (C1 C2)^(1/2) is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric.
    root = _root(cov1)
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    apart = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return max(0.0, float(apart))


def diversity(drawn: Tensor, real: Tensor) -> float:
    """The mean distance between two draws over that between two real images, features [n, k], [m, k].

    1 where the draws are as varied as the real ones, 0 where they are one image, and where those are.
    """
    varied = _mean_distance(real)
    return _mean_distance(drawn) / varied if varied > 0 else 0.0


def _mean_distance(features: Tensor) -> float:
    return float(torch.pdist(features.double()).mean())


def _mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.double().mean(dim=0), features.double().T.cov()


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root
