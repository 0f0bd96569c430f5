"""Dynamically Expandable Networks (DEN): train the units that new labels reach, and add units if needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.consolidation import UnusedFisherExamples, with_trained_weights
from worker.learning.elbo import negative_elbo
from worker.learning.networks import build, frozen, weights_of
from worker.learning.networks.hyper import Hyper
from worker.learning.networks.network import Masks, Network
from worker.learning.prior import fit_priors
from worker.learning.rehearsal import learn_from_images
from worker.learning.replay_losses import replay_loss
from worker.learning.slots import with_slots
from worker.learning.sources import draw_batches, interleave, real_examples
from worker.learning.strategy import Batch, Examples, StrategyParams, TrainingContext, strategy
from worker.learning.streams import Stream, mean_loss, mixed_batches, replay_streams
from worker.learning.training import OneRateSchedule, Parts, Schedule, fit
from worker.learning.units.resize import (
    UnitMask,
    duplicate,
    entries,
    grow_by,
    prunable_layers,
    room,
    shrink,
    width,
)
from worker.learning.units.sparsity import (
    Proximal,
    clear_small_embeddings,
    group_lasso,
    incoming_norms,
    soft_threshold,
)
from worker.learning.units.weight_masks import (
    WeightMask,
    empty_mask,
    mask_rows,
    restore_outside,
    weights_between,
    weights_touching,
)

VALIDATION_EXAMPLES = 1000
FIT_SHARE, RETRAIN_SHARE, EXPAND_SHARE, SPLIT_SHARE = 0.15, 0.45, 0.2, 0.2  # of the steps


class DenParams(StrategyParams):
    schedule: OneRateSchedule = Schedule(steps=1000, learning_rate=4e-3)
    column_l1: float = Field(
        0.25,
        ge=0,
        le=1000,
        description="Strength mu of the l1 norm of the new label embeddings while they are fitted, in nats "
        "per example.",
    )
    embedding_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Where labels enter, the reached units are the fewest that hold this share of the "
        "squared norm of the new label embeddings. The embeddings of all other units become zero.",
    )
    l1: float = Field(
        5e-3,
        ge=0,
        le=1000,
        description="Strength mu of the l1 norm of the subnetwork and of the added units, in nats per "
        "example.",
    )
    group_lasso: float = Field(
        2.5,
        ge=0,
        le=1000,
        description="Strength gamma of the group lasso on the incoming weights of each added unit, in nats "
        "per example.",
    )
    reach: float = Field(
        3.0,
        ge=0,
        le=100,
        description="A unit counts as reached through a weight whose magnitude is more than this many times "
        "the root mean square of its layer's weights.",
    )
    added_units: int = Field(
        10,
        ge=0,
        le=1000,
        description="Number k of units that are added to every hidden layer if the loss stays high; "
        "those that training sets to zero are removed again.",
    )
    tolerance: float = Field(
        0.01,
        ge=0,
        le=10,
        description="Share tau by which the loss may exceed that of the probe before units are added.",
    )
    drift: float = Field(
        1.0,
        ge=0,
        le=100,
        description="Threshold sigma: a unit whose incoming weights moved by more than this many times their "
        "norm is split.",
    )
    probe_steps: int = Field(
        100,
        ge=1,
        le=100_000,
        description="Number of training steps of the probe, a copy of the network that learns only the new "
        "labels.",
    )
    fisher_examples: UnusedFisherExamples = 10_000


@strategy(
    "learn",
    "den",
    DenParams,
    source="DEN of Yoon et al. 2018 (arXiv:1708.01547), with label embeddings for its output layer",
)
def learn(
    checkpoint: Checkpoint, examples: Examples, params: DenParams, context: TrainingContext
) -> Checkpoint:
    """Learn new labels in the units they reach, add units if the loss stays high, and split units that drift.

    Minimises E over new (x, c) of -ELBO(x | theta, c), plus the replay loss `function` over the retained
    labels, plus a penalty, in up to four trainings:
    1. of the new label embeddings e alone, with the penalty mu |e|_1. Of each layer that labels enter, the
       fewest units that hold the share `embedding_share` of |e|_2^2 are reached; elsewhere e becomes zero;
    2. of the weights theta_S of the subnetwork that these embeddings reach, with mu |theta_S|_1;
    3. of k units added to each hidden layer, if the loss exceeds that of a probe by more than the share tau,
       with mu |theta|_1 over their weights and gamma times the sum over units of |theta_unit|_2; units whose
       weights become zero are removed again;
    4. of a copy of each unit whose incoming weights moved by more than sigma times their norm; the original
       gets its old weights back.

    The penalties are applied as proximal steps: at learning rate r, every value shrinks by r mu and every
    norm by r gamma. The findings of the version have the shares of units and weights that were reached. The
    first labels of a model are learnt without any of this.
    """
    target = with_slots(checkpoint, examples.labels, examples.dataset, "permanent")
    if not checkpoint.retained:
        return learn_from_images(target, examples.images, params.schedule, context)
    task = NewLabels(target, sorted(checkpoint.retained.values()), examples, params, context)
    network = build(target, context.device)
    embeddings = task.label_embeddings(network)
    # An embedding's step is `label_rate` times as long as the rate that a proximal step is given.
    sparse_embeddings = soft_threshold(embeddings, params.column_l1 * params.schedule.label_rate)
    task.train(
        network,
        embeddings,
        FIT_SHARE,
        sparse_embeddings,
        phase="fitting label embeddings",
        purpose="label embeddings",
    )
    clear_small_embeddings(network, target, task.slots, params.embedding_share)
    reached = reached_units(network, target, task.slots, params.reach)
    subnetwork = weights_between(network, target, reached, task.slots)
    sparse_subnetwork = soft_threshold(subnetwork, params.l1)
    task.train(
        network, subnetwork, RETRAIN_SHARE, sparse_subnetwork, phase="retraining", purpose="retraining"
    )
    trained = replace(target, weights=weights_of(network))
    findings = {**reached_shares(reached, subnetwork), "added": {}, "split": {}}
    if task.loss(network) > (1 + params.tolerance) * task.probe_loss():
        trained, findings["added"] = expand(trained, task)
    trained, findings["split"] = split_drifted(trained, target, reached, task)
    context.findings["subnetwork"] = findings
    network = build(trained, context.device)
    fit_priors(network, examples.images, trained.retained, context)
    return with_trained_weights(trained, network)


@dataclass(frozen=True)
class NewLabels:
    """The task of all four trainings: learn the new labels while the old ones are replayed.

    target: the teacher; the slots of the new labels are empty in it. old: slots of the retained labels.
    """

    target: Checkpoint
    old: Sequence[int]
    examples: Examples
    params: DenParams
    context: TrainingContext

    @property
    def slots(self) -> list[int]:
        return [self.target.retained[name] for name in self.examples.labels]

    def label_embeddings(self, network: Network) -> dict[str, Tensor]:
        """Mark the embeddings of the new labels: parameter name -> bool of its shape."""
        return {
            name: mask_rows(tensor, self.slots) if name.endswith(".label") else empty_mask(tensor)
            for name, tensor in network.named_parameters()
        }

    def train(
        self,
        network: Network,
        trainable: WeightMask,
        share: float,
        proximal: Proximal,
        *,
        phase: str,
        purpose: str,
    ) -> None:
        """Train the trainable values for a share of the schedule's steps, in place; others do not change.

        phase: the name under which progress is reported. purpose: names the random streams.
        """
        teacher = frozen(self.target, self.context.device, precision=self.context.precision)
        noise = self.context.generator(f"latent noise, {purpose}")
        old_loss = replay_loss("function", network, teacher, noise)

        def new_loss(batch: Batch, masks: Masks) -> Tensor:
            return negative_elbo(network, batch.images, batch.slots, network.noise(batch.slots, noise))

        examples = self.context.generator(f"examples, {purpose}")
        new = real_examples(self.examples.images, self.target.retained, examples)
        forgotten = sorted(self.target.forgotten.values())
        steps = max(1, round(share * self.params.schedule.steps))
        schedule = self.params.schedule.model_copy(update={"steps": steps})
        streams = [
            Stream(new, float(len(self.slots)), new_loss),
            *replay_streams(
                network,
                teacher,
                self.old,
                forgotten,
                old_loss,
                self.context,
                draws=schedule.examples,
                purpose=f"replay, {purpose}",
            ),
        ]

        def loss(parts: Parts, progress: float) -> Tensor:
            return mean_loss(streams, parts)

        fit(
            network,
            loss,
            mixed_batches(streams, schedule.batch_size, self.context.device),
            schedule,
            self.context,
            phase=phase,
            proximal=lambda rate: proximal(network, rate),
            after_step=restore_outside(trainable, network),
        )

    @torch.no_grad()
    def loss(self, network: Network) -> float:
        """Compute the mean -ELBO of real images of the new labels, nats per example."""
        generator = self.context.generator("validation")
        source = real_examples(self.examples.images, self.target.retained, generator)
        values = [
            negative_elbo(network, batch.images, batch.slots, network.noise(batch.slots, generator))
            for batch in draw_batches(source, VALIDATION_EXAMPLES, self.context.device)
        ]
        return torch.cat(values).mean().item()

    def probe_loss(self) -> float:
        """Compute the loss of a probe: a copy that is trained briefly on the new labels, without replay."""
        probe, noise = build(self.target, self.context.device), self.context.generator("noise of the probe")

        def loss(parts: Parts, progress: float) -> Tensor:
            (new,) = parts
            return negative_elbo(probe, new.images, new.slots, probe.noise(new.slots, noise)).mean()

        schedule = self.params.schedule.model_copy(update={"steps": self.params.probe_steps})
        examples = self.context.generator("examples of the probe")
        source = real_examples(self.examples.images, self.target.retained, examples)
        batches = interleave([(source, 1.0)], schedule.batch_size, self.context.device)
        fit(probe, loss, batches, schedule, self.context, phase="training probes")
        return self.loss(probe)


def reached_shares(reached: UnitMask, subnetwork: WeightMask) -> dict[str, Any]:
    """Count what the new labels reach: units of each hidden layer, and the shares of units and weights."""
    weights = torch.cat([mask.flatten() for mask in subnetwork.values()])
    return {
        "reached": {layer: int(units.sum()) for layer, units in reached.items()},
        "reached_share": {layer: units.float().mean().item() for layer, units in reached.items()},
        "trained_share": weights.float().mean().item(),
    }


def reached_units(
    network: Network, checkpoint: Checkpoint, slots: Sequence[int], reach: float
) -> dict[str, Tensor]:
    """Mark the hidden units that the labels' embeddings reach: hidden layer -> bool [units].

    A unit is reached if an embedding has a value for it that is not zero, through a large weight from a
    reached unit, or if a hypernetwork makes its weights from the embedding. A weight is large if its
    magnitude is more than `reach` times the root mean square of the weights in its layer.
    """
    parameters, reached = dict(network.named_parameters()), {}
    layers = {layer.name: layer for layer in prunable_layers(checkpoint)}
    for layer in layers.values():
        embeddings = parameters.get(f"{layer.name}.label")
        if embeddings is not None:
            of_unit = embeddings[slots].detach().abs().sum(dim=0).view(-1, layer.rows_per_unit).sum(dim=1)
            reached[layer.name] = of_unit > 0
        elif isinstance(network, Hyper):  # it makes all weights of the layer from the label's embedding
            reached[layer.name] = torch.ones_like(parameters[f"{layer.name}.bias"], dtype=torch.bool)
        weight = parameters.get(f"{layer.following}.weight")
        following = layers.get(layer.following)
        if following is None or weight is None:
            continue
        large = weight.detach().abs() > reach * weight.detach().square().mean().sqrt()
        from_unit = large.flatten(2).any(dim=2) if large.dim() > 2 else large
        by_reached = from_unit & reached[layer.name].repeat_interleave(layer.columns_per_unit)
        reached[layer.following] = by_reached.any(dim=1).view(-1, following.rows_per_unit).any(dim=1)
    return reached


def expand(trained: Checkpoint, task: NewLabels) -> tuple[Checkpoint, dict[str, int]]:
    """Add units, train them with l1 and group lasso, and remove those whose weights became zero.

    A layer grows to its maximum width at most. Also returns how many of the added units each hidden layer
    kept.
    """
    params, layers = task.params, prunable_layers(trained)
    if params.added_units == 0:
        return trained, {}
    added = {layer: min(params.added_units, room(trained, layer)) for layer in layers}
    larger = grow_by(trained, added, task.context.generator("added units"))
    network = build(larger, task.context.device)
    new = {layer.name: torch.arange(width(larger, layer)) >= width(trained, layer) for layer in layers}
    trainable = weights_touching(network, larger, new, task.slots)
    sparse = soft_threshold(trainable, params.l1)
    lasso = group_lasso(larger, new, params.group_lasso)

    def l1_and_lasso(network: Network, rate: float) -> None:
        sparse(network, rate)
        lasso(network, rate)

    task.train(network, trainable, EXPAND_SHARE, l1_and_lasso, phase="expanding", purpose="expansion")
    return remove_zero_units(replace(larger, weights=weights_of(network)), new)


def remove_zero_units(larger: Checkpoint, new: UnitMask) -> tuple[Checkpoint, dict[str, int]]:
    """Remove the new units whose incoming weights are all zero; also return how many new units are kept.

    If the weights, the bias and the label embeddings of a unit are zero, its activation is silu(0) = 0, and
    removing it changes no draw. In a hypernetwork, what makes its factor and shift has to be zero, too.
    """
    kept, counts, no_activation = {}, {}, {}
    for layer in prunable_layers(larger):
        stays = ~new[layer.name] | (incoming_norms(larger.weights, layer) > 0)
        kept[layer.name] = stays.nonzero().flatten()
        counts[layer.name] = int((stays & new[layer.name]).sum())
        no_activation[layer.name] = torch.zeros(width(larger, layer) * layer.columns_per_unit)
    return shrink(larger, kept, no_activation), counts


def split_drifted(
    trained: Checkpoint, before: Checkpoint, reached: UnitMask, task: NewLabels
) -> tuple[Checkpoint, dict[str, int]]:
    """Split the reached units that drifted: restore the old weights, and train copies of the new ones.

    A layer grows to its maximum width at most. Also returns how many units were split in each hidden layer.
    """
    drifted = {}
    for layer in prunable_layers(before):
        units, name = width(before, layer), f"{layer.name}.weight"
        old = before.weights[name]
        # Weights from units that were added since do not count as drift.
        now = trained.weights[name][: len(old), : old.shape[1]]
        distance, norm = (one.reshape(units, -1).norm(dim=1) for one in (now - old, old))
        moved = distance > task.params.drift * norm
        found = (moved & reached[layer.name].cpu()).nonzero().flatten()
        drifted[layer.name] = found[: room(trained, layer)]
    counts = {layer: len(units) for layer, units in drifted.items()}
    if not any(counts.values()):
        return trained, counts
    doubled = restore_incoming(duplicate(trained, drifted), before, drifted)
    network = build(doubled, task.context.device)
    copies = {
        layer.name: torch.arange(width(doubled, layer)) >= width(trained, layer)
        for layer in prunable_layers(doubled)
    }
    trainable = weights_touching(network, doubled, copies, task.slots)
    task.train(
        network, trainable, SPLIT_SHARE, lambda network, rate: None, phase="splitting", purpose="splitting"
    )
    return replace(doubled, weights=weights_of(network)), counts


def restore_incoming(doubled: Checkpoint, before: Checkpoint, units: Mapping[str, Tensor]) -> Checkpoint:
    """Set the units' incoming weights to those in `before`; weights from units it lacks do not change."""
    weights = dict(doubled.weights)
    for layer in prunable_layers(doubled):
        chosen = entries(units[layer.name], layer.rows_per_unit)
        for name in layer.incoming:
            old = before.weights[name]
            restored = weights[name].clone()
            if old.dim() > 1:
                restored[chosen, : old.shape[1]] = old[chosen]
            else:
                restored[chosen] = old[chosen]
            weights[name] = restored
    return replace(doubled, weights=weights)
