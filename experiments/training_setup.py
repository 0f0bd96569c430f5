"""What several experiments train with: the device, real images, and shortened training schedules."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.datasets import Dataset
from worker.learning.strategy import Examples, Strategy, StrategyParams
from worker.learning.unlearning.selective_amnesia import SelectiveAmnesiaParams

CPU = torch.device("cpu")
PUBLISHED = SelectiveAmnesiaParams()
"""The published params of Selective Amnesia."""
BATCH_SIZE = 128
"""Batch size of the shortened schedule. A step of the published batch size, 512, takes four times as long."""
LEARN_STRATEGIES = {"mlp": "replay_ewc", "conv": "replay_ewc", "hyper": "hypernetwork"}
"""Architecture -> the strategy by which the networks that experiments start from have learned."""
QUICK_DIVISOR = 5
"""How many times fewer steps the trainings of a quick run take."""


class DatasetArchive:
    """The archive of an experiment: it has a dataset's real images, and the blank model as only ancestor."""

    def __init__(self, dataset: Dataset, blank_model: Checkpoint) -> None:
        self._dataset, self.blank_model = dataset, blank_model

    def images(self, label: Label) -> torch.Tensor:
        return self._dataset.train[label.name]

    def held_out(self, label: Label) -> torch.Tensor:
        return self._dataset.test[label.name]

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        return self.blank_model

    def widths_without(self, names: Collection[str]) -> dict[str, list[int]]:
        return self.blank_model.widths


def examples_of(dataset: Dataset, labels: Sequence[str]) -> Examples:
    """Return a request for these labels, with their real training images."""
    return Examples(tuple(labels), dataset.name, {name: dataset.train[name] for name in labels})


def params_of(strategy: Strategy, params: Mapping[str, Any], *, step_divisor: int = 1) -> StrategyParams:
    """Return the strategy's params: those given, and its defaults for the rest.

    step_divisor: how many times fewer steps a training takes than by default, unless `params` has a schedule.
    """
    schedule = strategy.Params.model_fields.get("schedule")
    if step_divisor == 1 or schedule is None or "schedule" in params:
        return strategy.Params(**params)
    shortened = {"steps": max(1, schedule.default.steps // step_divisor)}
    return strategy.Params(**{**params, "schedule": shortened})


def shortened_schedule(steps: int) -> dict[str, Any]:
    """Return the published schedule of Selective Amnesia with fewer and smaller steps.

    The learning rate rises as the number of steps falls, so that steps * learning rate stays the same.
    Shorter schedules still forget less. With ten labels and one run each, a forgotten label kept 88 % of its
    draws after 1,000 steps of 512 examples at the published rate, 44 % after 300 steps of 512 at 33 times
    that rate, and 13 % after 2,500 steps of 128 at 4 times that rate.
    """
    published = PUBLISHED.schedule
    rate = published.learning_rate * published.steps / steps
    return {**published.model_dump(), "steps": steps, "batch_size": BATCH_SIZE, "learning_rate": rate}
