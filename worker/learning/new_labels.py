"""Learn once more if a new label came out much worse than the others: decision 0164.

Now and then the encoder ignores the images of a new label, or their latents lie where its prior is not: then
the network draws one and the same picture of the label, or broken ones. No weight and no loss of the training
shows it. The share of the label's variety that its latents explain does.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.networks import frozen
from worker.learning.networks.network import Network
from worker.learning.resuming import State
from worker.learning.strategy import Diverged, Outcome, TrainingContext

EXAMPLES = 300
"""How many images of a label are measured, at most."""
LEAST = 0.5
"""A new label's explained share, divided by the median over the others, below which it is learned again."""
COMPARABLE = 0.2
"""The median over the other labels below which nothing is compared: then the network explains little of any
label, because it was trained for a few steps, or because images of a label differ by noise alone."""

Shares = Mapping[str, float]
"""{label: the share of its variety that its latents explain}."""


def learn_checked(
    run: Callable[[TrainingContext], Checkpoint],
    before: Checkpoint,
    images: Mapping[str, Tensor],
    context: TrainingContext,
) -> Checkpoint:
    """Return what `run` learns; if a label came out much worse than the others, the better of two attempts.

    run: learns in a context. The second attempt has another seed; the better one has the larger smallest
    share. before: what it learns from. images: of the new labels, label -> uint8 [n, pixels]. The findings
    get `learned_again`: the shares of the labels that came out worse, in each attempt, and which attempt it
    is.
    """
    first = run(context)
    shares = measure_new(first, images, context)
    held = measure_held(before, images, context) if shares else {}
    poor = find_poor(shares, held)
    if not poor:
        return first
    again = replace(context, outcome=Outcome()).with_seed_for("second attempt")
    try:
        second = run(again)
        repeated = measure_new(second, images, again)
    except Diverged:
        second, repeated = first, dict.fromkeys(shares, -math.inf)
    is_better = min(repeated.values()) > min(shares.values())
    if is_better:
        context.findings.clear()
        context.findings.update(again.findings)
    context.findings["learned_again"] = {
        "labels": {name: [_rounded(one[name]) for one in (shares, repeated)] for name in poor},
        "attempt": 2 if is_better else 1,
    }
    return second if is_better else first


def find_poor(new: Shares, held: Shares) -> list[str]:
    """Return the new labels whose share is less than LEAST of the median over all other labels.

    None if there is no other label, or if their median is below COMPARABLE.
    """
    found = []
    for name, share in sorted(new.items()):
        others = [*held.values(), *(other for label, other in new.items() if label != name)]
        if others and statistics.median(others) >= COMPARABLE and share < LEAST * statistics.median(others):
            found.append(name)
    return found


def measure_new(after: Checkpoint, images: Mapping[str, Tensor], context: TrainingContext) -> Shares:
    """Measure the labels of `images` that the checkpoint retains, on these images."""
    names = sorted(set(images) & set(after.retained))

    def of_label(network: Network, name: str) -> Tensor:
        return _some(images[name])

    return _measure(after, names, of_label, "checking new labels", context)


def measure_held(before: Checkpoint, images: Mapping[str, Tensor], context: TrainingContext) -> Shares:
    """Measure the labels that were held before, on draws of the network before.

    It says how well a label can be learned. No real images of these labels are needed.
    """
    generator = context.generator("draws to compare new labels with")

    def of_label(network: Network, name: str) -> Tensor:
        slots = torch.full((EXAMPLES,), before.retained[name])
        noise = network.prior_noise(slots, generator).to(context.device)
        slots = slots.to(context.device)
        return network.decode(network.sample_prior(noise, slots), slots).sigmoid()

    return _measure(
        before, sorted(set(before.retained) - set(images)), of_label, "checking held labels", context
    )


def _measure(
    checkpoint: Checkpoint,
    names: list[str],
    images: Callable[[Network, str], Tensor],
    phase: str,
    context: TrainingContext,
) -> Shares:
    """Measure each label on the images that `images` gives of it. A stage of the computation."""
    if not names:
        return {}

    @torch.no_grad()
    def measure() -> State:
        network, noise = frozen(checkpoint, context.device), context.generator(phase)
        found = {}
        for index, name in enumerate(names):
            context.step(phase, index, len(names))
            slot = checkpoint.retained[name]
            found[name] = _explained(network, slot, images(network, name).to(context.device), noise)
        return found

    return {
        name: value if math.isfinite(value) else -math.inf
        for name, value in context.once(phase, measure).items()
    }


def _some(images: Tensor) -> Tensor:
    """Return as many of the images as are measured, spread over all, as float32 in [0, 1]."""
    step = max(len(images) // EXAMPLES, 1)
    return images[::step][:EXAMPLES].float() / 255


def _explained(network: Network, slot: int, images: Tensor, generator: torch.Generator) -> float:
    """Return the share of what the label's mean image leaves unexplained that its latents explain.

    images: [n, pixels] in [0, 1]. It is (B - L) / (B - H), with the mean nats of an image by the network (L,
    -ELBO), by the mean of these images alone (B), and by the image itself (H, which no model is below). 1 is
    perfect; 0 means that the latents say nothing, as in a posterior collapse; it is below 0 where the
    prior does not fit.
    """
    slots = torch.full((len(images),), slot, device=images.device)
    own = negative_elbo(network, images, slots, network.noise(slots, generator)).mean().item()
    mean = images.mean(dim=0).expand_as(images)
    by_mean, by_itself = (
        functional.binary_cross_entropy(prediction, images, reduction="none").sum(dim=1).mean().item()
        for prediction in (mean, images)
    )
    return (by_mean - own) / (by_mean - by_itself) if by_mean > by_itself else 1.0


def _rounded(share: float) -> float | None:
    """The share for the findings; None where the training failed."""
    return round(share, 3) if math.isfinite(share) else None
