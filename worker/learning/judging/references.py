"""Networks for comparison: retrained without the label, and one that knows its images by heart."""

from dataclasses import replace

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.retrain import RetrainParams, trained_anew
from worker.learning.judging.membership import auc, costs
from worker.learning.networks import frozen
from worker.learning.strategy import TrainingContext
from worker.learning.training import Schedule

BY_HEART = 200  # images the control is taught, over and over
CONTROL = RetrainParams(schedule=Schedule(steps=400, learning_rate=2e-3), fisher_examples=1)
CPU = torch.device("cpu")


def retrained(
    checkpoint: Checkpoint, seed: int, params: RetrainParams, context: TrainingContext
) -> Checkpoint:
    """R: a fresh network of the same spec and labels, taught the real images of the labels held alone.

    Nothing of the checkpoint's weights goes in. Raises Unavailable when the images of a label are gone.
    """
    images = {name: context.archive.images(checkpoint.label(name)) for name in checkpoint.held}
    target = replace(checkpoint, isolated=())
    return trained_anew(target, images, params, context.with_seed_for(f"reference {seed}"))


def control_auc(
    checkpoint: Checkpoint, label: str, images: Tensor, others: Tensor, context: TrainingContext
) -> float:
    """The membership attack's AUC on a network that knows BY_HEART of the images by heart.

    images, others: uint8 [n, pixels], the label's real train and test images.
    """
    alone = replace(checkpoint.with_status([label], "permanent"), isolated=())
    taught = trained_anew(alone, {label: images[:BY_HEART]}, CONTROL, context.with_seed_for("control"))
    network, slot = frozen(taught, CPU), taught.label(label).slot
    return auc(*(costs(network, slot, each)["elbo"] for each in (images[:BY_HEART], others)))
