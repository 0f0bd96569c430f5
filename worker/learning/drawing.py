"""Draw images from a checkpoint, to measure them. The API draws from the exported decoder instead."""

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import frozen


def draw(checkpoint: Checkpoint, label: str, n: int, seed: int) -> Tensor:
    """Draw n mean images of a label, float32 [n, pixels] in [0, 1]; equal arguments give equal images.

    Forgotten labels can be drawn too, so that the judge can measure whether they are forgotten.
    Raises KeyError for an unknown label.
    """
    holder = checkpoint.holder(label)
    network = frozen(holder, torch.device("cpu"))
    slots = torch.full((n,), holder.label(label).slot)
    noise = network.prior_noise(slots, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return network.decode(network.sample_prior(noise, slots), slots).sigmoid()
