"""What the judge and the feature network share: trained image classifiers, stored as weights beside a recipe.

A classifier of k labels has k + 1 outputs; the last one rejects an image as none of the labels. Its files are
<dataset><suffix>.safetensors, the weights in float16, and <dataset><suffix>.json, the recipe: the labels, how
it was trained, what was measured on the test images, and the sha256 of the weights, which is its version.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import load
from torch import Tensor, nn

from worker.learning import datasets
from worker.learning.strategy import Unavailable

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the classifiers that are committed with the code."""
CHUNK = 500
"""How many images are classified at a time, so that their activations fit the cache of a core."""


class ClassifierUnavailable(Unavailable):
    """A dataset has no usable judge or feature network; the message says why and what to do."""


@dataclass(frozen=True)
class Classifier:
    """A trained classifier of one dataset's images, or of some of its labels."""

    labels: tuple[str, ...]
    network: nn.Sequential  # images [n, pixels] in [0, 1] -> logits [n, labels + 1], the last one rejects
    version: str  # sha256 of the stored weights, hexadecimal
    test_accuracy: float  # on the real test images; a rejected image counts as wrong

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Return the output of the last hidden layer, [n, features], for images [n, pixels] in [0, 1]."""
        hidden_layers = self.network[:-1]
        return torch.cat([hidden_layers(chunk) for chunk in torch.split(images.float().cpu(), CHUNK)])


C = TypeVar("C", bound=Classifier)


@dataclass(frozen=True)
class ClassifierKind(Generic[C]):
    """How the judge or the feature network is built, trained, named and read."""

    name: str
    """Its name in messages and phases."""
    suffix: str
    """The part of its file names between the name of the dataset and the extension."""
    command: str
    """The module that trains one: python -m COMMAND."""
    revision: int
    """Increase it when the architecture or the training data change, so that stored ones are not used."""
    architecture: Callable[[int], nn.Sequential]
    """Builds the untrained network for a number of labels."""
    memory_format: torch.memory_format
    """The memory layout of the weights. It changes only the speed."""
    from_recipe: Callable[[tuple[str, ...], nn.Sequential, str, Mapping[str, Any]], C]
    """Makes the classifier of (labels, network, version, recipe). Raises KeyError on an incomplete recipe."""

    def weights_file(self, dataset: str) -> str:
        return f"{dataset}{self.suffix}.safetensors"

    def recipe_file(self, dataset: str) -> str:
        return f"{dataset}{self.suffix}.json"


def load_committed(kind: ClassifierKind[C], dataset: str) -> C:
    """Return the committed classifier of a dataset, the same object at every call.

    Raises ClassifierUnavailable, as read_classifier does.
    """
    classifier: C = _load_committed(kind, dataset)
    return classifier


@lru_cache
def _load_committed(kind: ClassifierKind[Any], dataset: str) -> Any:
    return read_classifier(kind, dataset, WEIGHTS)


@lru_cache
def committed_data(kind: ClassifierKind[Any], dataset: str) -> str:
    """Return the `Dataset.sha256` of the images that the committed classifier of a dataset was trained on."""
    return str(json.loads((WEIGHTS / kind.recipe_file(dataset)).read_text())["data_sha256"])


def is_committed(kind: ClassifierKind[Any], dataset: str, folder: Path = WEIGHTS) -> bool:
    """Return whether a classifier of the dataset is committed with the code.

    False for every uploaded dataset, even for one called `mnist.features`, whose file name would match.
    """
    return datasets.comes_with_the_code(dataset) and (folder / kind.recipe_file(dataset)).is_file()


def read_classifier(kind: ClassifierKind[C], dataset: str, folder: Traversable) -> C:
    """Read the classifier of a dataset from the folder that holds its weights and its recipe.

    Raises ClassifierUnavailable if a file is missing or damaged, if the weights differ from those that the
    recipe describes, or if they are of another architecture.
    """
    advice = f"train it with: python -m {kind.command} --dataset {dataset} --data FOLDER"
    try:
        recipe = json.loads((folder / kind.recipe_file(dataset)).read_text())
        weights = (folder / kind.weights_file(dataset)).read_bytes()
        found, expected = sha256(weights).hexdigest(), recipe["weights_sha256"]
        if found != expected:
            raise ClassifierUnavailable(
                f"the {kind.name} of {dataset!r} is not the one its recipe describes: the sha256 of its "
                f"weights is {found}, the recipe says {expected}; {advice}"
            )
        labels = tuple(recipe["labels"])
        return kind.from_recipe(labels, restore_network(kind, weights, len(labels)), found, recipe)
    except FileNotFoundError as error:
        raise ClassifierUnavailable(
            f"there is no {kind.name} for the dataset {dataset!r}; {advice}"
        ) from error
    except ValueError as error:
        raise ClassifierUnavailable(
            f"the recipe of the {kind.name} of {dataset!r} is not JSON ({error}); {advice}"
        ) from error
    except KeyError as error:
        raise ClassifierUnavailable(
            f"the recipe of the {kind.name} of {dataset!r} lacks {error}; {advice}"
        ) from error
    except RuntimeError as error:
        raise ClassifierUnavailable(
            f"the {kind.name} of {dataset!r} has another architecture; {advice}"
        ) from error


def restore_network(kind: ClassifierKind[Any], weights: bytes, labels: int) -> nn.Sequential:
    """Build the network for a number of labels, with these weights (safetensors), in evaluation mode.

    Raises RuntimeError if the weights are of another architecture.
    """
    with torch.device("meta"):  # nothing is initialised, so no random number is drawn
        network = kind.architecture(labels)
    tensors = {name: tensor.float() for name, tensor in load(weights).items()}
    network.load_state_dict(tensors, assign=True)
    return network.to(memory_format=kind.memory_format).eval().requires_grad_(False)
