"""The judge: an independent, open-set classifier of images, which gives an image a label or rejects it.

It is only used to evaluate, never to train, filter or attack a network.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worker.learning.judging.classifiers import CHUNK, Classifier, ClassifierKind, load_committed

REJECT = -1
"""The answer to an image that shows none of the labels."""


@dataclass(frozen=True)
class Judge(Classifier):
    """A trained judge of one dataset."""

    missed: tuple[str, ...] = ()
    """The names of the figures in its recipe that miss their threshold."""

    @property
    def why_no_verdict(self) -> str | None:
        """The reason why figures that it measured have no verdict; None if they have one.

        A judge that knows 87 % of a dataset's real images, or takes noise for a label, shows how one version
        compares with another. Whether a figure is good enough, it cannot decide.
        """
        missed = ", ".join(name.replace("_", " ") for name in self.missed)
        return f"the judge misses thresholds of its own ({missed})" if missed else None

    def classify(self, images: Tensor) -> Tensor:
        """Return what each image [n, pixels] in [0, 1] shows, int64 [n]: an index into labels, or REJECT."""
        return classify(self.network, images)

    @torch.no_grad()
    def classify_features(self, features: Tensor) -> Tensor:
        """Classify images by their features [n, 128] (see `embed`); int64 [n], like `classify`."""
        return _answers(self._logits(features))

    @torch.no_grad()
    def most_likely_labels(self, features: Tensor) -> Tensor:
        """Return the most likely label of each image, int64 [n], as if it could not reject."""
        return self._logits(features)[:, :-1].argmax(1)

    def _logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.network[-1](features)
        return logits


def load_judge(dataset: str) -> Judge:
    """Return the committed judge of a dataset.

    Raises ClassifierUnavailable if there is none, or if its weights do not match its recipe.
    """
    return load_committed(JUDGE, dataset)


@torch.no_grad()
def classify(network: nn.Module, images: Tensor) -> Tensor:
    """Return a judge network's answers for images [n, pixels], int64 [n]: a label's index, or REJECT.

    An image that gives a logit that is not a number is rejected.
    """
    chunks = torch.split(images.float().cpu(), CHUNK)
    return _answers(torch.cat([network(chunk) for chunk in chunks]))


def _answers(logits: Tensor) -> Tensor:
    answers = logits.argmax(1)
    rejected = (answers == logits.shape[1] - 1) | logits.isnan().any(1)
    return answers.masked_fill(rejected, REJECT)


def judge_architecture(labels: int) -> nn.Sequential:
    """Build the network: images [n, 784] -> logits [n, labels + 1]. It has 99,000 weights."""
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


def _from_recipe(
    labels: tuple[str, ...], network: nn.Sequential, version: str, recipe: Mapping[str, Any]
) -> Judge:
    figures = recipe["figures"]
    # Recipes of release 0.1.0 say `held` where later ones have a verdict.
    missed = tuple(
        name for name, one in figures.items() if one.get("held") is False or one.get("verdict") == "missed"
    )
    return Judge(labels, network, version, figures["test_accuracy"]["value"], missed)


JUDGE = ClassifierKind(
    name="judge",
    suffix="",
    command="worker.learning.judging.train",
    revision=1,
    architecture=judge_architecture,
    memory_format=torch.channels_last,  # twice as fast, measured on one thread
    from_recipe=_from_recipe,
)
