"""The feature network: a second classifier, of another architecture and seed than the judge.

Full reports measure FID, density, coverage and distances in its features (the output of its last hidden
layer); quick reports, which do without it, measure coverage in those of the judge. The recovery attack and
the free-column search follow its gradient. Like the judge, it can reject an image. Otherwise an attack would
end at grey images that it classifies as a label. Whether an attack succeeded is decided by the judge alone.

Train one: python -m worker.learning.judging.feature_network --dataset mnist --data FOLDER
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from worker.learning.datasets import Dataset, DatasetUnavailable, load
from worker.learning.judging.classifier_training import (
    NOT_RESUMED,
    classifier_files,
    describe,
    train_weights,
    training_images,
    write_files,
)
from worker.learning.judging.classifiers import (
    CHUNK,
    WEIGHTS,
    Classifier,
    ClassifierKind,
    load_committed,
    restore_network,
)
from worker.learning.judging.training_batches import Training
from worker.learning.strategy import TrainingContext

TRAINING = Training(seed=101, steps=800)
"""How the committed feature networks are trained."""
SHORT_TRAINING = Training(seed=101, steps=300)
"""How a feature network is trained during a job: shorter, because a client waits."""
FEATURES = 64


@dataclass(frozen=True)
class FeatureNetwork(Classifier):
    """A trained feature network of one dataset, or of some of its labels."""

    def negative_log_probability(self, images: Tensor, label: str) -> Tensor:
        """Return -log p(label | image) of images [n, pixels], nats, [n]; differentiable in the images."""
        target = torch.full((len(images),), self.labels.index(label))
        return cross_entropy(self.network(images), target, reduction="none")


def load_feature_network(dataset: str) -> FeatureNetwork:
    """Return the committed feature network of a dataset.

    Raises ClassifierUnavailable if there is none, or if its weights do not match its recipe.
    """
    return load_committed(FEATURE_NETWORK, dataset)


def train_feature_network(
    dataset: Dataset, training: Training, context: TrainingContext = NOT_RESUMED
) -> dict[str, bytes]:
    """Train a feature network on the train split; return its weights and its recipe as files, by name."""
    weights = train_weights(FEATURE_NETWORK, training_images(dataset), training, context)
    network = restore_network(FEATURE_NETWORK, weights, len(dataset.labels))
    measured = {"test_accuracy": accuracy(network, dataset.labels, dataset.test)}
    return classifier_files(FEATURE_NETWORK, weights, describe(weights, dataset, training, measured))


@torch.no_grad()
def accuracy(network: nn.Module, labels: Sequence[str], images_of: Mapping[str, Tensor]) -> float:
    """Return the share of real images (label -> uint8 [n, pixels]) that are classified correctly."""
    right = [
        network(chunk.float() / 255).argmax(dim=1) == labels.index(label)
        for label, images in images_of.items()
        for chunk in torch.split(images, CHUNK)
    ]
    return torch.cat(right).float().mean().item()


def feature_architecture(labels: int) -> nn.Sequential:
    """Build the network: square images [n, pixels] -> logits [n, labels + 1]. It has 61,000 weights.

    It is smooth throughout (SiLU, mean pooling), because an attack follows its gradient.
    """
    return nn.Sequential(
        _ToSquare(),
        *_block(1, 16, stride=2),
        *_block(16, 32),
        *_block(32, 64, stride=2),
        *_block(64, FEATURES),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(FEATURES, labels + 1),
    )


class _ToSquare(nn.Module):
    """Images [n, side * side] -> [n, 1, side, side]."""

    def forward(self, images: Tensor) -> Tensor:
        side = math.isqrt(images.shape[1])
        return images.view(-1, 1, side, side)


def _block(inputs: int, outputs: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.SiLU()


def _from_recipe(
    labels: tuple[str, ...], network: nn.Sequential, version: str, recipe: Mapping[str, Any]
) -> FeatureNetwork:
    return FeatureNetwork(labels, network, version, recipe["test_accuracy"])


FEATURE_NETWORK = ClassifierKind(
    name="feature network",
    suffix=".features",
    command="worker.learning.judging.feature_network",
    revision=1,
    architecture=feature_architecture,
    memory_format=torch.contiguous_format,
    from_recipe=_from_recipe,
)


def main() -> int:
    """Run the command: train a feature network, write its files and print its recipe."""
    parser = argparse.ArgumentParser(description="Train a feature network and store it beside its recipe.")
    parser.add_argument("--dataset", required=True, help="mnist, for example")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the datasets")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights and the recipe go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        dataset = load(options.dataset, options.data)
    except DatasetUnavailable as error:
        parser.error(str(error))
    files = train_feature_network(dataset, TRAINING)
    write_files(files, options.out)
    sys.stdout.write(files[FEATURE_NETWORK.recipe_file(dataset.name)].decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
