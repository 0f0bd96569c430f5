"""Mixtures of Gaussians: fitted by expectation-maximisation to the posteriors of images, and sampled.

A mixture has K components with weights w_k, means m_k and scales L_k: z = m_k + L_k u, u standard normal. Its
tensors have room for the largest K; components that are not used have the weight 0 and come last.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

IMAGES_PER_COMPONENT = 50
"""How many images there are at least for each component; below twice as many, one Gaussian is fitted."""
HELD_OUT_EVERY = 5
"""Every fifth image is held out to choose the number of components."""
ITERATIONS = 25
"""Of expectation-maximisation; the likelihood of held-out images changes little after fifteen."""
JITTER = 1e-4
"""Added to the variances: keeps the covariance of a collapsed latent positive definite."""
FAR = 8.0
"""How many standard deviations of the mean of the posteriors an outlier is from the median of a latent. They
are computed from medians, which outliers do not move."""
MOST_OUTLIERS = 0.05
"""The largest share of the images that can be outliers. More of them are a kind of their own."""
DEVIATIONS_OF_MAD = 1.4826  # a standard deviation of a Gaussian is that many median absolute deviations
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
SIGN_BITS = 30
"""How many of an empty slot's signs differ from slot to slot; the others are +."""


class Mixture(NamedTuple):
    """A mixture of K Gaussians in `latent` dimensions."""

    weight: Tensor  # [K], sums to 1
    mean: Tensor  # [K, latent]
    scale: Tensor  # [K, latent, latent], lower triangular


class Posteriors(NamedTuple):
    """The posteriors q(z | x, c) = N(mean, diag variance) of n images, float64."""

    mean: Tensor  # [n, latent]
    variance: Tensor  # [n, latent]

    def at(self, rows: Tensor) -> "Posteriors":
        """Return the posteriors of these rows."""
        return Posteriors(self.mean[rows], self.variance[rows])


class _Moments(NamedTuple):
    """The moments of n posteriors: a mixture depends on these alone."""

    first: Tensor  # E[z], [n, latent]
    second: Tensor  # E[z z^T], [n, latent * latent]

    @classmethod
    def of(cls, posteriors: Posteriors) -> "_Moments":
        mean, variance = posteriors
        second = mean[:, :, None] * mean[:, None, :] + torch.diag_embed(variance)
        return cls(mean, second.flatten(1))


class NotFinite(ValueError):
    """The posteriors are not finite numbers."""


