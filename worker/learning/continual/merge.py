"""Make temporary labels permanent: the main network learns to be their isolated networks as well."""

from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import ReplayEwcParams, grown
from worker.learning.fisher import quadratic_penalty
from worker.learning.memory import consolidated
from worker.learning.networks import build, frozen
from worker.learning.networks.network import Masks, Network
from worker.learning.replay import replay
from worker.learning.retention import Cost, Stream, distillation, holding, mean_cost, mixed, replay_loss
from worker.learning.slots import LabelConflict, placed, with_labels
from worker.learning.strategy import Batch, Examples, TrainingContext, strategy
from worker.learning.training import Parts, fit


@strategy(
    "learn",
    "merge",
    ReplayEwcParams,
    source="CLPU of Liu et al. 2022, case 3, by matching functions",
    needs_examples=False,
    merges_temporary=True,
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: ReplayEwcParams, context: TrainingContext
) -> Checkpoint:
    """Make temporary labels permanent: distil their isolated networks into the main one, without their data.

    Minimises, over c in L, z ~ p_c(z), -log p(x | z, c) with x what the label's isolated network draws at z,
    plus KL(q(z | x, c) || q_c(z | x)), plus the replay loss over the labels held and
    lambda/2 sum F (theta - theta*)^2. The isolated priors are copied. From here on the labels can no
    longer be dropped exactly.
    Raises LabelConflict for a label that is not temporary.
    """
    temporary = checkpoint.temporary
    absent = sorted(set(examples.labels) - set(temporary))
    if absent:
        raise LabelConflict(f"not temporary, so there is nothing to merge: {absent}")
    old = sorted(checkpoint.held.values())
    target = grown(checkpoint, params, context)
    for name in examples.labels:
        label = temporary[name].label(name)
        target = with_labels(target, [name], label.dataset)
        if label.renamed_from:
            target = target.renamed({name: label.renamed_from})
    network, teacher = build(target, context.device), frozen(target, context.device)
    slots = {name: target.held[name] for name in examples.labels}
    isolated = {
        slot: frozen(placed(temporary[name], slot, target.spec.slots), context.device)
        for name, slot in slots.items()
    }
    for slot, one in isolated.items():
        network.prior_mean[slot], network.prior_scale[slot] = one.prior_mean[slot], one.prior_scale[slot]
    penalty = quadratic_penalty(network, target.weights, target.fisher, params.ewc_strength)
    retain = replay_loss(params.replay_match, network, teacher, context.generator("latent noise"))

    streams = [
        Stream(replay(one, [slot], context.generator(f"replay of slot {slot}")), 1.0, becoming(network, one))
        for slot, one in isolated.items()
    ]
    streams += holding(network, teacher, old, sorted(target.forgotten.values()), retain, context)

    def loss(parts: Parts, done: float) -> Tensor:
        return mean_cost(streams, parts) + penalty()

    batches = mixed(streams, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="merging")
    merged = consolidated(target, network, context, examples=params.fisher_examples)
    return merged.without_isolated(examples.labels)


def becoming(network: Network, other: Network) -> Cost:
    """What a draw of the other network costs one that is to be it."""

    def cost(batch: Batch, masks: Masks) -> Tensor:
        return distillation(network, other, batch, masks=masks)

    return cost
