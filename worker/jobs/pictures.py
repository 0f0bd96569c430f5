"""PNG files of a version that show what no request can draw any more: forgotten labels, and the parent."""

import math

import torch

from service.drawing.decoders import Decoder, Wanted
from service.drawing.images import grid, png
from service.registry.version_files import COMPARED_DRAWS
from worker.learning import drawing
from worker.learning.checkpoint import Checkpoint
from worker.learning.export import decoder_onnx

ROWS, COLUMNS, SEED = 2, 8, 0
"""The picture of a forgotten label. Every version uses the same seed, so that pictures can be compared."""


def picture_draws(network: Checkpoint, label: str) -> bytes:
    """Return a grid of what the main network draws for a label: one that it holds, or has forgotten.

    Before and after a forget the noise is the same, so the pictures can be laid over each other.
    """
    images = drawing.draw(network, label, ROWS * COLUMNS, SEED).mul(255).round().to(torch.uint8)
    side = math.isqrt(images.shape[1])
    return png(grid(images.reshape(ROWS * COLUMNS, side, side).numpy(), ROWS, COLUMNS))


def picture_before(network: Checkpoint, labels: list[str]) -> dict[str, bytes]:
    """Return a row of pixels for each label, the same images as the API drew for it from this network."""
    decoder = Decoder.load("the parent's", decoder_onnx(network))
    pictures = {}
    for label in labels:
        wanted = [Wanted(network.retained[label], label, seed) for seed in range(COMPARED_DRAWS)]
        pictures[label] = png(grid(decoder.draw(wanted), 1, COMPARED_DRAWS))
    return pictures
