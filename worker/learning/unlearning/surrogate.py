"""The paper's forgetting: map the labels onto a surrogate, hold the rest by replay, come out smaller."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo, negative_elbo_from_prior
from worker.learning.fisher import quadratic_penalty
from worker.learning.memory import consolidated, remembered
from worker.learning.networks import build, fresh, frozen, weights_of
from worker.learning.networks.network import NO_MASKS, Masks, Network
from worker.learning.prior import reset_prior
from worker.learning.replay import Source, replay, some
from worker.learning.resizing.targeted_dropout import TargetedDropout
from worker.learning.resizing.targeted_dropout_prune import without_dropped
from worker.learning.resizing.taylor import curvature, without
from worker.learning.resizing.taylor_prune import least_missed, replay_set
from worker.learning.retention import (
    Cost,
    Match,
    Stream,
    drawn_from,
    holding,
    mean_cost,
    mixed,
    replay_loss,
    still_drawn,
)
from worker.learning.strategy import Batch, Examples, StrategyParams, TrainingContext, strategy
from worker.learning.training import Parts, Schedule, fit
from worker.learning.unlearning.distill import distilled

Picture = Literal["uniform_noise", "blank", "mean_image"]
Surrogate = Literal[Picture, "never_learned", "unrecognised"]
MEAN_IMAGE_DRAWS = 2000
NAIVE_DRAWS = 8192  # that a forgetting maps onto, again and again


class MappingParams(StrategyParams):
    """How to train labels onto a surrogate while holding the others."""

    schedule: Schedule = Schedule(steps=500, learning_rate=1e-2, label_rate=30)
    surrogate: Surrogate = Field(
        "never_learned",
        description="what the forgotten labels draw afterwards: what a network that never saw them would; "
        "that, but where the old network recognises one of them (unrecognised); or a picture: the paper's "
        "is uniform_noise",
    )
    surrogate_share: float = Field(
        0.5, gt=0, lt=1, description="of a step's examples, that are mapped; the others hold what stays"
    )
    naive_steps: int = Field(
        300,
        ge=1,
        le=100_000,
        description="training of the network that never saw them (never_learned, unrecognised)",
    )
    replay_match: Match = Field(
        "function", description="what replay holds: the function, or the paper's ELBO"
    )
    fisher_examples: int = Field(10_000, ge=1, le=1_000_000, description="draws the Fisher is averaged over")


class SurrogateParams(MappingParams):
    ewc_strength: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="lambda of the EWC penalty, per example; its anchor is weights that knew the labels",
    )
    prune_share: float = Field(
        0.1, ge=0, le=0.9, description="units removed from every hidden layer; 0 for none"
    )
    prune_by: Literal["taylor", "targeted_dropout"] = Field(
        "taylor",
        description="which units: those the retained labels miss least, at the start; or, as in the paper, "
        "those with the smallest weights, dropped ever more often and removed at the end",
    )
    taylor_examples: int = Field(2000, ge=1, le=20_000, description="draws that importance is measured on")
    drop_probability: float = Field(
        1.0, ge=0, le=1, description="final probability of dropping a unit at risk (targeted_dropout)"
    )


@strategy("forget", "surrogate", SurrogateParams, source="The paper, sections 3.1 and 4", default=True)
def forget(
    checkpoint: Checkpoint, examples: Examples, params: SurrogateParams, context: TrainingContext
) -> Checkpoint:
    """Forget labels by training them onto a surrogate, with replay for the rest, and come out smaller.

    Minimises E over c in U, x ~ q of -ELBO(x | theta, c) at z ~ p(z | c), plus the replay loss over c in K,
    plus lambda/2 sum F (theta - theta*)^2 with F over K only, which frees exactly the weights that must move.
    With `never_learned`, U costs -log p(x | z, c) of what a network that never saw U draws at z. The
    paper's own: `uniform_noise`, lambda > 0, `targeted_dropout`; docs/decisions/0009 says what changed, and
    0052 what `unrecognised` costs.
    """
    target = checkpoint.with_status(examples.labels, "forgotten")
    if params.ewc_strength > 0:
        target = remembered(target, target.held.values(), context, examples=params.fisher_examples)
    by_taylor = params.prune_by == "taylor" and params.prune_share > 0
    start = without_least_missed(target, params, context) if by_taylor else target
    network = build(start, context.device)
    penalty = quadratic_penalty(network, start.weights, start.fisher, params.ewc_strength)
    dropout = TargetedDropout(
        network,
        0.0 if by_taylor else params.prune_share,
        params.drop_probability,
        context.generator("targeted dropout"),
    )
    map_onto_surrogate(
        network, target, examples.labels, params, context, penalty=penalty, masks=dropout.masks
    )
    if by_taylor:
        smaller = replace(start, weights=weights_of(network))
    else:
        smaller = without_dropped(start, network, dropout, context)
    return consolidated(smaller, build(smaller, context.device), context, examples=params.fisher_examples)


def without_least_missed(target: Checkpoint, params: SurrogateParams, context: TrainingContext) -> Checkpoint:
    """The checkpoint less the units that what it holds misses least: those of the forgotten go first."""
    draws = replay_set(target, params.taylor_examples, context)
    around = curvature(build(target, context.device), draws, context)
    return without(target, least_missed(around, params.prune_share, "layer"), around)


def map_onto_surrogate(
    network: Network,
    target: Checkpoint,
    labels: Collection[str],
    params: MappingParams,
    context: TrainingContext,
    *,
    penalty: Callable[[], Tensor | float] = lambda: 0.0,
    masks: Callable[[float], Masks] = lambda done: NO_MASKS,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train `network`, in place, to draw the surrogate for `labels` and what `target` draws for the others.

    target: the teacher, which has `labels` as forgotten ones. Their priors become N(0, I) first. The share
    that is mapped is the same however many labels go: more costs what stays its coverage
    (docs/decisions/0007), less leaves traces of what goes (docs/decisions/0009).
    penalty: nats an example, added to the loss; masks: share of the training done -> masks of the step;
    after_step: as in `fit`.
    """
    teacher = frozen(target, context.device)
    kept = sorted(target.held.values())
    gone = sorted(target.forgotten[name] for name in labels)
    gone_before = sorted(set(target.forgotten.values()) - set(gone))
    for slot in gone:
        reset_prior(network, slot)
        empty_encoder_column(network, slot)
    noise = context.generator("latent noise")
    retain = replay_loss(params.replay_match, network, teacher, noise)
    drawn = context.generator("surrogate")
    match params.surrogate:
        case "never_learned" | "unrecognised":
            surrogate = replay(naive_network(target, teacher, params, context), gone, drawn)
            become = still_drawn(network)
        case picture:
            surrogate = surrogate_of(picture, gone, kept, teacher, drawn)
            become = bound_from_prior(network, noise)
    if params.surrogate == "unrecognised":
        surrogate = unrecognised(surrogate, teacher, gone, kept, drawn)

    held = holding(network, teacher, kept, gone_before, retain, context)
    weight = params.surrogate_share / (1 - params.surrogate_share) * sum(one.share for one in held)
    streams = [Stream(surrogate, weight, become), *held]

    def loss(parts: Parts, done: float) -> Tensor:
        return mean_cost(streams, parts, masks(done)) + penalty()

    batches = mixed(streams, params.schedule.batch_size, context.device)
    fit(network, loss, batches, params.schedule, context, phase="forgetting", after_step=after_step)


