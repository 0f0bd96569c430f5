"""The inputs of a full report: its params, the network, the classifiers and the images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.quick_report import Draw, Judges
from worker.learning.judging.relearning import SLOW_RELEARNING, Relearning
from worker.learning.strategy import StrategyParams, TrainingContext
from worker.learning.training import LEARN_SCHEDULE, Schedule

CPU = torch.device("cpu")

FeatureNetworks = Callable[[str], FeatureNetwork]  # the feature network of a dataset; raises Unavailable


class FullParams(StrategyParams):
    """How thoroughly a full report measures."""

    seeds: int = Field(3, ge=3, le=20, description="number of retrained references, each with its own seed")
    reference: Schedule = Field(LEARN_SCHEDULE, description="how a reference is trained")
    draws: int = Field(1000, ge=100, le=10_000, description="draws of each label")
    attacks: int = Field(256, ge=64, le=4096, description="starting points of the recovery attack")
    attack_steps: int = Field(60, ge=20, le=1000, description="optimiser steps from each starting point")
    relearning: Relearning = Field(
        SLOW_RELEARNING, description="the fine-tuning that teaches a forgotten label again"
    )
    capacity_examples: int = Field(
        1000, ge=1, le=100_000, description="draws that the capacity is measured on"
    )


@dataclass(frozen=True)
class Evaluation:
    """The inputs that every part of a full report shares."""

    checkpoint: Checkpoint  # the main network alone
    judges: Judges
    feature_networks: FeatureNetworks
    context: TrainingContext
    params: FullParams
    draw: Draw

    @property
    def retained(self) -> list[Label]:
        """The labels that the main network holds."""
        return [self.checkpoint.label(name) for name in self.checkpoint.retained]

    @property
    def forgotten(self) -> list[Label]:
        """The labels that the main network forgot."""
        return [self.checkpoint.label(name) for name in self.checkpoint.forgotten]

    def train_images(self, label: Label) -> Tensor:
        """The label's real train images, uint8 [n, pixels]. Raises Unavailable."""
        return self.context.archive.images(label)

    def test_images(self, label: Label) -> Tensor:
        """The label's real test images, uint8 [n, pixels]. Raises Unavailable."""
        return self.context.archive.held_out(label)
