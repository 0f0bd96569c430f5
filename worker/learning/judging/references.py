"""Train networks to compare with: references that never saw a label, and a control that memorised images."""

from dataclasses import replace

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.membership import auc, losses
from worker.learning.networks import frozen
from worker.learning.resuming import State
from worker.learning.retraining import train_from_scratch
from worker.learning.strategy import TrainingContext
from worker.learning.training import Schedule

MEMORISED = 200
"""How many images the positive control is trained on: so few that it memorises them."""
CONTROL_SCHEDULE = Schedule(steps=400, learning_rate=2e-3)
CPU = torch.device("cpu")


def retrain_reference(
    checkpoint: Checkpoint, seed: int, schedule: Schedule, context: TrainingContext
) -> Checkpoint:
    """Train a reference: a new network of the same spec, on the real images of the retained labels.

    It uses none of the checkpoint's weights, and has no Fisher information. Raises Unavailable if the images
    of a label are gone.
    """
    images = {name: context.archive.images(checkpoint.label(name)) for name in checkpoint.retained}
    target = replace(checkpoint, isolated=())
    own = context.with_seed_for(f"reference {seed}")

    def train() -> State:
        return {"weights": train_from_scratch(target, images, schedule, own).weights}

    return replace(target, weights=own.once(f"reference {seed}", train)["weights"], fisher=None)


def measure_control_auc(
    checkpoint: Checkpoint, label: str, images: Tensor, others: Tensor, context: TrainingContext
) -> float:
    """Return the AUC of the membership attack on a network that memorised MEMORISED of the images.

    This is the positive control: the attack must succeed here. images, others: uint8 [n, pixels], the label's
    real train and test images.
    """
    members = images[:MEMORISED]
    target = replace(checkpoint.with_status([label], "permanent"), isolated=())
    own = context.with_seed_for("control")

    def attack() -> State:
        trained = train_from_scratch(target, {label: members}, CONTROL_SCHEDULE, own)
        network, slot = frozen(trained, CPU), trained.label(label).slot
        return {"auc": auc(losses(network, slot, members)["elbo"], losses(network, slot, others)["elbo"])}

    return float(own.once("control", attack)["auc"])
