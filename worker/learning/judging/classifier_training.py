"""Train an image classifier and describe it: the same steps for the judge and for the feature network."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from worker.learning.datasets import Dataset
from worker.learning.judging.classifiers import ClassifierKind
from worker.learning.judging.training_batches import Training, TrainingBatches
from worker.learning.resuming import InPlace, OptimiserState, Resumable
from worker.learning.strategy import TrainingContext

NOT_RESUMED = TrainingContext(torch.device("cpu"), seed=0)
"""The context of a training that is no part of a job."""


def train_weights(
    kind: ClassifierKind[Any],
    images_of: Mapping[str, Tensor],
    training: Training,
    context: TrainingContext = NOT_RESUMED,
) -> bytes:
    """Train a classifier on real images (label -> uint8 [n, pixels]) and return its weights as safetensors.

    Minimises the cross-entropy over the labels and the reject output with AdamW and a one-cycle schedule. The
    weights are float16: precise enough for an argmax, and half as large. They depend only on the arguments,
    the machine and the number of threads, and not on the seed of the context, to which progress is reported.
    The global random state is not changed.
    """
    labels = tuple(images_of)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = kind.architecture(len(labels)).to(memory_format=kind.memory_format)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, training.learning_rate, total_steps=training.steps
    )
    batches, phase = TrainingBatches(images_of, labels, training), f"training {kind.name}"
    scratch: list[Resumable] = [OptimiserState(optimiser, schedule), batches]
    with context.loop(
        phase, range(training.steps), [InPlace(network.state_dict())], scratch=scratch
    ) as steps:
        for step in steps:
            context.step(phase, step, training.steps)
            images, targets = batches.draw()
            loss = cross_entropy(network(images), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return save(_stored_tensors(network))


def describe(
    weights: bytes, dataset: Dataset, training: Training, measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the recipe of these weights: the dataset, the training, and what was measured. JSON-ready."""
    return {
        "dataset": dataset.name,
        "labels": list(dataset.labels),
        "weights_sha256": sha256(weights).hexdigest(),
        "data_sha256": dataset.sha256(),
        "training": asdict(training),
        **measured,
    }


def classifier_files(
    kind: ClassifierKind[Any], weights: bytes, recipe: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the weights and the recipe as files, by name."""
    dataset = recipe["dataset"]
    text = json.dumps(recipe, indent=1) + "\n"
    return {kind.weights_file(dataset): weights, kind.recipe_file(dataset): text.encode()}


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files by name into a folder, which is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def training_images(dataset: Dataset) -> dict[str, Tensor]:
    """Return the train split in the order of the dataset's labels."""
    return {label: dataset.train[label] for label in dataset.labels}


def _stored_tensors(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
