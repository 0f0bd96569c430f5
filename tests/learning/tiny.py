"""Tiny 8x8 images of stripes and shapes, and networks small enough to be trained within a second."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Progress, Strategy, TrainingContext, find

CPU = torch.device("cpu")
TINY: dict[str, Any] = {"encoder_widths": (24, 12), "decoder_widths": (12, 24), "latent": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": TINY,
    "conv": {"architecture": "conv", "encoder_widths": (8, 8, 16), "decoder_widths": (16, 8, 8), "latent": 2},
    "hyper": {"architecture": "hyper", **TINY},
}
QUICK: dict[str, Any] = {"steps": 150, "batch_size": 32, "learning_rate": 1e-2}
BRIEF = QUICK | {"steps": 10}


def stripes(name: str, count: int = 200) -> Tensor:
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
    """A request to learn these labels."""
    return Examples(names, "stripes", {name: stripes(name) for name in names})


def labels(*names: str) -> Examples:
    """A request that names these labels and brings no images."""
    return Examples(names, "stripes")


GIVEN = {"learn": examples("frame"), "forget": labels("rows"), "resize": labels()}
OF_TEMPORARY = {"merge", "drop"}  # strategies that work on isolated networks


class Start(NamedTuple):
    """What a strategy is given: a checkpoint, and a request about labels it may work on."""

    checkpoint: Checkpoint
    given: Examples


class TinyArchive:
    """Has the stripes of every label; the newest ancestor of every checkpoint is a blank model."""

    def __init__(self, architecture: str = "mlp") -> None:
        self.architecture = architecture

    def images(self, label: Label) -> Tensor:
        return stripes(label.name)

    def held_out(self, label: Label) -> Tensor:
        return stripes(label.name, 60)

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        return blank(NETWORKS[self.architecture], seed=0, pixels=64)

    def widths_without(self, names: Collection[str]) -> dict[str, list[int]]:
        return self.newest_without(names).widths


def context(
    seed: int = 0,
    architecture: str = "mlp",
    on_progress: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingContext:
    archive = TinyArchive(architecture)
    return TrainingContext(CPU, seed, archive, on_progress=on_progress, should_stop=should_stop)


def run(
    operation: str, strategy: str, checkpoint: Checkpoint, given: Examples, seed: int = 0, **params: Any
) -> Checkpoint:
    """The strategy's result, with quick params but for those given."""
    found = find(operation, strategy)
    sent = found.Params.model_validate({**quick(found), **params})
    return found.run(checkpoint, given, sent, context(seed, checkpoint.spec.architecture))


def skip_refused(operation: str, strategy: str, checkpoint: Checkpoint) -> None:
    """Skip the test if the strategy is refused for such networks, as test_hypernetworks.py claims."""
    only = find(operation, strategy).architectures
    if only is not None and checkpoint.spec.architecture not in only:
        pytest.skip(f"{strategy} works on {only} alone")


def quick(found: Strategy) -> dict[str, Any]:
    """Params of a strategy that make it a matter of a second."""
    short = QUICK | {"steps": 60}
    small = {"schedule": QUICK, "search": short, "compression": short, "naive_steps": 100}
    small |= {"fisher_examples": 200, "rank_examples": 200}
    if found.name == "isolated":
        small |= {name: TINY[name] for name in ("encoder_widths", "decoder_widths")}
    if found.name == "dampening":
        small |= {"schedule": QUICK | {"steps": 300}}  # half of so small a network's weights are dampened
    if found.name == "saliency":
        small |= {"share": 0.1}  # a hundredth of so small a network is a hundred weights
    return {name: value for name, value in small.items() if name in found.Params.model_fields}


def brief(found: Strategy) -> dict[str, Any]:
    """Params of a strategy for a claim that holds however little is trained."""
    small = {"schedule": BRIEF, "search": BRIEF, "compression": BRIEF, "naive_steps": 10}
    return quick(found) | {name: value for name, value in small.items() if name in found.Params.model_fields}


def fisher_of(checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """The Fisher information of a checkpoint that must have one."""
    assert checkpoint.fisher is not None
    return checkpoint.fisher
