"""The paper's learning: expand, then train on new examples, the old network's draws and an EWC penalty."""

from collections.abc import Callable, Mapping, Sequence

from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.fisher import quadratic_penalty
from worker.learning.memory import consolidated, remembered
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Masks, Network
from worker.learning.prior import fit_priors
from worker.learning.replay import real
from worker.learning.resizing.units import added, grow_by, room
from worker.learning.retention import Match, Stream, holding, mean_cost, mixed, replay_loss
from worker.learning.slots import with_labels
from worker.learning.strategy import Batch, Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit


class HoldingParams(StrategyParams):
    """How to learn while holding what was learnt before."""

    schedule: Schedule = Schedule(steps=1000, learning_rate=1e-2)
    replay_match: Match = Field(
        "function", description="what replay holds: the function, or the paper's ELBO"
    )
    ewc_strength: float = Field(1.0, ge=0, le=1e6, description="lambda of the EWC penalty, per example")
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


class ReplayEwcParams(HoldingParams):
    expand_share: float = Field(
        0.1, ge=0, le=4, description="units added to every hidden layer, as far as it may grow; 0 for none"
    )


@strategy("learn", "replay_ewc", ReplayEwcParams, source="The paper, sections 2.2 and 4", default=True)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: ReplayEwcParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels while holding the old ones: generative replay + EWC, after expanding the network.

    Minimises E over new (x, c) of -ELBO(x | theta, c), plus the replay loss over the teacher's draws of the
    labels held, labels equally often, plus lambda/2 sum F (theta - theta*)^2.
    """
    old = sorted(checkpoint.held.values())
    target = grown(checkpoint, params, context)
    target = with_labels(target, examples.labels, examples.dataset)
    return taught(target, examples.images, old, params, context, forgotten=sorted(target.forgotten.values()))


def grown(checkpoint: Checkpoint, params: ReplayEwcParams, context: TrainingContext) -> Checkpoint:
    """The checkpoint with room to learn in, and the Fisher over what it holds; itself if that is nothing.

    A layer as wide as it may be stays so: there are more labels than growths.
    """
    if not checkpoint.held:
        return checkpoint
    asked = added(checkpoint, params.expand_share)
    extra = {seam: min(units, room(checkpoint, seam)) for seam, units in asked.items()}
    wider = grow_by(checkpoint, extra, context.generator("expansion"))
    if params.ewc_strength == 0:
        return wider
    return remembered(wider, wider.held.values(), context, examples=params.fisher_examples)


def taught(
    target: Checkpoint,
    images: Mapping[str, Tensor],
    old: Sequence[int],
    params: HoldingParams,
    context: TrainingContext,
    *,
    forgotten: Sequence[int] = (),
    regulariser: Callable[[Network], Tensor] | None = None,
) -> Checkpoint:
    """`target` after learning the labels of `images`, whose slots hold nothing yet, while holding `old`.

    target: with the Fisher over `old`; its weights are the teacher's and the anchor. forgotten: slots to keep
    drawing what they draw now. regulariser: nats an example, added to the loss.
    """
    network, teacher = build(target, context.device), frozen(target, context.device)
    noise = context.generator("latent noise")
    penalty = quadratic_penalty(network, target.weights, target.fisher, params.ewc_strength)
    retain = replay_loss(params.replay_match, network, teacher, noise)

    streams = [
        to_learn(images, target, network, context),
        *holding(network, teacher, old, forgotten, retain, context),
    ]

    def loss(parts: Parts, done: float) -> Tensor:
        cost = mean_cost(streams, parts) + penalty()
        return cost if regulariser is None else cost + regulariser(network)

    batches = mixed(streams, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="learning")
    fit_priors(network, images, target.held, context)
    return consolidated(target, network, context, examples=params.fisher_examples)


def to_learn(
    images: Mapping[str, Tensor], target: Checkpoint, network: Network, context: TrainingContext
) -> Stream:
    """Real images of new labels, equally often, at -ELBO an image."""
    noise = context.generator("latent noise of the new")

    def bound(batch: Batch, masks: Masks) -> Tensor:
        eps = network.noise(batch.slots, noise)
        return negative_elbo(network, batch.images, batch.slots, eps, masks=masks)

    return Stream(real(images, target.held, context.generator("examples")), float(len(images)), bound)
