"""Learning with rehearsal: train on real images of new labels and replay of old ones, with an EWC penalty."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, with_fisher_over, with_trained_weights
from worker.learning.elbo import negative_elbo
from worker.learning.fisher import EwcStrength, quadratic_penalty
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Masks, Network
from worker.learning.prior import fit_priors
from worker.learning.replay_losses import ReplayMatch, replay_loss
from worker.learning.sources import real_examples
from worker.learning.strategy import Batch, StrategyParams, TrainingContext
from worker.learning.streams import Stream, mean_loss, mixed_batches, replay_streams
from worker.learning.training import Parts, Schedule, fit
from worker.learning.units.resize import grow_by, room, units_for_labels, units_to_add

ExpandShare = Annotated[
    Annotated[float, Field(ge=0, le=4)] | None,
    Field(
        description="Units to add to every hidden layer before learning, as a share of its width; a layer "
        "stops growing at its maximum width. 0 adds none. null: as many as multiply the width by "
        "(labels after / labels before) ** 0.2, so that it follows the number of retained labels.",
    ),
]


class RehearsalParams(StrategyParams):
    """Params of learning with rehearsal. Every strategy that uses it sets its own defaults."""

    schedule: Schedule
    replay_match: ReplayMatch
    ewc_strength: EwcStrength
    fisher_examples: FisherExamples


class ExpandingRehearsalParams(RehearsalParams):
    """Params of learning with rehearsal for strategies that expand the network first."""

    expand_share: ExpandShare


def expand_before_learning(
    checkpoint: Checkpoint, new: int, params: ExpandingRehearsalParams, context: TrainingContext
) -> Checkpoint:
    """Widen every hidden layer by `expand_share`; compute the Fisher information over the retained labels.

    new: how many labels are going to be learned. A layer grows to its maximum width at most. A network that
    retains no label is returned unchanged.
    """
    held = len(checkpoint.retained)
    if not held:
        return checkpoint
    if params.expand_share is None:
        requested = units_for_labels(checkpoint, held, held + new)
    else:
        requested = units_to_add(checkpoint, params.expand_share)
    added = {layer: min(units, room(checkpoint, layer)) for layer, units in requested.items()}
    larger = grow_by(checkpoint, added, context.generator("expansion"))
    if params.ewc_strength == 0:
        return larger
    return with_fisher_over(larger, larger.retained.values(), context, examples=params.fisher_examples)


def learn_with_rehearsal(
    target: Checkpoint,
    images: Mapping[str, Tensor],
    old: Sequence[int],
    params: RehearsalParams,
    context: TrainingContext,
    *,
    forgotten: Sequence[int] = (),
    proximal: Callable[[Network, float], None] = lambda network, rate: None,
) -> Checkpoint:
    """Train `target` on the labels of `images` while it rehearses the slots in `old`; return the result.

    Minimises -ELBO on the new images, plus the replay loss on the teacher's draws of the old labels, plus the
    EWC penalty. Then fits the priors of the new labels.
    target: has a slot for every label of `images`. Its weights are those of the teacher and the anchor of
    EWC; its Fisher information is over `old`. images: label -> uint8 [n, pixels].
    forgotten: slots of forgotten labels, which are trained to keep drawing what they draw now.
    proximal: takes the proximal step of another penalty, given the network and the learning rate: see `fit`.
    """
    network = build(target, context.device)
    teacher = frozen(target, context.device, precision=context.precision)
    noise = context.generator("latent noise")
    penalty = quadratic_penalty(network, target.weights, target.fisher, params.ewc_strength)
    old_loss = replay_loss(params.replay_match, network, teacher, noise)
    streams = [
        new_label_stream(images, target, network, context),
        *replay_streams(network, teacher, old, forgotten, old_loss, context, draws=params.schedule.examples),
    ]

    def loss(parts: Parts, progress: float) -> Tensor:
        return mean_loss(streams, parts) + penalty()

    batches = mixed_batches(streams, params.schedule.batch_size, context.device)
    fit(
        network,
        loss,
        batches,
        params.schedule,
        context,
        phase="learning",
        proximal=lambda rate: proximal(network, rate),
    )
    fit_priors(network, images, target.retained, context)
    return with_trained_weights(target, network)


def learn_from_images(
    target: Checkpoint,
    images: Mapping[str, Tensor],
    schedule: Schedule,
    context: TrainingContext,
) -> Checkpoint:
    """Train `target` on the labels of `images`, without rehearsal of other labels; return the result."""
    params = RehearsalParams(schedule=schedule, replay_match="function", ewc_strength=0, fisher_examples=1)
    return learn_with_rehearsal(target, images, [], params, context)


def new_label_stream(
    images: Mapping[str, Tensor], target: Checkpoint, network: Network, context: TrainingContext
) -> Stream:
    """Make the stream of real images of the new labels, in equal shares, with -ELBO as their loss."""
    noise = context.generator("latent noise of the new")

    def loss(batch: Batch, masks: Masks) -> Tensor:
        eps = network.noise(batch.slots, noise)
        return negative_elbo(network, batch.images, batch.slots, eps, masks=masks)

    source = real_examples(images, target.retained, context.generator("examples"))
    return Stream(source, float(len(images)), loss)
