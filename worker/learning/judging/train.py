"""Train a judge: python -m worker.learning.judging.train --dataset mnist --data FOLDER

Writes <dataset>.safetensors and its recipe <dataset>.json, and prints the recipe with every measured figure.
The same dataset, recipe, seed, machine and number of threads give the same bytes.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from worker.learning.datasets import Dataset, DatasetUnavailable, load
from worker.learning.judging.figures import judge_figures
from worker.learning.judging.judge import WEIGHTS, classify, fast, judge_network, restored_network
from worker.learning.judging.training_batches import Step, Training, lessons, unwatched

FIGURES = 16  # how often the figures ask the judge
FIGURES_SEED = 10_000  # what the figures are measured on is drawn from here, whatever the judge's own seed


def trained(dataset: Dataset, training: Training, step: Step = unwatched) -> bytes:
    """The weights of a judge of the dataset, learnt from its train split, as float16 safetensors."""
    network = fitted_network(dataset, training, step)
    return save({name: _stored(weight) for name, weight in network.state_dict().items()})


def recipe_of(data: bytes, dataset: Dataset, training: Training, step: Step = unwatched) -> dict[str, Any]:
    """What describes these weights: how they came about, and figures measured on the test split."""
    network, asked = restored_network(data, len(dataset.labels)), count()

    def stored(images: Tensor) -> Tensor:
        step(f"measuring the judge of {dataset.name}", next(asked), FIGURES)
        return classify(network, images)

    return {
        "dataset": dataset.name,
        "labels": list(dataset.labels),
        "weights_sha256": sha256(data).hexdigest(),
        "data_sha256": dataset.sha256(),
        "training": asdict(training),
        "figures_seed": FIGURES_SEED,
        "figures": judge_figures(stored, dataset, seed=FIGURES_SEED),
    }


def fitted_network(dataset: Dataset, training: Training, step: Step) -> nn.Module:
    """The network after `training.steps` of cross-entropy over the labels and the reject answer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = fast(judge_network(len(dataset.labels)))
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=training.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, total_steps=training.steps)
    for number, (images, targets) in enumerate(lessons(dataset.train, dataset.labels, training)):
        step(f"training the judge of {dataset.name}", number, training.steps)
        loss = cross_entropy(network(images), targets)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network


def _stored(weight: Tensor) -> Tensor:
    """Half precision is plenty for an answer that is an argmax, and halves what is committed."""
    return weight.half().contiguous() if weight.is_floating_point() else weight


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a judge and keep it beside its recipe.")
    parser.add_argument("--dataset", required=True, help="mnist or digits")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the datasets")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights and the recipe go")
    parser.add_argument("--seed", type=int, default=Training.seed)
    parser.add_argument("--steps", type=int, default=Training.steps)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    try:
        dataset = load(asked.dataset, asked.data)
    except DatasetUnavailable as error:
        parser.error(str(error))
    begun, worked = time.monotonic(), time.process_time()
    training = Training(seed=asked.seed, steps=asked.steps)
    data = trained(dataset, training)
    recipe = recipe_of(data, dataset, training)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"{asked.dataset}.safetensors").write_bytes(data)
    (asked.out / f"{asked.dataset}.json").write_text(json.dumps(recipe, indent=1) + "\n")
    missed = [name for name, figure in recipe["figures"].items() if figure["held"] is False]
    took = {
        "seconds": time.monotonic() - begun,
        "cpu_seconds": time.process_time() - worked,
        "missed": missed,
    }
    print(json.dumps(recipe | took, indent=1))  # noqa: T201
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
