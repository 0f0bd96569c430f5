"""Compute the Fisher information that a penalty of EWC needs, on a network's own draws."""

from collections.abc import Collection
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.fisher import SquaredGradients
from worker.learning.networks import frozen, weights_of
from worker.learning.networks.network import Network
from worker.learning.resuming import InPlace
from worker.learning.sources import BATCH, draw_batches, generative_replay
from worker.learning.strategy import TrainingContext

FisherExamples = Annotated[
    int,
    Field(
        ge=1,
        le=1_000_000,
        description="Number of replayed draws over which the Fisher information is averaged.",
    ),
]

UnusedFisherExamples = Annotated[
    int,
    Field(
        ge=1,
        le=1_000_000,
        description="Not used: this strategy needs no Fisher information. Accepted, so that requests that "
        "were valid before stay valid.",
        json_schema_extra={"deprecated": True},
    ),
]


def with_trained_weights(checkpoint: Checkpoint, network: Network) -> Checkpoint:
    """Return the checkpoint with the trained network's weights, and without Fisher information.

    It belongs to the weights of the anchor. A later strategy that needs that of the new weights computes it
    from them (docs/decisions/0159).
    """
    return replace(checkpoint, weights=weights_of(network), fisher=None)


def with_fisher_over(
    checkpoint: Checkpoint, slots: Collection[int], context: TrainingContext, *, examples: int
) -> Checkpoint:
    """Return the checkpoint with its Fisher information computed over these slots only.

    It is estimated on `examples` mean images x = E[x | z, c] that the network itself draws, with c uniform
    over the slots and z ~ p(z | c). Source: the paper, section 2.2.
    """
    network = frozen(checkpoint, context.device)
    fisher = fisher_on_draws(network, slots, context, examples, "fisher of the anchor")
    return replace(checkpoint, fisher=fisher)


def fisher_on_draws(
    network: Network, slots: Collection[int], context: TrainingContext, examples: int, purpose: str
) -> dict[str, Tensor]:
    """Compute the diagonal Fisher information on the network's own draws, with equal shares of these slots.

    purpose: names the random stream. Returns parameter name -> CPU tensor of its shape.
    """
    phase, generator = "computing Fisher information", context.generator(purpose)
    source, sums = generative_replay(network, sorted(slots), generator), SquaredGradients(network)
    with context.loop(phase, range(0, examples, BATCH), [InPlace(sums.totals)]) as starts:
        for seen in starts:
            context.step(phase, seen, examples)
            for batch in draw_batches(source, min(BATCH, examples - seen), context.device):
                sums.add(batch, generator)
    return sums.mean(examples)
