"""Sources of training batches, label priors and the distillation loss."""

import pytest
import torch

from tests.learning.tiny import CPU, GIVEN, context, stripes
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.networks import build, frozen
from worker.learning.prior import fit_prior, reset_prior
from worker.learning.replay_losses import distillation_loss
from worker.learning.sources import generative_replay, interleave, real_examples
from worker.learning.strategy import Batch, Progress, TrainingContext, find
from worker.learning.training import Schedule


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


@pytest.mark.parametrize("empty", ["rows", "columns"])
def test_a_label_without_images_gets_none_of_another_label(empty: str) -> None:
    images = {"rows": stripes("rows", 10), "columns": stripes("columns", 10)}
    images[empty] = images[empty][:0]
    with pytest.raises(ValueError, match=f"no images of '{empty}'"):
        real_examples(images, {"rows": 0, "columns": 1}, torch.Generator().manual_seed(0))


def test_interleave_keeps_the_shares_in_every_step(two_labels: Checkpoint) -> None:
    teacher = frozen(two_labels, CPU)
    sources = [
        (generative_replay(teacher, [0], torch.Generator().manual_seed(0)), 3.0),
        (generative_replay(teacher, [1], torch.Generator().manual_seed(0)), 1.0),
    ]
    steps = interleave(sources, 32, CPU)
    assert [[len(part.slots) for part in next(steps)] for _ in range(5)] == [[24, 8]] * 5
    least = interleave([(sources[0][0], 1.0), (sources[1][0], 1e-9)], 32, CPU)
    assert [len(part.slots) for part in next(least)] == [32, 1], "no source is left out of a step"


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


@pytest.mark.parametrize(
    ("retained", "basis", "steps"), [(8, 5, 160), (1, 5, 20), (8, None, 100), (1, 1000, 1)]
)
def test_a_schedule_for_labels_is_longer_the_more_labels_are_retained(
    retained: int, basis: int | None, steps: int
) -> None:
    schedule = Schedule(steps=100, batch_size=32)
    assert schedule.for_labels(retained, basis) == Schedule(steps=steps, batch_size=32)


@pytest.mark.parametrize(
    ("operation", "name", "labels_after"), [("learn", "replay_ewc", 3), ("forget", "surrogate", 1)]
)
def test_a_job_takes_the_steps_of_the_labels_that_are_retained_after_it(
    operation: str, name: str, labels_after: int, two_labels: Checkpoint
) -> None:
    seen: list[Progress] = []
    found = find(operation, name)
    sent = {
        "schedule": {"steps": 6, "batch_size": 8},
        "schedule_labels": 2,
        "naive_steps": 2,
        "fisher_examples": 8,
    }
    params = found.Params.model_validate({key: sent[key] for key in sent if key in found.Params.model_fields})
    found.run(two_labels, GIVEN[operation], params, context(on_progress=seen.append))
    phase = {"learn": "learning", "forget": "forgetting"}[operation]
    assert [one.total for one in seen if one.phase == phase] == [3 * labels_after] * (3 * labels_after)