def fit_best_mixture(posteriors: Posteriors, most: int, generator: torch.Generator) -> Mixture:
    """Fit mixtures of 1, 2, 4, ... `most` components, and return that with the best held-out likelihood.

    The likelihood of a held-out image is the lower bound of E_q log p(z) that `expected_log_density` gives.
    The chosen number of components is fitted again to all images. Each component gets
    IMAGES_PER_COMPONENT images at least, so few images have one Gaussian. Outliers are left out: see
    `without_outliers`. Raises NotFinite.
    """
    posteriors = without_outliers(posteriors)
    n = len(posteriors.mean)
    counts = [1]
    while counts[-1] * 2 <= min(most, n // IMAGES_PER_COMPONENT):
        counts.append(counts[-1] * 2)
    if len(counts) == 1:
        return fit_mixture(posteriors, 1, generator)
    order = torch.randperm(n, generator=generator)
    held_out = torch.arange(n) % HELD_OUT_EVERY == 0
    fitted, tested = posteriors.at(order[~held_out]), posteriors.at(order[held_out])
    likelihoods = [
        expected_log_density(fit_mixture(fitted, count, generator), tested).mean() for count in counts
    ]
    best = counts[int(torch.stack(likelihoods).argmax())]
    return fit_mixture(posteriors, best, generator)


def without_outliers(posteriors: Posteriors) -> Posteriors:
    """Return the posteriors without those whose mean is FAR from the others in some dimension.

    An encoder may map single images to 80 where all others lie within 3. One such image makes a Gaussian so
    wide that most of its samples are unlike any image, and among held-out images it outweighs all others.
    If more than MOST_OUTLIERS of the images are far, all are kept. Raises NotFinite.
    """
    if not posteriors.mean.isfinite().all():
        raise NotFinite("the means of the posteriors are not finite")
    away = (posteriors.mean - posteriors.mean.median(dim=0).values).abs()
    of_means = DEVIATIONS_OF_MAD * away.median(dim=0).values
    # Of latents that the encoder does not use, all means are near 0, and the variances near 1.
    deviation = (of_means.square() + posteriors.variance.median(dim=0).values + JITTER).sqrt()
    near = (away <= FAR * deviation).all(dim=1)
    if near.all() or (~near).sum() > MOST_OUTLIERS * len(near):
        return posteriors
    return posteriors.at(near.nonzero().flatten())


def fit_mixture(posteriors: Posteriors, components: int, generator: torch.Generator) -> Mixture:
    """Fit a mixture of Gaussians to the mean of the posteriors by expectation-maximisation; float64.

    Maximises sum_n log sum_k w_k exp(E_q_n log N(z; m_k, S_k)), a lower bound of sum_n E_q_n log p(z). For
    one component that is the Gaussian with the moments of the mean of the posteriors. Starts from means
    chosen as in k-means++. Raises NotFinite.
    Source: Dempster et al. 1977; Tomczak & Welling 2018 (arXiv:1705.07120) for a mixture as prior.
    """
    shares, moments = _start(posteriors.mean, components, generator), _Moments.of(posteriors)
    for _ in range(ITERATIONS if components > 1 else 1):
        mixture = _maximise(moments, shares)
        if components > 1:
            shares = _log_joint(mixture, moments).softmax(dim=0)
    largest_first = mixture.weight.argsort(descending=True)
    return Mixture(*(tensor[largest_first] for tensor in mixture))


def expected_log_density(mixture: Mixture, posteriors: Posteriors) -> Tensor:
    """Return log sum_k w_k exp(E_q log N(z; m_k, S_k)) of each posterior, [n], in nats: <= E_q log p(z)."""
    return _log_joint(mixture, _Moments.of(posteriors)).logsumexp(dim=0)


def _start(mean: Tensor, components: int, generator: torch.Generator) -> Tensor:
    """Assign each image to the nearest of some centres: shares [components, n], 0 or 1.

    The first centre is a random image; each other one is drawn in proportion to its squared distance to the
    nearest centre so far. Source: Arthur & Vassilvitskii 2007 (k-means++).
    """
    if components == 1:
        return mean.new_ones(1, len(mean))
    white = (mean - mean.mean(dim=0)) / mean.std(dim=0).clamp(min=JITTER)
    centres = white[torch.randint(len(white), (1,), generator=generator)]
    while len(centres) < components:
        distances = torch.cdist(white, centres).square().min(dim=1).values.cumsum(0)
        target = torch.rand(1, generator=generator, dtype=torch.float64) * distances[-1]
        chosen = torch.searchsorted(distances, target).clamp(max=len(white) - 1)
        centres = torch.cat([centres, white[chosen]])
    nearest = torch.cdist(white, centres).argmin(dim=1)
    return torch.nn.functional.one_hot(nearest, components).T.to(mean.dtype).contiguous()


def _maximise(moments: _Moments, shares: Tensor) -> Mixture:
    """Return the mixture that is most likely with these shares [K, n] of the images in its components."""
    mass = shares.sum(dim=1) + 1e-9  # of a component without images: its Gaussian is that of the jitter
    centre = shares @ moments.first / mass[:, None]
    second = (shares @ moments.second / mass[:, None]).unflatten(1, (centre.shape[1], -1))
    jitter = torch.diag_embed(torch.full_like(centre, JITTER))
    covariance = second - centre[:, :, None] * centre[:, None, :] + jitter
    scale, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any() or not scale.isfinite().all():
        raise NotFinite("the posteriors have no covariance that is positive definite")
    return Mixture(mass / mass.sum(), centre, scale)


def _log_joint(mixture: Mixture, moments: _Moments) -> Tensor:
    """Return log w_k + E_q log N(z; m_k, S_k) for each component and posterior, [K, n].

    E_q (z - m)^T P (z - m) = tr(P E[z z^T]) - 2 m^T P E[z] + m^T P m, with P the inverse of S_k, takes one
    matrix product for all components together.
    """
    weight, centre, scale = mixture
    latent = centre.shape[1]
    identity = torch.eye(latent, dtype=scale.dtype).expand_as(scale)
    whiten = torch.linalg.solve_triangular(scale, identity, upper=False)  # z -> standard normal
    precision = whiten.mT @ whiten
    pulled = (precision @ centre[:, :, None]).squeeze(2)  # P m, [K, latent]
    distance = precision.flatten(1) @ moments.second.T - 2 * pulled @ moments.first.T
    volume = torch.diagonal(scale, dim1=1, dim2=2).log().sum(dim=1)
    own = 0.5 * (pulled * centre).sum(dim=1)
    constant = weight.log() - volume - own - 0.5 * latent * math.log(2 * math.pi)
    joint: Tensor = constant[:, None] - 0.5 * distance
    return joint


def component_edges(weight: Tensor) -> Tensor:
    """Return the values that divide a standard normal number into the components: [..., K] -> [..., K - 1].

    A number above j of the edges, which rise, belongs to component j: the share w_j of all numbers does.
    """
    after = weight.double().flip(-1).cumsum(-1).flip(-1)[..., 1:]
    before = weight.double().cumsum(-1)[..., :-1].clamp(max=1)  # rounded weights may sum to a little more
    edges: Tensor = torch.special.ndtri(before)
    return edges.masked_fill(after == 0, math.inf).float()


def empty_priors(slots: Sequence[int], latent: int, components: int) -> dict[str, Tensor]:
    """Return the priors N(0, I) of slots without a label: buffer of the network -> [slots, components, ...].

    The scale is diagonal with signs of each slot's own. Without them two forgotten labels, whose embeddings
    are alike, would draw the same image for the same noise. The signs of two slots differ if there are fewer
    slots than sign patterns: the pattern is the slot times an odd number, modulo their count.
    """
    bits = min(latent, SIGN_BITS)
    step = round(2**bits * GOLDEN_RATIO) | 1
    patterns = [slot * step % 2**bits for slot in slots]
    signs = [
        [-1.0 if place < bits and one >> place & 1 else 1.0 for place in range(latent)] for one in patterns
    ]
    weight, mean = torch.zeros(len(signs), components), torch.zeros(len(signs), components, latent)
    scale = torch.zeros(len(signs), components, latent, latent)
    weight[:, 0] = 1.0
    diagonal = scale.diagonal(dim1=2, dim2=3)  # torch.eye on `meta` imports a compiler: 6 s of CPU
    diagonal.fill_(1.0)
    if signs:
        diagonal[:, 0] = torch.tensor(signs)
    return {"prior_weight": weight, "prior_mean": mean, "prior_scale": scale}
