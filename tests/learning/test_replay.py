"""Sources of training batches, label priors and the distillation loss."""

import pytest
import torch

from tests.learning.tiny import CPU, stripes
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.networks import build, frozen
from worker.learning.prior import fit_prior, reset_prior
from worker.learning.replay_losses import distillation_loss
from worker.learning.sources import generative_replay, interleave, real_examples
from worker.learning.strategy import Batch, TrainingContext


def test_replay_draws_only_the_slots_it_was_given(two_labels: Checkpoint) -> None:
    source = generative_replay(frozen(two_labels, CPU), [1], torch.Generator().manual_seed(0))
    assert source(50).slots.unique().tolist() == [1]


def test_replay_draws_what_the_teacher_draws(two_labels: Checkpoint) -> None:
    replayed = generative_replay(frozen(two_labels, CPU), [0], torch.Generator().manual_seed(0))(500).images
    assert torch.allclose(replayed.mean(dim=0), draw(two_labels, "rows", 500, seed=3).mean(dim=0), atol=0.05)


def test_real_batches_have_every_label_equally_often_whatever_their_counts() -> None:
    images = {"rows": stripes("rows", 10), "columns": stripes("columns", 190)}
    batch = real_examples(images, {"rows": 0, "columns": 1}, torch.Generator().manual_seed(0))(4000)
    assert abs(batch.slots.float().mean() - 0.5) < 0.05
    assert batch.images.max() <= 1


def test_interleave_keeps_the_shares_in_every_step(two_labels: Checkpoint) -> None:
    teacher = frozen(two_labels, CPU)
    sources = [
        (generative_replay(teacher, [0], torch.Generator().manual_seed(0)), 3.0),
        (generative_replay(teacher, [1], torch.Generator().manual_seed(0)), 1.0),
    ]
    steps = interleave(sources, 32, CPU)
    assert [[len(part.slots) for part in next(steps)] for _ in range(5)] == [[24, 8]] * 5


def test_prior_is_fitted_to_the_moments_of_the_posterior(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    images = stripes("rows")
    fit_prior(network, 0, images, TrainingContext(CPU, 0))
    slots = torch.zeros(len(images), dtype=torch.int64)
    with torch.no_grad():
        mean, logvar = network.encode(images.float() / 255, slots)
    posterior = (
        mean + torch.randn(mean.shape, generator=torch.Generator().manual_seed(1)) * (0.5 * logvar).exp()
    )
    scale = network.prior_scale[0, 0]
    assert torch.allclose(network.prior_mean[0, 0], posterior.mean(dim=0), atol=0.1)
    assert torch.allclose(scale @ scale.T, torch.cov(posterior.T), atol=0.15)
    reset_prior(network, 0)
    assert torch.equal(network.prior_scale[0, 0], torch.eye(2))


def test_distillation_costs_a_perfect_copy_only_the_entropy_of_the_images(two_labels: Checkpoint) -> None:
    teacher = frozen(two_labels, CPU)
    batch = generative_replay(teacher, [0, 1], torch.Generator().manual_seed(0))(64)
    entropy = torch.distributions.Bernoulli(probs=batch.images).entropy().sum(dim=1)
    assert torch.allclose(distillation_loss(build(two_labels, CPU), teacher, batch), entropy, atol=1e-3)


def test_distillation_needs_the_latents_of_the_images(two_labels: Checkpoint) -> None:
    teacher = frozen(two_labels, CPU)
    with pytest.raises(ValueError, match="latents"):
        distillation_loss(teacher, teacher, Batch(torch.rand(2, 64), torch.tensor([0, 1])))
