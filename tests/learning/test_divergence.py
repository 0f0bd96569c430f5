"""A checkpoint with a number that is not finite is refused, whichever step made it."""

from dataclasses import replace

import pytest
import torch

from tests.learning.tiny import CPU, context, examples, labels
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import build
from worker.learning.prior import fit_prior
from worker.learning.strategy import Diverged, Strategy, StrategyParams, TrainingContext
from worker.learning.transition import apply_strategy


def train(before: Checkpoint, after: Checkpoint) -> Checkpoint:
    """Apply a strategy whose training ends in the checkpoint `after`."""
    strategy = Strategy("resize", "made up", lambda *given: after, StrategyParams, "", "")
    return apply_strategy(before, strategy, labels(), StrategyParams(), context())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_the_last_step_made_infinite_ends_as_diverged(
    value: float, two_labels: Checkpoint
) -> None:
    tensors = {name: tensor.clone() for name, tensor in two_labels.weights.items()}
    tensors["decoder.1.weight"][0, 0] = value
    broken = replace(two_labels, weights=tensors)
    with pytest.raises(Diverged, match=r"decoder\.1\.weight.*lower the learning rate"):
        train(two_labels, broken)
    with pytest.raises(Diverged):
        train(two_labels, replace(two_labels, isolated=(broken,)))
    assert train(two_labels, two_labels) is two_labels


def test_an_encoder_without_finite_outputs_has_diverged(two_labels: Checkpoint) -> None:
    network = build(two_labels, CPU)
    network.get_parameter("encoder.0.weight").data.fill_(torch.nan)
    with pytest.raises(Diverged, match="no prior can be fitted"):
        fit_prior(network, 0, examples("rows").images["rows"], TrainingContext(CPU, 0))
