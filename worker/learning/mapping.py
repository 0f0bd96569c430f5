"""Forget labels by training them to draw a surrogate, while replay preserves all other labels."""

from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.adversary import ColumnAdversary
from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples
from worker.learning.elbo import negative_elbo_from_prior
from worker.learning.label_columns import label_tables
from worker.learning.networks import frozen
from worker.learning.networks.network import NO_MASKS, Masks, Network
from worker.learning.prior import reset_prior
from worker.learning.replay_losses import ExampleLoss, ReplayMatch, decoder_loss, replay_loss
from worker.learning.resuming import Resumable
from worker.learning.sources import generative_replay, pooled
from worker.learning.strategy import StrategyParams, TrainingContext
from worker.learning.streams import Stream, mean_loss, mixed_batches, replay_streams
from worker.learning.surrogates import (
    SURROGATE_DRAWS,
    Picture,
    naive_network,
    picture_surrogate,
    unrecognised,
)
from worker.learning.training import Parts, Schedule, fit

SurrogateName = Annotated[
    Literal[Picture, "never_learned", "unrecognised"],
    Field(
        description="What the forgotten labels draw afterwards. `never_learned`: what a network that never "
        "saw them draws. `unrecognised`: the same, but draws that the old network recognises as one of the "
        "forgotten labels are replaced by the mean of the others. Or a fixed picture: `uniform_noise`, as in "
        "the paper, `blank` (black) or `mean_image` (the mean of the retained labels)."
    ),
]
SurrogateShare = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="Share of the examples in a training step that train the forgotten labels; the rest is "
        "replay.",
    ),
]
NaiveSteps = Annotated[
    int,
    Field(
        ge=1,
        le=100_000,
        description="Number of training steps of the naive network, which never sees the forgotten labels. "
        "Used by the surrogates `never_learned` and `unrecognised` only.",
    ),
]


class MappingParams(StrategyParams):
    """Params of training onto a surrogate. Every strategy that uses it sets its own defaults."""

    schedule: Schedule
    surrogate: SurrogateName
    surrogate_share: SurrogateShare
    naive_steps: NaiveSteps
    replay_match: ReplayMatch
    fisher_examples: FisherExamples


def map_onto_surrogate(
    network: Network,
    target: Checkpoint,
    labels: Collection[str],
    params: MappingParams,
    context: TrainingContext,
    *,
    penalty: Callable[[], Tensor | float] = lambda: 0.0,
    masks: Callable[[float], Masks] = lambda progress: NO_MASKS,
    keep_fixed: Callable[[Stream], Callable[[], None]] = lambda surrogate: lambda: None,
    changed: Sequence[Resumable] = (),
    adversarial_share: float = 0.0,
) -> None:
    """Train `network`, in place, to draw the surrogate for `labels` and what `target` draws for all others.

    First sets the priors of `labels` to N(0, I) and their encoder embeddings to zero. The share of a step's
    examples that trains the surrogate does not depend on how many labels are forgotten: a larger share costs
    the retained labels coverage (docs/decisions/0007), a smaller one leaves something of the forgotten labels
    (docs/decisions/0009).
    target: the teacher, in which `labels` have the status forgotten.
    penalty: another term of the loss, in nats per example. masks: share of the training that is done -> the
    hidden units to drop in the step. keep_fixed: is called before the training with the examples of the
    surrogate and their loss, and returns what to do after every step, such as restoring weights that must not
    change. changed: as in `fit`. adversarial_share: the share of the surrogate's examples that train the
    network against an adversary (`adversary.py`). A fixed picture has no naive network to learn from, and a
    network without label embeddings no columns to search: then there is no adversary.
    """
    teacher = frozen(target, context.device, precision=context.precision)
    retained = sorted(target.retained.values())
    forgotten = sorted(target.forgotten[name] for name in labels)
    forgotten_before = sorted(set(target.forgotten.values()) - set(forgotten))
    for slot in forgotten:
        reset_prior(network, slot)
        _clear_encoder_embeddings(network, slot)
    noise = context.generator("latent noise")
    retained_loss = replay_loss(params.replay_match, network, teacher, noise)
    drawn = context.generator("surrogate")
    adversary: ColumnAdversary | None = None
    replayed = replay_streams(
        network, teacher, retained, forgotten_before, retained_loss, context, draws=params.schedule.examples
    )
    match params.surrogate:
        case "never_learned" | "unrecognised":
            draws = replayed[0].source
            naive = naive_network(target, draws, params.naive_steps, params.schedule.batch_size, context)
            surrogate = generative_replay(naive, forgotten, drawn)
            surrogate_loss = decoder_loss(network)
            if adversarial_share > 0 and label_tables(network):
                own = generative_replay(teacher, forgotten, context.generator("draws of the forgotten"))
                adversary = ColumnAdversary(network, naive, own, forgotten, retained, context)
        case picture:
            surrogate = picture_surrogate(picture, forgotten, retained, teacher, drawn)
            surrogate_loss = _picture_loss(network, noise)
    if params.surrogate == "unrecognised":
        surrogate = unrecognised(surrogate, teacher, forgotten, retained, drawn)
    elif params.surrogate == "never_learned":
        surrogate = pooled(surrogate, min(SURROGATE_DRAWS, params.schedule.examples), drawn)
    share = params.surrogate_share / (1 - params.surrogate_share) * sum(one.share for one in replayed)
    if adversary is None and adversarial_share > 0:
        context.findings["adversarial_share"] = adversarial_share = 0.0  # none could be made
    mapped = Stream(surrogate, share * (1 - adversarial_share), surrogate_loss)
    restore_fixed, streams = keep_fixed(mapped), [mapped, *replayed]
    if adversary is not None:
        streams.append(Stream(adversary.draw, share * adversarial_share, adversary.loss))
        changed = [*changed, adversary]

    def loss(parts: Parts, progress: float) -> Tensor:
        return mean_loss(streams, parts, masks(progress)) + penalty()

    def after_step() -> None:
        restore_fixed()
        if adversary is not None:
            adversary.step()

    batches = mixed_batches(streams, params.schedule.batch_size, context.device)
    fit(
        network,
        loss,
        batches,
        params.schedule,
        context,
        phase="forgetting",
        after_step=after_step,
        changed=changed,
    )


def _clear_encoder_embeddings(network: Network, slot: int) -> None:
    """Zero the slot's encoder embeddings, in place: no surrogate trains them, so they would not change."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if name.startswith("encoder.") and name.endswith(".label"):
                tensor[slot] = 0


def _picture_loss(network: Network, generator: torch.Generator) -> ExampleLoss:
    """Make the loss of a picture surrogate: see `negative_elbo_from_prior`."""
    return lambda batch, masks: negative_elbo_from_prior(
        network, batch.images, batch.slots, network.prior_noise(batch.slots, generator), masks=masks
    )
