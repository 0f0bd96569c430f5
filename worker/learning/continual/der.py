"""Dark experience replay for a VAE: hold what the old network computed, and what it drew."""

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import to_learn
from worker.learning.elbo import negative_elbo
from worker.learning.memory import consolidated
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Masks, Network
from worker.learning.prior import fit_priors
from worker.learning.retention import drawn_from, holding, mean_cost, mixed
from worker.learning.slots import with_labels
from worker.learning.strategy import Batch, Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit


class DerParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1000, learning_rate=1e-2)
    dark_strength: float = Field(
        0.5, ge=0, le=100, description="alpha, of the squared error to the old means"
    )
    replay_strength: float = Field(1.0, ge=0, le=100, description="beta, of the ELBO of replayed draws")
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy("learn", "der", DerParams, source="DER++ of Buzzega et al. 2020, as in Liu et al. 2022 (CLPU)")
def learn(
    checkpoint: Checkpoint, examples: Examples, params: DerParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels by dark experience replay: match the old network's means and posteriors on its draws.

    Minimises E over new (x, c) of -ELBO(x | theta, c), plus, over the teacher's draws (z, x, c) of K,
    alpha (|x(z, c) - x|^2 + |mu(x, c) - mu_t|^2 + |logvar(x, c) - logvar_t|^2) - beta ELBO(x | c).
    With t the teacher; labels equally often. Draws are made anew each step: there is no reservoir to fill.
    Forgotten labels are held at what they draw.
    """
    old = sorted(checkpoint.held.values())
    target = with_labels(checkpoint, examples.labels, examples.dataset)
    network, teacher = build(target, context.device), frozen(target, context.device)
    noise = context.generator("latent noise")

    def dark_replay(batch: Batch, masks: Masks) -> Tensor:
        dark, bound = dark_and_bound(network, teacher, batch, network.noise(batch.slots, noise))
        return params.dark_strength * dark + params.replay_strength * bound

    streams = [
        to_learn(examples.images, target, network, context),
        *holding(network, teacher, old, sorted(target.forgotten.values()), dark_replay, context),
    ]

    def loss(parts: Parts, done: float) -> Tensor:
        return mean_cost(streams, parts)

    batches = mixed(streams, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="learning")
    fit_priors(network, examples.images, target.held, context)
    return consolidated(target, network, context, examples=params.fisher_examples)


def dark_and_bound(network: Network, teacher: Network, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The squared errors to what the teacher computed, and -ELBO, of replayed (z, x, c); each [batch]."""
    with torch.no_grad():
        target = torch.cat(teacher.encode(batch.images, batch.slots), dim=1)
    posterior = torch.cat(network.encode(batch.images, batch.slots), dim=1)
    drawn = network.decode(drawn_from(batch), batch.slots).sigmoid()
    dark = (drawn - batch.images).square().sum(dim=1) + (posterior - target).square().sum(dim=1)
    return dark, negative_elbo(network, batch.images, batch.slots, noise)
