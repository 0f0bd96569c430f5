"""Learn once more if a new label came out much worse than the others: decision 0164.

Now and then the encoder ignores the images of a new label, or their latents lie where its prior is not: then
the network draws one and the same picture of the label, or broken ones. No weight and no loss of the training
shows it. The share of the label's variety that its latents explain does.
"""

import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.elbo import negative_elbo
from worker.learning.networks import frozen
from worker.learning.strategy import Outcome, TrainingContext, derive_seed

EXAMPLES = 300
"""How many images of a label are measured, at most."""
LEAST = 0.5
"""A new label's explained share, divided by the median over the others, below which it is learned again."""
COMPARABLE = 0.2
"""The median over the other labels below which nothing is compared: then the network explains little of any
label, because it was trained for a few steps, or because images of a label differ by noise alone."""


def learn_checked(
    run: Callable[[TrainingContext], Checkpoint],
    before: Checkpoint,
    images: Mapping[str, Tensor],
    context: TrainingContext,
) -> Checkpoint:
    """Return what `run` learns; if a label came out much worse than the others, the better of two attempts.

    run: learns in a context. The second attempt has another seed. before: what it learns from. images: of the
    new labels, label -> uint8 [n, pixels]. The findings get `learned_again`: the relative shares of the new
    labels that were too small, in both attempts, and which attempt it is.
    """
    first = run(context)
    shares = relative_shares(first, before, images, context)
    if not (poor := sorted(name for name, share in shares.items() if share < LEAST)):
        return first
    again = replace(context, outcome=Outcome()).with_seed_for("second attempt")
    second = run(again)
    repeated = relative_shares(second, before, images, again)
    is_better = min(repeated.values()) > min(shares.values())
    if is_better:
        context.findings.clear()
        context.findings.update(again.findings)
    context.findings["learned_again"] = {
        "labels": {name: [round(shares[name], 3), round(repeated[name], 3)] for name in poor},
        "attempt": 2 if is_better else 1,
    }
    return second if is_better else first


def relative_shares(
    after: Checkpoint, before: Checkpoint, images: Mapping[str, Tensor], context: TrainingContext
) -> dict[str, float]:
    """Return for each new label its explained share, divided by the median over the other labels.

    That of a label that was held before is of its draws, in the network before: it says how well a label can
    be learned. Empty if there is no other label to compare with.
    """
    learned = sorted(set(images) & set(after.retained))
    shares = {name: _explained(after, name, _some(images[name]), context) for name in learned}
    for name in sorted(set(before.retained) - set(images)):
        seed = derive_seed(context.seed, f"draws of {name} to compare with")
        shares[name] = _explained(before, name, draw(before, name, EXAMPLES, seed), context)
    return {
        name: shares[name] / middle
        for name in learned
        if (middle := _median_without(shares, name)) >= COMPARABLE
    }


def _median_without(shares: Mapping[str, float], name: str) -> float:
    others: Collection[float] = [share for other, share in shares.items() if other != name]
    return statistics.median(others) if others else 0.0


def _some(images: Tensor) -> Tensor:
    """Return as many of the images as are measured, spread over all, as float32 in [0, 1]."""
    step = max(len(images) // EXAMPLES, 1)
    return images[::step][:EXAMPLES].float() / 255


@torch.no_grad()
def _explained(checkpoint: Checkpoint, name: str, images: Tensor, context: TrainingContext) -> float:
    """Return the share of what the label's mean image leaves unexplained that its latents explain.

    images: [n, pixels] in [0, 1]. It is (B - L) / (B - H), with the mean nats of an image by the network (L,
    -ELBO), by the mean of these images alone (B), and by the image itself (H, which no model is below). 1 is
    perfect; 0 means that the latents say nothing, as in a posterior collapse; it is below 0 where the
    prior does not fit.
    """
    network, slot = frozen(checkpoint, context.device), checkpoint.retained[name]
    on_device = images.to(context.device)
    slots = torch.full((len(images),), slot, device=context.device)
    generator = torch.Generator().manual_seed(derive_seed(context.seed, f"explained share of {name}"))
    noise = network.noise(slots, generator)
    own = negative_elbo(network, on_device, slots, noise).mean().item()
    mean = images.mean(dim=0).expand_as(images)
    by_mean, by_itself = (
        functional.binary_cross_entropy(prediction, images, reduction="none").sum(dim=1).mean().item()
        for prediction in (mean, images)
    )
    return (by_mean - own) / (by_mean - by_itself) if by_mean > by_itself else 1.0
