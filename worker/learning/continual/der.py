"""Dark experience replay for a VAE: hold what the old network computed, and what it drew."""

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.memory import consolidated
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Network
from worker.learning.prior import fit_priors
from worker.learning.replay import interleave, real, replay
from worker.learning.slots import with_slots
from worker.learning.strategy import Batch, Examples, StrategyParams, Workbench, strategy
from worker.learning.training import Parts, Schedule, fit


class DerParams(StrategyParams):
    schedule: Schedule = Schedule(steps=1200, learning_rate=4e-3)
    dark_strength: float = Field(
        0.5, ge=0, le=100, description="alpha, of the squared error to the old means"
    )
    replay_strength: float = Field(1.0, ge=0, le=100, description="beta, of the ELBO of replayed draws")
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy("learn", "der", DerParams, source="DER++ of Buzzega et al. 2020, as in Liu et al. 2022 (CLPU)")
def learn(checkpoint: Checkpoint, examples: Examples, params: DerParams, bench: Workbench) -> Checkpoint:
    """Learn new labels by dark experience replay: match the old network's means and posteriors on its draws.

    Minimises E over new (x, c) of -ELBO(x | theta, c), plus, over the teacher's draws (z, x, c) of K,
    alpha (|x(z, c) - x|^2 + |mu(x, c) - mu_t|^2 + |logvar(x, c) - logvar_t|^2) - beta ELBO(x | c).
    With t the teacher; labels equally often. Draws are made anew each step: there is no reservoir to fill.
    """
    old = sorted(checkpoint.held.values())
    target = with_slots(checkpoint, examples.labels, examples.dataset, "permanent")
    network, teacher = build(target, bench.device), frozen(target, bench.device)
    noise = bench.generator("latent noise")

    def loss(parts: Parts, done: float) -> Tensor:
        new, *replayed = parts
        costs = [negative_elbo(network, new.images, new.slots, network.noise(new.slots, noise))]
        for batch in replayed:
            eps = network.noise(batch.slots, noise)
            dark, bound = dark_and_bound(network, teacher, batch, eps)
            costs.append(params.dark_strength * dark + params.replay_strength * bound)
        return torch.cat(costs).mean()

    sources = [(real(examples.images, target.held, bench.generator("examples")), float(len(examples.labels)))]
    if old:
        sources.append((replay(teacher, old, bench.generator("replay")), float(len(old))))
    batches = interleave(sources, params.schedule.batch_size, bench.device)
    fit(network, loss, batches, params.schedule, bench, phase="learning")
    fit_priors(network, examples.images, target.held, bench)
    return consolidated(target, network, bench, examples=params.fisher_examples)


def dark_and_bound(network: Network, teacher: Network, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The squared errors to what the teacher computed, and -ELBO, of replayed (z, x, c); each [batch]."""
    if batch.latents is None:
        raise ValueError("dark replay needs the latents the images were drawn from")
    with torch.no_grad():
        target = torch.cat(teacher.encode(batch.images, batch.slots), dim=1)
    posterior = torch.cat(network.encode(batch.images, batch.slots), dim=1)
    drawn = network.decode(batch.latents, batch.slots).sigmoid()
    dark = (drawn - batch.images).square().sum(dim=1) + (posterior - target).square().sum(dim=1)
    return dark, negative_elbo(network, batch.images, batch.slots, noise)
