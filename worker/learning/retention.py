"""Holding on to what a network can draw: streams of replayed examples, and what they cost."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from worker.learning.elbo import negative_elbo, reconstruction
from worker.learning.networks.network import NO_MASKS, Masks, Network
from worker.learning.replay import Source, interleave, replay
from worker.learning.strategy import Batch, TrainingContext
from worker.learning.training import Parts

Match = Literal["function", "elbo"]
Cost = Callable[[Batch, Masks], Tensor]  # (batch, masks) -> nats, [batch]

NARROWEST = -6.0  # log variance of a posterior over z, whose prior is about 1 wide: usual ones are above


class Stream(NamedTuple):
    """Examples that every step sees some of: where from, how often, and what one of them costs."""

    source: Source
    share: float  # of a batch, beside the shares of the other streams
    cost: Cost


def mixed(streams: Sequence[Stream], batch_size: int, device: torch.device) -> Iterator[Parts]:
    """Steps of `batch_size` examples, a batch from each stream in the streams' shares."""
    return interleave([(one.source, one.share) for one in streams], batch_size, device)


def mean_cost(streams: Sequence[Stream], parts: Parts, masks: Masks = NO_MASKS) -> Tensor:
    """Of one step's examples, nats an example."""
    return torch.cat([one.cost(batch, masks) for one, batch in zip(streams, parts, strict=True)]).mean()


def holding(
    network: Network,
    teacher: Network,
    kept: Sequence[int],
    forgotten: Sequence[int],
    retain: Cost,
    context: TrainingContext,
    purpose: str = "replay",
) -> list[Stream]:
    """What holds a network to its teacher while something else is trained.

    kept: slots of labels to retain, equally often, at the cost `retain`. forgotten: slots that go on drawing
    what they draw now, all of them together as often as one label: with nothing to hold it there, a ghost
    comes back as its neighbours move (docs/decisions/0006).
    """
    streams = []
    if kept:
        source = replay(teacher, kept, context.generator(purpose))
        streams.append(Stream(source, float(len(kept)), retain))
    if forgotten:
        source = replay(teacher, forgotten, context.generator(f"{purpose} of the forgotten"))
        streams.append(Stream(source, 1.0, still_drawn(network)))
    return streams


def still_drawn(network: Network) -> Cost:
    """-log p(x | z, c) at the z that x was drawn from: of the decoder alone.

    The encoder has no say in what a label draws, and what it makes of a surrogate is arbitrary: to match it
    there had gradients of a million where the labels to learn have some hundreds (docs/decisions/0007).
    """

    def cost(batch: Batch, masks: Masks) -> Tensor:
        return reconstruction(network.decode(drawn_from(batch), batch.slots, masks), batch.images)

    return cost


def drawn_from(batch: Batch) -> Tensor:
    """The latents of replayed images, [batch, latent]."""
    if batch.latents is None:
        raise ValueError("matching a function needs the latents the images were drawn from")
    return batch.latents


def replay_loss(match: Match, network: Network, teacher: Network, generator: torch.Generator) -> Cost:
    """What a replayed example costs. `elbo`: the paper's, as if the draw were data. `function`: see below."""
    if match == "function":
        return lambda batch, masks: distillation(network, teacher, batch, masks=masks)
    return lambda batch, masks: negative_elbo(
        network, batch.images, batch.slots, network.noise(batch.slots, generator), masks=masks
    )


def distillation(network: Network, teacher: Network, batch: Batch, *, masks: Masks = NO_MASKS) -> Tensor:
    """Match the teacher's function on replayed (z, x, c), [batch], nats.

    -log p(x | z, c) at the very z the teacher drew x from, and KL(q(z | x, c) || q_teacher(z | x, c)). The
    ELBO of a draw forgets its z and pays the encoder to find another: each generation is a little softer than
    the last. Matching the function has no such drift (docs/decisions/0004). The teacher's variances are taken
    as NARROWEST at least: a posterior that has run away is not handed on (docs/decisions/0009).
    """
    latents = drawn_from(batch)
    mean, logvar = network.encode(batch.images, batch.slots, masks)
    with torch.no_grad():
        target_mean, target_logvar = teacher.encode(batch.images, batch.slots)
        target_logvar = target_logvar.clamp(min=NARROWEST)
    logits = network.decode(latents, batch.slots, masks)
    ratio = (logvar - target_logvar).exp() + (mean - target_mean).square() * (-target_logvar).exp()
    divergence = 0.5 * (ratio - 1 - logvar + target_logvar).sum(dim=1)
    return reconstruction(logits, batch.images) + divergence
