"""The evidence lower bound against closed forms and brute force."""

import torch
from torch.distributions import Bernoulli, MultivariateNormal, kl_divergence

from worker.learning.checkpoint import Spec
from worker.learning.elbo import kl_to_prior, negative_elbo, negative_elbo_from_prior, reconstruction_loss
from worker.learning.networks.mlp import Mlp


def network() -> Mlp:
    """Two slots, with a correlated prior for the second."""
    built = Mlp(Spec("mlp", (6,), (5,), latent=3, slots=2, pixels=9))
    built.initialise(torch.Generator().manual_seed(1))
    built.prior_mean[1, 0] = torch.tensor([0.5, -1.0, 2.0])
    built.prior_scale[1, 0] = torch.tensor([[0.7, 0.0, 0.0], [0.3, 1.2, 0.0], [-0.4, 0.1, 0.5]])
    return built


def test_divergence_is_the_textbook_kl_between_gaussians_for_standard_and_correlated_priors() -> None:
    torch.manual_seed(0)
    mean, logvar, slots = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 1, 1, 0])
    built = network()
    expected = torch.stack(
        [
            kl_divergence(
                MultivariateNormal(mean[i], torch.diag(logvar[i].exp())),
                MultivariateNormal(built.prior_mean[slots[i], 0], scale_tril=built.prior_scale[slots[i], 0]),
            )
            for i in range(4)
        ]
    )
    assert torch.allclose(kl_to_prior(built, mean, logvar, slots), expected, atol=1e-4)


def test_divergence_is_zero_where_the_posterior_is_the_prior() -> None:
    zero = torch.zeros(2, 3)
    assert torch.allclose(kl_to_prior(network(), zero, zero, torch.tensor([0, 0])), torch.zeros(2), atol=1e-6)


def test_reconstruction_is_the_bernoulli_likelihood_summed_over_the_pixels() -> None:
    torch.manual_seed(0)
    logits, images = torch.randn(4, 9), torch.randint(0, 2, (4, 9)).float()
    expected = -Bernoulli(logits=logits).log_prob(images).sum(dim=1)
    assert torch.allclose(reconstruction_loss(logits, images), expected, atol=1e-5)


def test_flat_grey_on_noise_costs_784_ln_2_nats() -> None:
    logits, images = torch.zeros(1, 784), torch.rand(1, 784)
    assert torch.allclose(reconstruction_loss(logits, images), torch.tensor([543.427]), atol=1e-2)


def test_negative_elbo_bounds_the_likelihood_found_by_brute_force() -> None:
    """-log p(x | c), integrated by 200,000 prior draws, is below the mean bound."""
    built = network().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    image, slot = torch.rand(1, 9, generator=generator).round(), torch.tensor([1])
    draws = 200_000
    noise, slots, images = (
        torch.randn(draws, 3, generator=generator),
        slot.expand(draws),
        image.expand(draws, 9),
    )
    likelihood = -reconstruction_loss(built.decode(built.sample_prior(noise, slots), slots), images)
    exact = -(likelihood.logsumexp(0) - torch.log(torch.tensor(float(draws))))
    for bound in (negative_elbo, negative_elbo_from_prior):
        assert bound(built, images, slots, noise).mean() > exact


def test_the_bound_from_the_prior_is_tight_where_latent_and_image_are_independent() -> None:
    built = network().requires_grad_(False)
    built.get_parameter("decoder.0.weight").zero_()
    built.get_parameter("encoder.1.weight").zero_()
    images, slots = torch.rand(5, 9), torch.zeros(5, dtype=torch.int64)
    exact = reconstruction_loss(built.decode(torch.zeros(5, 3), slots), images)
    bound = negative_elbo_from_prior(built, images, slots, torch.randn(5, 3))
    assert torch.allclose(bound, exact, atol=1e-5)


def test_prior_draws_have_the_moments_of_the_prior() -> None:
    built = network()
    slots = torch.ones(200_000, dtype=torch.int64)
    drawn = built.sample_prior(built.noise(slots, torch.Generator().manual_seed(0)), slots)
    scale = built.prior_scale[1, 0]
    assert torch.allclose(drawn.mean(dim=0), built.prior_mean[1, 0], atol=0.02)
    assert torch.allclose(torch.cov(drawn.T), scale @ scale.T, atol=0.02)
