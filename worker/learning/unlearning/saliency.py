"""Forgetting that trains the salient weights only; all others do not change by a bit."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples, with_trained_weights
from worker.learning.elbo import negative_elbo
from worker.learning.mapping import (
    MappingParams,
    NaiveSteps,
    SurrogateName,
    SurrogateShare,
    map_onto_surrogate,
)
from worker.learning.networks import build
from worker.learning.networks.network import Network
from worker.learning.replay_losses import ReplayMatch
from worker.learning.resuming import InPlace
from worker.learning.sources import BATCH, draw_batches, generative_replay
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.training import Schedule
from worker.learning.units.weight_masks import restore_outside


class SaliencyParams(MappingParams):
    schedule: Schedule = Schedule(steps=500, learning_rate=1e-2, label_rate=30)
    surrogate: SurrogateName = "never_learned"
    surrogate_share: SurrogateShare = 0.5
    naive_steps: NaiveSteps = 300
    replay_match: ReplayMatch = "function"
    fisher_examples: UnusedFisherExamples = 10_000
    share: float = Field(
        0.5, gt=0, le=1, description="Share of all parameters that are salient and may change."
    )
    saliency_examples: int = Field(
        2_000,
        ge=1,
        le=1_000_000,
        description="Number of draws over which the gradient of the loss of the labels to forget is "
        "averaged.",
    )


@strategy("forget", "saliency", SaliencyParams, source="SalUn (Fan et al. 2024, arXiv:2310.12508)")
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SaliencyParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by training only the weights that are salient for them, onto a surrogate.

    Minimises the loss of the strategy `surrogate`, without EWC and pruning, over the salient parameters: the
    share of them with the largest |dL/d theta_i| at theta*, with L = E over labels c to forget and
    x ~ p(x | theta*, c) of -ELBO(x | theta, c). All other parameters keep exactly their values: the update is
    masked rather than the gradient, so the momentum of the optimiser cannot move them either.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    forgotten = [target.forgotten[name] for name in examples.labels]
    network = build(target, context.device)
    gradients = mean_gradient(network, forgotten, params.saliency_examples, context)
    restore = restore_outside(top_share(gradients, params.share), network)
    map_onto_surrogate(network, target, examples.labels, params, context, after_step=restore)
    return with_trained_weights(target, network)


def mean_gradient(
    network: Network, slots: Sequence[int], examples: int, context: TrainingContext
) -> dict[str, Tensor]:
    """Compute the gradient of the mean -ELBO of the network's own draws of `slots`: name -> tensor."""
    generator = context.generator("saliency")
    parameters = dict(network.named_parameters())
    totals = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    phase, source = "measuring saliency", generative_replay(network, slots, generator)
    with context.loop(phase, range(0, examples, BATCH), [InPlace(totals)]) as starts:
        for seen in starts:
            context.step(phase, seen, examples)
            for batch in draw_batches(source, min(BATCH, examples - seen), context.device):
                noise = network.noise(batch.slots, generator)
                loss = negative_elbo(network, batch.images, batch.slots, noise).sum() / examples
                gradients = torch.autograd.grad(loss, list(parameters.values()))
                for total, part in zip(totals.values(), gradients, strict=True):
                    total += part
    return totals


def top_share(gradients: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Mark the largest `share` of all values by magnitude, over all tensors together, and at least one."""
    magnitudes = torch.cat([tensor.abs().flatten() for tensor in gradients.values()])
    chosen = torch.zeros_like(magnitudes, dtype=torch.bool)
    count = max(1, round(share * len(magnitudes)))
    chosen[magnitudes.argsort(descending=True, stable=True)[:count]] = True
    parts = torch.split(chosen, [tensor.numel() for tensor in gradients.values()])
    return {name: part.view_as(gradients[name]) for name, part in zip(gradients, parts, strict=True)}
