"""Measure how far draws are from real images (FID), and how varied they are, in the features of a network."""

import torch
from torch import Tensor


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Return the FID of two sets of features, [n, k] and [m, k]: |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    m and C are the means and covariances of the sets; Heusel et al. 2017. Small sets bias it upwards, so
    compare only figures of the same n, with the FID of real images against other real images as the floor.
    """
    (mean1, cov1), (mean2, cov2) = (_mean_and_covariance(each) for each in (one, other))
    # tr (C1 C2)^(1/2) is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric.
    root = _square_root(cov1)
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return max(0.0, float(distance))


def diversity(drawn: Tensor, real: Tensor) -> float:
    """Return the mean distance between two draws over that of two real images; features [n, k] and [m, k].

    It is 1 if the draws are as varied as the real images, and 0 if all draws or all real images are equal.
    """
    real_distance = _mean_distance(real)
    return _mean_distance(drawn) / real_distance if real_distance > 0 else 0.0


def _mean_distance(features: Tensor) -> float:
    return float(torch.pdist(features.double()).mean())


def _mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.double().mean(dim=0), features.double().T.cov()


def _square_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return root
