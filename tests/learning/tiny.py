"""Tiny 8x8 data of two kinds of stripes, and a network small enough to train within a second."""

from typing import NamedTuple

import torch

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Strategy, TrainingContext, find

TINY = {"encoder_widths": (24, 12), "decoder_widths": (12, 24), "latent": 2}
NETWORKS = {
    "mlp": TINY,
    "conv": {"architecture": "conv", "encoder_widths": (8, 8, 16), "decoder_widths": (16, 8, 8), "latent": 2},
}
QUICK = {"steps": 150, "batch_size": 32, "learning_rate": 1e-2}


def stripes(name: str, count: int = 200) -> torch.Tensor:
    """uint8 [count, 64]: rows, columns, a frame or a blot, with a little noise of their own."""
    picture = torch.zeros(8, 8)
    if name == "rows":
        picture[::2] = 1
    elif name == "columns":
        picture[:, ::2] = 1
    elif name == "frame":
        picture[[0, -1]] = 1
        picture[:, [0, -1]] = 1
    else:
        picture[2:6, 2:6] = 1
    generator = torch.Generator().manual_seed(len(name))
    noisy = picture.flatten() * (0.7 + 0.3 * torch.rand(count, 64, generator=generator))
    return (255 * noisy).to(torch.uint8)


def examples(*names: str) -> Examples:
    return Examples(names, "stripes", {name: stripes(name) for name in names})


def asked(*names: str) -> Examples:
    return Examples(names, "stripes")


GIVEN = {"learn": examples("frame"), "forget": asked("rows"), "resize": asked()}
OF_TEMPORARY = {"merge", "drop"}  # work on isolated networks


class Start(NamedTuple):
    """What a strategy is given: labels it may work on."""

    checkpoint: Checkpoint
    given: Examples


class TinyArchive:
    """Every label's stripes, and a model that has seen nothing yet as everybody's ancestor."""

    def __init__(self, architecture: str = "mlp") -> None:
        self.architecture = architecture

    def images(self, label: Label) -> torch.Tensor:
        return stripes(label.name)

    def held_out(self, label: Label) -> torch.Tensor:
        return stripes(label.name, 60)

    def newest_without(self, names) -> Checkpoint:
        return blank(NETWORKS[self.architecture], seed=0, pixels=64)


def context(seed: int = 0, architecture: str = "mlp", **callbacks) -> TrainingContext:
    return TrainingContext(torch.device("cpu"), seed, TinyArchive(architecture), **callbacks)


def run(operation: str, strategy: str, checkpoint: Checkpoint, given: Examples, seed: int = 0, **params):
    found = find(operation, strategy)
    worker = context(seed, checkpoint.spec.architecture)
    return found.run(checkpoint, given, found.Params(**{**quick(found), **params}), worker)


def quick(found: Strategy) -> dict:
    """Params of a strategy that make it a matter of a second."""
    brief = QUICK | {"steps": 60}
    small = {"schedule": QUICK, "search": brief, "compression": brief, "naive_steps": 100}
    small |= {"fisher_examples": 200, "rank_examples": 200}
    if found.name == "isolated":
        small |= {name: TINY[name] for name in ("encoder_widths", "decoder_widths")}
    return {name: value for name, value in small.items() if name in found.Params.model_fields}
