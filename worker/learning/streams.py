"""Streams of training examples: each has a share of every training step and its own loss."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from worker.learning.networks.network import NO_MASKS, Masks, Network
from worker.learning.replay_losses import ExampleLoss, decoder_loss
from worker.learning.sources import (
    POOLED,
    POOLED_FORGOTTEN,
    Source,
    generative_replay,
    interleave,
    pooled,
    with_posteriors,
)
from worker.learning.strategy import TrainingContext
from worker.learning.training import Parts


class Stream(NamedTuple):
    """A source of examples for every training step, with their loss."""

    source: Source
    share: float  # of a step's examples, relative to the shares of the other streams
    loss: ExampleLoss


def replay_streams(
    network: Network,
    teacher: Network,
    retained: Sequence[int],
    forgotten: Sequence[int],
    retained_loss: ExampleLoss,
    context: TrainingContext,
    *,
    draws: int,
    purpose: str = "replay",
) -> list[Stream]:
    """Make the streams that keep a network close to its teacher while it is trained on something else.

    retained: slots of labels to retain, in equal shares, with `retained_loss`.
    forgotten: slots of labels forgotten earlier, which are trained to draw what they draw now; all of them
        together have the share of one retained label. Without this, a forgotten label comes back as other
        labels change (docs/decisions/0006).
    draws: how many examples the training takes; the teacher draws POOLED of them at most, which are sampled
    from then on. purpose: names the random streams.
    """
    streams, most = [], min(draws, POOLED)
    if retained:
        generator = context.generator(purpose)
        source = with_posteriors(generative_replay(teacher, retained, generator), teacher)
        streams.append(Stream(pooled(source, most, generator), float(len(retained)), retained_loss))
    if forgotten:
        generator = context.generator(f"{purpose} of the forgotten")
        source = pooled(
            generative_replay(teacher, forgotten, generator), min(most, POOLED_FORGOTTEN), generator
        )
        streams.append(Stream(source, 1.0, decoder_loss(network)))
    return streams


def mixed_batches(streams: Sequence[Stream], batch_size: int, device: torch.device) -> Iterator[Parts]:
    """Yield the examples of each step, endlessly: one batch from each stream, about `batch_size` in all."""
    return interleave([(one.source, one.share) for one in streams], batch_size, device)


def mean_loss(streams: Sequence[Stream], parts: Parts, masks: Masks = NO_MASKS) -> Tensor:
    """Average the loss over all examples of a step, in nats per example. parts: one batch for each stream."""
    return torch.cat([one.loss(batch, masks) for one, batch in zip(streams, parts, strict=True)]).mean()
