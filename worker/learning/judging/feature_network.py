"""The feature network: a second classifier, of its own architecture and seed, that never gives a verdict.

Its features are where FID, density and distances are measured; its gradient is what a recovery attack climbs.
It knows "none of these", as the judge does, or an attack would be led to grey that it calls a digit. Whether
an attack found anything is for the judge to say, which nothing here imports.

Train it: python -m worker.learning.judging.feature_network --dataset mnist --data FOLDER
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from worker.learning import datasets
from worker.learning.datasets import Dataset
from worker.learning.judging.training_batches import Step, Training, lessons, unwatched

WEIGHTS = Path(__file__).parent / "weights"
TRAINING = Training(seed=101, steps=800)
BRIEF = Training(seed=101, steps=300)  # where none is committed, and somebody waits
REVISION = 1  # one more with the network or the lessons: what was kept before is then trained anew
FEATURES = 64
CHUNK = 500  # images at a time: what they need fits a core's cache


@dataclass(frozen=True)
class FeatureNetwork:
    """A trained feature network of one dataset, or of some of its labels."""

    labels: tuple[str, ...]
    network: nn.Sequential
    version: str  # sha256 of its weights
    test_accuracy: float | None = None  # on its dataset's real test images, where that was measured

    @torch.no_grad()
    def embedded(self, images: Tensor) -> Tensor:
        """Images [n, pixels] in [0, 1] as its last hidden layer sees them, [n, FEATURES]."""
        chunks = torch.split(images.float().cpu(), CHUNK)
        return torch.cat([self.network[:-1](chunk) for chunk in chunks])

    def disbelief(self, images: Tensor, label: str) -> Tensor:
        """-log of the probability it gives the label, nats, [n]; differentiable in the images."""
        target = torch.full((len(images),), self.labels.index(label))
        return cross_entropy(self.network(images), target, reduction="none")

    @torch.no_grad()
    def accuracy(self, images_of: Mapping[str, Tensor]) -> float:
        """The share of real images (label -> uint8 [n, pixels]) it names rightly."""
        right = [
            self.network(chunk.float() / 255).argmax(dim=1) == self.labels.index(label)
            for label, images in images_of.items()
            for chunk in torch.split(images, CHUNK)
        ]
        return torch.cat(right).float().mean().item()


class FeatureNetworkUnavailable(Exception):
    """There is no usable feature network for a dataset; the message says what to do."""


@lru_cache
def load_feature_network(dataset: str) -> FeatureNetwork:
    """The committed feature network of a dataset. Raises FeatureNetworkUnavailable when there is none."""
    return read_feature_network(dataset, WEIGHTS)


def is_committed(dataset: str) -> bool:
    """Whether a feature network comes with this code, of a dataset that does too."""
    return datasets.comes_with_the_code(dataset) and (WEIGHTS / f"{dataset}.features.json").is_file()


def read_feature_network(dataset: str, folder: Path) -> FeatureNetwork:
    """The feature network kept in `folder` as <dataset>.features.safetensors beside its recipe <dataset>.features.json.

    Raises FeatureNetworkUnavailable where there is none, or its weights are not those its recipe describes.
    """
    again = (
        f"train it with: python -m worker.learning.judging.feature_network --dataset {dataset} --data FOLDER"
    )
    try:
        recipe = json.loads((folder / f"{dataset}.features.json").read_text())
        data = (folder / f"{dataset}.features.safetensors").read_bytes()
    except (FileNotFoundError, ValueError) as error:
        raise FeatureNetworkUnavailable(
            f"there is no feature network of {dataset!r} ({error}); {again}"
        ) from error
    if sha256(data).hexdigest() != recipe["weights_sha256"]:
        raise FeatureNetworkUnavailable(
            f"the feature network of {dataset!r} is not the one its recipe describes; {again}"
        )
    try:
        feature_network = restored(data, recipe["labels"])
    except RuntimeError as error:
        raise FeatureNetworkUnavailable(
            f"the feature network of {dataset!r} has another architecture; {again}"
        ) from error
    return replace(feature_network, test_accuracy=recipe["test_accuracy"])


def files_of(dataset: Dataset, training: Training, step: Step = unwatched) -> dict[str, bytes]:
    """A feature network taught on the dataset's train split, by file name: its weights, and its recipe."""
    data = trained(dataset.train, training, step)
    feature_network = restored(data, tuple(dataset.train))
    recipe = {
        "dataset": dataset.name,
        "labels": list(feature_network.labels),
        "weights_sha256": feature_network.version,
        "data_sha256": dataset.sha256(),
        "training": asdict(training),
        "test_accuracy": feature_network.accuracy(dataset.test),
    }
    text = json.dumps(recipe, indent=1) + "\n"
    return {f"{dataset.name}.features.safetensors": data, f"{dataset.name}.features.json": text.encode()}


def restored(data: bytes, labels: Sequence[str]) -> FeatureNetwork:
    """The feature network of these labels from its safetensors bytes."""
    stored = load(data)
    with torch.device("meta"):  # no random start, so nobody's random numbers are used up
        network = feature_extractor(len(labels))
    network.load_state_dict({name: weight.float() for name, weight in stored.items()}, assign=True)
    return FeatureNetwork(tuple(labels), network.eval().requires_grad_(False), sha256(data).hexdigest())


def trained(
    images_of: Mapping[str, Tensor],
    training: Training,
    step: Step = unwatched,
) -> bytes:
    """The weights of a feature network taught on real images (label -> uint8 [n, pixels]), float16 safetensors.

    `step` is told (phase, step, total) at every step; what it raises ends all.
    """
    labels = tuple(images_of)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = feature_extractor(len(labels))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=training.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, total_steps=training.steps)
    for number, (images, targets) in enumerate(lessons(images_of, labels, training)):
        step("training the feature network", number, training.steps)
        loss = cross_entropy(network(images), targets)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    state = network.state_dict()
    return save({name: w.half() if w.is_floating_point() else w for name, w in state.items()})


def feature_extractor(labels: int) -> nn.Sequential:
    """Square images [n, pixels] -> logits [n, labels + 1], the last for "none of these". 61,000 weights.

    Smooth throughout (SiLU, mean pooling): an attack follows its gradient.
    """
    return nn.Sequential(
        _Square(),
        *_block(1, 16, stride=2),
        *_block(16, 32),
        *_block(32, 64, stride=2),
        *_block(64, FEATURES),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(FEATURES, labels + 1),
    )


class _Square(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        side = math.isqrt(images.shape[1])
        return images.view(-1, 1, side, side)


def _block(inputs: int, outputs: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.SiLU()


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a feature network and keep it beside its recipe.")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the datasets")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights and the recipe go")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    dataset = datasets.load(asked.dataset, asked.data)
    files = files_of(dataset, TRAINING)
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (asked.out / name).write_bytes(data)
    sys.stdout.write(files[f"{dataset.name}.features.json"].decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
