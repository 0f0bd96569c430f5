"""Mixtures of Gaussians as label priors: fitted, sampled, divided among noise, and their KL."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from tests.learning.tiny import CPU, stripes
from worker.learning.checkpoint import Spec
from worker.learning.elbo import kl_to_prior
from worker.learning.mixtures import (
    IMAGES_PER_COMPONENT,
    Mixture,
    Posteriors,
    component_edges,
    empty_priors,
    expected_log_density,
    fit_best_mixture,
    fit_mixture,
    without_outliers,
)
from worker.learning.networks.mlp import Mlp
from worker.learning.prior import fit_prior, reset_prior
from worker.learning.strategy import TrainingContext

SPREAD = 0.05  # variance of every posterior


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posteriors_around(centres: Tensor, each: int, *, seed: int = 0) -> Posteriors:
    """Posteriors whose means are normal around the centres [k, latent], `each` of them for every centre."""
    means = centres.double().repeat_interleave(each, dim=0)
    means = means + 0.3 * torch.randn(means.shape, generator=generator(seed), dtype=torch.float64)
    return Posteriors(means, torch.full_like(means, SPREAD))


FAR_APART = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 4.0], [0.0, -4.0]])


def test_one_component_has_the_moments_of_the_mean_posterior() -> None:
    found = posteriors_around(FAR_APART, 100)
    fitted = fit_mixture(found, 1, generator())
    covariance = torch.cov(found.mean.T, correction=0) + SPREAD * torch.eye(2)
    assert torch.allclose(fitted.mean[0], found.mean.mean(dim=0))
    assert torch.allclose(fitted.scale[0] @ fitted.scale[0].T, covariance, atol=1e-3)
    assert fitted.weight.tolist() == [1.0]


@pytest.mark.parametrize("each", [10, 100])
def test_a_single_image_far_away_does_not_change_the_mixture(each: int) -> None:
    """One latent at 80 made the prior of a label so wide that a fifth of its draws were right."""
    found = posteriors_around(FAR_APART, each)
    far = Posteriors(torch.tensor([[80.0, 0.0]]).double(), torch.full((1, 2), SPREAD).double())
    both = Posteriors(*(torch.cat(pair) for pair in zip(found, far, strict=True)))
    without, beside = (fit_best_mixture(one, 8, generator()) for one in (found, both))
    assert torch.equal(without.weight, beside.weight)
    assert torch.equal(without.scale, beside.scale)


def test_a_tenth_of_the_images_far_away_is_a_kind_of_its_own() -> None:
    found = posteriors_around(FAR_APART[:1], 180)
    kind = posteriors_around(torch.tensor([[80.0, 0.0]]), 20)
    both = Posteriors(*(torch.cat(pair) for pair in zip(found, kind, strict=True)))
    assert len(without_outliers(both).mean) == 200


def test_of_a_latent_that_is_not_used_no_image_is_an_outlier() -> None:
    mean = 1e-6 * torch.randn(200, 2, generator=generator(), dtype=torch.float64)
    mean[0] = 0.5
    assert len(without_outliers(Posteriors(mean, torch.ones_like(mean))).mean) == 200


def test_four_groups_of_posteriors_get_four_components_at_their_places() -> None:
    fitted = fit_best_mixture(posteriors_around(FAR_APART, 100), 8, generator())
    assert len(fitted.weight) == 4
    nearest = torch.cdist(FAR_APART.double(), fitted.mean).min(dim=1).values
    assert nearest.max() < 0.1
    assert torch.allclose(fitted.weight, torch.full((4,), 0.25, dtype=torch.float64), atol=0.01)


def test_posteriors_of_one_gaussian_get_one_component() -> None:
    assert len(fit_best_mixture(posteriors_around(torch.zeros(1, 2), 400), 8, generator()).weight) == 1


@pytest.mark.parametrize("images", [1, 2, 20, 2 * IMAGES_PER_COMPONENT - 1])
def test_few_images_get_one_component_however_they_lie(images: int) -> None:
    found = posteriors_around(FAR_APART, 100).at(torch.arange(images) * 4 % 400)
    fitted = fit_best_mixture(found, 8, generator())
    assert len(fitted.weight) == 1
    assert fitted.scale.isfinite().all()


def test_posteriors_that_are_all_the_same_can_be_fitted() -> None:
    same = Posteriors(torch.ones(400, 2, dtype=torch.float64), torch.zeros(400, 2, dtype=torch.float64))
    fitted = fit_mixture(same, 4, generator())
    assert all(tensor.isfinite().all() for tensor in fitted)
    assert torch.allclose(fitted.weight.sum(), torch.ones((), dtype=torch.float64))


def test_the_fit_never_makes_the_images_less_likely() -> None:
    """More iterations of expectation-maximisation cannot decrease the bound that they maximise."""
    found = posteriors_around(FAR_APART, 50)
    bounds = [
        expected_log_density(fit_mixture(found, count, generator()), found).mean() for count in (1, 2, 4)
    ]
    assert bounds == sorted(bounds)


def test_the_expected_density_of_a_point_is_the_textbook_density() -> None:
    mixture = fit_mixture(posteriors_around(FAR_APART, 50), 4, generator())
    textbook = MixtureSameFamily(
        Categorical(mixture.weight), MultivariateNormal(mixture.mean, scale_tril=mixture.scale)
    )
    points = torch.randn(20, 2, generator=generator(), dtype=torch.float64) * 3
    found = expected_log_density(mixture, Posteriors(points, torch.zeros_like(points)))
    assert torch.allclose(found, textbook.log_prob(points))


def with_mixture() -> tuple[Mlp, Mixture]:
    """A network whose second slot has a mixture of three components, of four that there is room for."""
    network = Mlp(Spec("mlp", (6,), (5,), latent=2, slots=2, pixels=9, prior="mixture", components=4))
    fitted = fit_mixture(posteriors_around(FAR_APART[:3], 100), 3, generator())
    network.prior_weight[1, :3] = fitted.weight.float()
    network.prior_weight[1, 3:] = 0
    network.prior_mean[1, :3] = fitted.mean.float()
    network.prior_scale[1, :3] = fitted.scale.float()
    return network.requires_grad_(False), fitted


def test_draws_have_the_moments_and_the_shares_of_the_mixture() -> None:
    network, fitted = with_mixture()
    slots = torch.ones(100_000, dtype=torch.int64)
    drawn = network.sample_prior(network.prior_noise(slots, generator()), slots)
    expected = (fitted.weight[:, None] * fitted.mean).sum(dim=0).float()
    assert torch.allclose(drawn.mean(dim=0), expected, atol=0.05)
    nearest = torch.cdist(drawn, fitted.mean.float()).argmin(dim=1).bincount(minlength=3) / len(drawn)
    assert torch.allclose(nearest, fitted.weight.float(), atol=0.01)


def test_the_same_noise_gives_the_same_draw_in_any_batch() -> None:
    network, _ = with_mixture()
    slots = torch.arange(64) % 2
    noise = network.prior_noise(slots, generator())
    together = network.sample_prior(noise, slots)
    one_by_one = [network.sample_prior(noise[i : i + 1], slots[i : i + 1]) for i in range(64)]
    assert torch.equal(together, torch.cat(one_by_one))


def test_edges_divide_standard_normal_numbers_by_the_weights_and_never_choose_an_unused_component() -> None:
    weight = torch.tensor([0.5, 0.3, 0.2, 0.0])
    edges = component_edges(weight)
    shares = Normal(0.0, 1.0).cdf(torch.cat([torch.tensor([-math.inf]), edges, torch.tensor([math.inf])]))
    assert torch.allclose(shares.diff(), weight, atol=1e-6)
    assert edges[2] == math.inf
    thirds = component_edges(torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]))
    assert thirds[2] == math.inf, "a sum of weights just below one must not reach the unused component"
    emptied = component_edges(torch.tensor([1 / 3, 1 / 3, 1 / 3, 1e-12]))
    assert emptied[2] == math.inf, "a sum of rounded weights just above one is no probability"


def test_the_divergence_from_a_mixture_bounds_the_exact_one_and_is_exact_far_from_the_others() -> None:
    network, fitted = with_mixture()
    mean = fitted.mean.float()
    logvar = torch.full((3, 2), math.log(SPREAD))
    bound = kl_to_prior(network, mean, logvar, torch.ones(3, dtype=torch.int64))
    prior = MixtureSameFamily(
        Categorical(fitted.weight.float()),
        MultivariateNormal(fitted.mean.float(), scale_tril=fitted.scale.float()),
    )
    for place in range(3):
        posterior = MultivariateNormal(mean[place], torch.diag(logvar[place].exp()))
        component = MultivariateNormal(fitted.mean[place].float(), scale_tril=fitted.scale[place].float())
        draws = posterior.sample((20_000,))
        exact = (posterior.log_prob(draws) - prior.log_prob(draws)).mean()
        to_own = kl_divergence(posterior, component) - fitted.weight[place].log()
        assert bound[place] >= exact - 0.02
        assert torch.allclose(bound[place], to_own.float(), atol=1e-3), "the other components are far away"


def test_a_fitted_prior_is_set_in_its_slot_alone_and_reset_without_a_trace() -> None:
    network, _ = with_mixture()
    before = {name: tensor.clone() for name, tensor in network.priors().items()}
    images = torch.cat([stripes("rows"), stripes("columns")])[:, :9]
    fit_prior(network, 0, images, TrainingContext(CPU, 0))
    assert network.prior_weight[0].sum().isclose(torch.ones(()))
    assert all(torch.equal(tensor[1], before[name][1]) for name, tensor in network.priors().items())
    reset_prior(network, 0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.priors().items())


def test_empty_slots_draw_different_images_from_the_same_noise() -> None:
    scales = empty_priors(range(100), latent=8, components=2)["prior_scale"][:, 0]
    assert torch.equal(scales @ scales.mT, torch.eye(8).expand(100, 8, 8)), "each is N(0, I)"
    diagonals = [tuple(one.diagonal().tolist()) for one in scales]
    assert len(set(diagonals)) == 100
    neighbours = [sum(a != b for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(diagonals)]
    assert min(neighbours) >= 2
