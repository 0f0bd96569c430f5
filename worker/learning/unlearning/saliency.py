"""Forgetting that trains the salient weights only; all others do not change by a bit."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples, with_trained_weights
from worker.learning.mapping import (
    MappingParams,
    NaiveSteps,
    SurrogateName,
    SurrogateShare,
    map_onto_surrogate,
)
from worker.learning.networks import build
from worker.learning.networks.network import NO_MASKS, Network
from worker.learning.replay_losses import ReplayMatch
from worker.learning.resuming import InPlace
from worker.learning.sources import BATCH, draw_batches
from worker.learning.strategy import Examples, TrainingContext, strategy
from worker.learning.streams import Stream
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
        0.01, gt=0, le=1, description="Share of all parameters that are salient and may change."
    )
    mask: Literal["gradient", "random"] = Field(
        "gradient",
        description="Which parameters may change. `gradient`: those with the largest gradient of the loss "
        "that makes the network forget. `random`: as many, chosen at random, to compare with.",
    )
    saliency_examples: int = Field(
        2_000,
        ge=1,
        le=1_000_000,
        description="Number of surrogate examples over which the gradient is averaged.",
    )


@strategy("forget", "saliency", SaliencyParams, source="SalUn (Fan et al. 2024, arXiv:2310.12508)")
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SaliencyParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by training only the weights that are salient for forgetting them, onto a surrogate.

    Minimises the loss of the strategy `surrogate`, without EWC and pruning, over the salient parameters: the
    share of them with the largest |dL_f/d theta_i| at theta*. L_f is the loss that makes the network forget:
    E over labels c to forget, z ~ p(z | c) and x ~ q(x | z, c) of -log p(x | z, c), with q the surrogate.
    Its gradient at theta* is not zero, as that of the labels' own draws would be. All other parameters keep
    exactly their values, but for the encoder embeddings of the forgotten labels, which become zero. The
    update is masked rather than the gradient, so the optimiser's momentum cannot move them either.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    network = build(target, context.device)

    def keep_fixed(surrogate: Stream) -> Callable[[], None]:
        if params.mask == "random":
            chosen = random_share(network, params.share, context.generator("random mask"))
        else:
            gradients = mean_gradient(network, surrogate, params.saliency_examples, context)
            chosen = top_share(gradients, params.share)
        return restore_outside(chosen, network)

    map_onto_surrogate(network, target, examples.labels, params, context, keep_fixed=keep_fixed)
    return with_trained_weights(target, network)


def mean_gradient(
    network: Network, surrogate: Stream, examples: int, context: TrainingContext
) -> dict[str, Tensor]:
    """Compute the gradient of the mean loss of the surrogate's examples: parameter name -> tensor."""
    parameters = dict(network.named_parameters())
    totals = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    phase = "measuring saliency"
    with context.loop(phase, range(0, examples, BATCH), [InPlace(totals)]) as starts:
        for seen in starts:
            context.step(phase, seen, examples)
            for batch in draw_batches(surrogate.source, min(BATCH, examples - seen), context.device):
                loss = surrogate.loss(batch, NO_MASKS).sum() / examples
                # A surrogate that trains the decoder alone gives the encoder no gradient.
                gradients = torch.autograd.grad(
                    loss, list(parameters.values()), allow_unused=True, materialize_grads=True
                )
                for total, part in zip(totals.values(), gradients, strict=True):
                    total += part
    return totals


def random_share(network: Network, share: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Mark a random `share` of all parameters of the network, over all tensors together."""
    draws = {
        name: torch.rand(tensor.shape, generator=generator).to(tensor.device)
        for name, tensor in network.named_parameters()
    }
    return top_share(draws, share)


def top_share(gradients: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Mark the largest `share` of all values by magnitude, over all tensors together, and at least one."""
    magnitudes = torch.cat([tensor.abs().flatten() for tensor in gradients.values()])
    chosen = torch.zeros_like(magnitudes, dtype=torch.bool)
    count = max(1, round(share * len(magnitudes)))
    chosen[magnitudes.argsort(descending=True, stable=True)[:count]] = True
    parts = torch.split(chosen, [tensor.numel() for tensor in gradients.values()])
    return {name: part.view_as(gradients[name]) for name, part in zip(gradients, parts, strict=True)}
