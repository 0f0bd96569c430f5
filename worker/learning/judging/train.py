"""Train a judge: python -m worker.learning.judging.train --dataset mnist --data FOLDER

Writes <dataset>.safetensors and its recipe <dataset>.json, and prints the recipe with every measured figure.
The same dataset, training, seed, machine and number of threads give the same bytes.
"""

import argparse
import json
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worker.learning.datasets import Dataset, DatasetUnavailable, load
from worker.learning.judging.classifier_training import (
    NOT_RESUMED,
    classifier_files,
    describe,
    train_weights,
    training_images,
    write_files,
)
from worker.learning.judging.classifiers import WEIGHTS, restore_network
from worker.learning.judging.judge import JUDGE, classify
from worker.learning.judging.judge_figures import measure_judge_figures
from worker.learning.judging.training_batches import Training
from worker.learning.strategy import TrainingContext

MEASUREMENTS = 16
"""How many times the judge is called to measure its figures: the total of the progress."""
FIGURES_SEED = 10_000
"""The seed of the test images' augmentations and negatives. It does not depend on the training's seed."""


def train_judge(
    dataset: Dataset, training: Training, context: TrainingContext = NOT_RESUMED
) -> dict[str, bytes]:
    """Train a judge on the train split and measure it on the test split.

    Returns its weights and its recipe as files, by name.
    """
    weights = train_weights(JUDGE, training_images(dataset), training, context)
    measured = measure_judge(weights, dataset, context)
    return classifier_files(JUDGE, weights, describe(weights, dataset, training, measured))


def measure_judge(weights: bytes, dataset: Dataset, context: TrainingContext = NOT_RESUMED) -> dict[str, Any]:
    """Measure a judge on the test split and return the figures for its recipe. JSON-ready."""
    network, measurement = restore_network(JUDGE, weights, len(dataset.labels)), count()

    def classify_and_report(images: Tensor) -> Tensor:
        context.step("measuring judge", next(measurement), MEASUREMENTS)
        answers: Tensor = context.once("measuring judge", lambda: {"answers": classify(network, images)})[
            "answers"
        ]
        return answers

    figures = measure_judge_figures(classify_and_report, dataset, seed=FIGURES_SEED)
    return {
        "figures_seed": FIGURES_SEED,
        "figures": {name: figure.as_json() for name, figure in figures.items()},
    }


def main() -> int:
    """Run the command; the exit status is 1 if a figure misses its threshold."""
    parser = argparse.ArgumentParser(description="Train a judge and store it beside its recipe.")
    parser.add_argument("--dataset", required=True, help="mnist, for example")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the datasets")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights and the recipe go")
    parser.add_argument("--seed", type=int, default=Training.seed)
    parser.add_argument("--steps", type=int, default=Training.steps)
    parser.add_argument(
        "--only-blurred", action="store_true", help="as for thousands of images a label: blur, and do no more"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        dataset = load(options.dataset, options.data)
    except DatasetUnavailable as error:
        parser.error(str(error))
    started, cpu_started = time.monotonic(), time.process_time()
    training = Training(seed=options.seed, steps=options.steps, only_blurred=options.only_blurred)
    files = train_judge(dataset, training)
    write_files(files, options.out)
    recipe = json.loads(files[JUDGE.recipe_file(dataset.name)])
    missed = [name for name, figure in recipe["figures"].items() if figure["verdict"] == "missed"]
    run = {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "missed": missed,
    }
    sys.stdout.write(json.dumps(recipe | run, indent=1) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
