"""Make temporary labels permanent: the main network learns what their isolated networks draw."""

from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import FisherExamples, with_trained_weights
from worker.learning.fisher import EwcStrength, quadratic_penalty
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Masks, Network
from worker.learning.rehearsal import ExpandingRehearsalParams, ExpandShare, expand_before_learning
from worker.learning.replay_losses import ExampleLoss, ReplayMatch, distillation_loss, replay_loss
from worker.learning.slots import LabelConflict, in_slot, with_new_labels
from worker.learning.sources import generative_replay
from worker.learning.strategy import Batch, Examples, TrainingContext, strategy
from worker.learning.streams import Stream, mean_loss, mixed_batches, replay_streams
from worker.learning.training import LEARN_SCHEDULE, Parts, Schedule, fit


class MergeParams(ExpandingRehearsalParams):
    schedule: Schedule = LEARN_SCHEDULE
    replay_match: ReplayMatch = "function"
    ewc_strength: EwcStrength = 1.0
    fisher_examples: FisherExamples = 10_000
    expand_share: ExpandShare = None


@strategy(
    "learn",
    "merge",
    MergeParams,
    source="CLPU of Liu et al. 2022 (arXiv:2203.12817), case 3, by matching functions",
    needs_examples=False,
    merges_temporary=True,
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: MergeParams, context: TrainingContext
) -> Checkpoint:
    """Make temporary labels permanent: distil their isolated networks into the main one, without their data.

    Minimises E over the labels c to merge and z ~ p_c(z) of -log p(x | z, c) + KL(q(z | x, c) || q_c(z | x)),
    where p_c and q_c are the prior and the posterior of the label's isolated network and x is its mean image
    at z, plus the replay loss over the labels that the main network retains, plus
    lambda/2 sum F (theta - theta*)^2. The priors of the isolated networks are copied. After that, the labels
    can no longer be forgotten exactly by dropping a network.
    Raises LabelConflict for a label that is not temporary.
    """
    temporary = checkpoint.temporary
    permanent = sorted(set(examples.labels) - set(temporary))
    if permanent:
        raise LabelConflict(
            f"these labels are not temporary, so they have no isolated network to merge: {permanent}"
        )
    old = sorted(checkpoint.retained.values())
    target = expand_before_learning(checkpoint, len(examples.labels), params, context)
    for name in examples.labels:
        label = temporary[name].label(name)
        target = with_new_labels(target, [name], label.dataset)
        if label.renamed_from:
            target = target.renamed({name: label.renamed_from})
    network = build(target, context.device)
    teacher = frozen(target, context.device, precision=context.precision)
    slots = {name: target.retained[name] for name in examples.labels}
    isolated = {
        slot: frozen(
            in_slot(temporary[name], slot, target.spec.slots), context.device, precision=context.precision
        )
        for name, slot in slots.items()
    }
    for slot, one in isolated.items():
        network.copy_priors(one, [slot])
    penalty = quadratic_penalty(network, target.weights, target.fisher, params.ewc_strength)
    old_loss = replay_loss(params.replay_match, network, teacher, context.generator("latent noise"))

    streams = [
        Stream(
            generative_replay(one, [slot], context.generator(f"replay of slot {slot}")),
            share=1.0,
            loss=_matching_loss(network, one),
        )
        for slot, one in isolated.items()
    ]
    forgotten = sorted(target.forgotten.values())
    streams += replay_streams(
        network, teacher, old, forgotten, old_loss, context, draws=params.schedule.examples
    )

    def loss(parts: Parts, progress: float) -> Tensor:
        return mean_loss(streams, parts) + penalty()

    batches = mixed_batches(streams, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="merging")
    merged = with_trained_weights(target, network)
    return merged.without_isolated(examples.labels)


def _matching_loss(network: Network, isolated: Network) -> ExampleLoss:
    """Make the loss of a draw of an isolated network, which the main network learns to match."""

    def loss(batch: Batch, masks: Masks) -> Tensor:
        return distillation_loss(network, isolated, batch, masks=masks)

    return loss
