"""The judge: an independent, open-set classifier of images. It names a label, or it rejects.

It only ever evaluates: it is never used to train, filter or attack a network.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from worker.learning import datasets

REJECT = -1
WEIGHTS = Path(__file__).parent / "weights"
REVISION = 1  # one more with the network or the lessons: what was kept before is then trained anew
CHUNK = 500  # images at a time: what they need fits a core's cache


class JudgeUnavailable(Exception):
    """There is no usable judge for a dataset; the message says which command makes one."""


@dataclass(frozen=True)
class Judge:
    """A trained judge of one dataset."""

    dataset: str
    labels: tuple[str, ...]
    network: nn.Module
    version: str  # sha256 of the stored weights
    test_accuracy: float  # on the dataset's real test images, a rejected one counted as wrong
    missed: tuple[str, ...] = ()  # the figures of its recipe that keep not their bar

    def classify(self, images: Tensor) -> Tensor:
        """Which label each image [n, pixels] in [0, 1] shows: int64 [n], an index into labels, or REJECT."""
        return classify(self.network, images)

    @torch.no_grad()
    def answers(self, features: Tensor) -> Tensor:
        """The same of images as its last hidden layer sees them, [n, 128] (see `coverage.embedded`)."""
        return _answers(self._logits(features))

    @torch.no_grad()
    def closed_answers(self, features: Tensor) -> Tensor:
        """The likeliest label of each, int64 [n]: a closed-set classifier's answer, which never rejects."""
        return self._logits(features)[:, :-1].argmax(1)

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = list(self.network.children())[-1](features)
        return logits


@lru_cache
def load_judge(dataset: str) -> Judge:
    """The committed judge of a dataset.

    Raises JudgeUnavailable when there is none, or its weights are not those its recipe describes.
    """
    return read_judge(dataset, WEIGHTS)


def is_committed(dataset: str) -> bool:
    """Whether a judge comes with this code, of a dataset that does too."""
    return datasets.comes_with_the_code(dataset) and (WEIGHTS / f"{dataset}.json").is_file()


def read_judge(dataset: str, folder: Path) -> Judge:
    """The judge kept in `folder` as <dataset>.safetensors beside its recipe <dataset>.json.

    Raises JudgeUnavailable likewise.
    """
    again = f"train it with: python -m worker.learning.judging.train --dataset {dataset} --data FOLDER"
    try:
        recipe = json.loads((folder / f"{dataset}.json").read_text())
        data = (folder / f"{dataset}.safetensors").read_bytes()
    except FileNotFoundError as error:
        raise JudgeUnavailable(f"there is no judge for the dataset {dataset!r}; {again}") from error
    except ValueError as error:
        raise JudgeUnavailable(
            f"the recipe of the judge of {dataset!r} is no JSON ({error}); {again}"
        ) from error
    found, expected = sha256(data).hexdigest(), recipe["weights_sha256"]
    if found != expected:
        raise JudgeUnavailable(
            f"the judge of {dataset!r} is not the one its recipe describes: the sha256 of its weights "
            f"is {found}, the recipe says {expected}; {again}"
        )
    labels, figures = tuple(recipe["labels"]), recipe["figures"]
    try:
        network = restored_network(data, len(labels))
    except RuntimeError as error:
        raise JudgeUnavailable(f"the judge of {dataset!r} has another architecture; {again}") from error
    missed = tuple(name for name, one in figures.items() if one["held"] is False)
    return Judge(dataset, labels, network, found, figures["test_accuracy"]["value"], missed)


@torch.no_grad()
def classify(network: nn.Module, images: Tensor) -> Tensor:
    """The answers of a judge's network, int64 [n]: a label's index, or REJECT. Not a number is no label."""
    chunks = torch.split(images.float().cpu(), CHUNK)
    return _answers(torch.cat([network(chunk) for chunk in chunks]))


def _answers(logits: Tensor) -> Tensor:
    answers = logits.argmax(1)
    nothing = (answers == logits.shape[1] - 1) | logits.isnan().any(1)
    return answers.masked_fill(nothing, REJECT)


def restored_network(data: bytes, labels: int) -> nn.Module:
    """The network of a judge of so many labels, from its safetensors bytes, ready to classify."""
    with torch.device("meta"):  # no random start, so nobody's random numbers are used up
        network = judge_network(labels)
    network.load_state_dict({name: weight.float() for name, weight in load(data).items()}, assign=True)
    return fast(network).eval()


def fast(network: nn.Module) -> nn.Module:
    """The network in the memory layout that halves its time, measured on one thread."""
    return network.to(memory_format=torch.channels_last)


def judge_network(labels: int) -> nn.Sequential:
    """Images [n, 784] -> logits [n, labels + 1], the last of them for "none of these". 99,000 weights."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *_block(1, 16, size=5, stride=2),  # 14 x 14
        *_block(16, 32, size=3),
        nn.MaxPool2d(2),  # 7 x 7
        *_block(32, 64, size=3),
        nn.MaxPool2d(2),  # 3 x 3
        nn.Flatten(),
        nn.Linear(64 * 9, 128),
        nn.ReLU(),
        nn.Linear(128, labels + 1),
    )


def _block(inputs: int, outputs: int, *, size: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