def empty_encoder_column(network: Network, slot: int) -> None:
    """Zero, as in an empty slot: only the decoder is mapped onto a surrogate, and nothing else moves it."""
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if name.startswith("encoder.") and name.endswith(".label"):
                tensor[slot] = 0


def bound_from_prior(network: Network, generator: torch.Generator) -> Cost:
    """What an example of a surrogate that is a picture costs: see `negative_elbo_from_prior`."""
    return lambda batch, masks: negative_elbo_from_prior(
        network, batch.images, batch.slots, network.noise(batch.slots, generator), masks=masks
    )


def naive_network(
    target: Checkpoint, teacher: Network, params: MappingParams, context: TrainingContext
) -> Network:
    """A network that never saw the forgotten labels: a fresh one, distilled from the teacher's others.

    What it draws in their slots, which nobody ever filled, is what a network retrained without them would.
    """
    schedule = Schedule(steps=params.naive_steps, batch_size=params.schedule.batch_size, learning_rate=4e-3)
    start = fresh(target, context.generator("weights of the stranger"))
    return distilled(teacher, start, schedule, context, phase="teaching a stranger").requires_grad_(False)


def unrecognised(
    source: Source, teacher: Network, gone: Sequence[int], kept: Sequence[int], generator: torch.Generator
) -> Source:
    """NAIVE_DRAWS of the source, over and over, less those that the teacher takes for a label that goes.

    A slot nobody filled draws mixtures of what is held, and some of them look like a label that is to go: a 9
    of what lies between 4 and 7. At the latents of those the mean of all others is the target: one and the
    same, for a target that changes from step to step moves the shared weights without end
    (docs/decisions/0052). The mean itself is not asked about: it is no legible image. The teacher knows the
    labels by its own ELBO; where it takes every draw for one that goes, all stay.
    """
    pool = list(some(source, NAIVE_DRAWS, teacher.prior_mean.device))
    images, slots = torch.cat([one.images for one in pool]), torch.cat([one.slots for one in pool])
    latents = torch.cat([drawn_from(one) for one in pool])
    looks_gone = torch.cat([takes_for(teacher, one.images, (*gone, *kept)) < len(gone) for one in pool])
    if not looks_gone.all():
        images[looks_gone] = images[~looks_gone].mean(dim=0)

    def draw(count: int) -> Batch:
        which = torch.randint(len(images), (count,), generator=generator).to(images.device)
        return Batch(images[which], slots[which], latents[which])

    return draw


@torch.no_grad()
def takes_for(network: Network, images: Tensor, slots: Sequence[int]) -> Tensor:
    """The index in `slots` under which each image has the highest ELBO, at its posterior's mean; [n]."""
    still = torch.zeros(len(images), network.prior_mean.shape[1], device=images.device)
    costs = [
        negative_elbo(network, images, torch.full((len(images),), slot, device=images.device), still)
        for slot in slots
    ]
    return torch.stack(costs).argmin(dim=0)


def surrogate_of(
    name: Picture, gone: Sequence[int], kept: Sequence[int], teacher: Network, generator: torch.Generator
) -> Source:
    """The surrogate q(x | c) for the labels to forget, equally often.

    `uniform_noise`: U(0, 1) a pixel; `blank`: black; `mean_image`: the mean draw of the labels to retain.
    """
    slot_of, pixels = torch.tensor(gone), teacher.pixels
    still = torch.zeros(pixels)
    if name == "mean_image":
        still = replay(teacher, kept, generator)(MEAN_IMAGE_DRAWS).images.mean(dim=0)

    def draw(count: int) -> Batch:
        chosen = slot_of[torch.randint(len(slot_of), (count,), generator=generator)]
        noise = torch.rand((count, pixels), generator=generator)
        return Batch(noise if name == "uniform_noise" else still.expand(count, pixels), chosen)

    return draw
