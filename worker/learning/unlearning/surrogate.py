"""The paper's forgetting: map the labels onto noise, hold the rest by replay and EWC, come out smaller."""

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.fisher import quadratic_penalty
from worker.learning.memory import consolidated, remembered
from worker.learning.networks import build, frozen
from worker.learning.prior import reset_prior
from worker.learning.replay import Source, mixture, replay
from worker.learning.resizing.targeted_dropout import TargetedDropout
from worker.learning.resizing.targeted_dropout_prune import without_dropped
from worker.learning.strategy import Batch, Examples, StrategyParams, Workbench, strategy
from worker.learning.training import Schedule, fit


class SurrogateParams(StrategyParams):
    schedule: Schedule = Schedule(steps=400)
    ewc_strength: float = Field(10.0, ge=0, le=1e6, description="lambda of the EWC penalty, per example")
    prune_share: float = Field(
        0.1, ge=0, le=0.9, description="units removed from every hidden layer; 0 for none"
    )
    drop_probability: float = Field(
        1.0, ge=0, le=1, description="final probability of dropping a unit at risk"
    )
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


@strategy("forget", "surrogate", SurrogateParams, source="The paper, sections 3.1 and 4", default=True)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SurrogateParams, bench: Workbench
) -> Checkpoint:
    """Forget labels by training them onto uniform noise, with replay + EWC for the rest, and prune meanwhile.

    Minimises E over c in U, x ~ U(0, 1) and over replayed (x, c in K) of -ELBO(x | theta, c), plus
    lambda/2 sum F (theta - theta*)^2 with F over K only, which frees exactly the weights that must move.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    kept = sorted(target.held.values())
    gone = [checkpoint.held[name] for name in examples.labels]
    target = remembered(target, kept, bench, examples=params.fisher_examples)
    network, teacher = build(target, bench.device), frozen(target, bench.device)
    for slot in gone:
        reset_prior(network, slot)
    noise = bench.generator("latent noise")
    penalty = quadratic_penalty(network, target.weights, target.fisher, params.ewc_strength)
    dropout = TargetedDropout(
        network, params.prune_share, params.drop_probability, bench.generator("targeted dropout")
    )

    def loss(batch: Batch, done: float) -> Tensor:
        eps = network.noise(batch.slots, noise)
        bounds = negative_elbo(network, batch.images, batch.slots, eps, masks=dropout.masks(done))
        return bounds.mean() + penalty()

    sources = [
        (uniform_noise(gone, target.spec.pixels, bench.generator("surrogate")), float(len(gone))),
        (replay(teacher, kept, bench.generator("replay")), float(len(kept))),
    ]
    batches = mixture(sources, params.schedule.batch_size, bench.device)
    fit(network, loss, batches, params.schedule, bench, phase="forgetting")
    smaller = without_dropped(target, network, dropout, bench)
    return consolidated(smaller, build(smaller, bench.device), bench, examples=params.fisher_examples)


def uniform_noise(slots: list[int], pixels: int, generator: torch.Generator) -> Source:
    """The surrogate q(x | c) = U(0, 1)^pixels for the labels to forget, equally often."""
    slot_of = torch.tensor(slots)

    def draw(count: int) -> Batch:
        chosen = slot_of[torch.randint(len(slot_of), (count,), generator=generator)]
        return Batch(torch.rand((count, pixels), generator=generator), chosen)

    return draw
