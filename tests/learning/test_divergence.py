"""A number that is not finite is never published, whichever step made it."""

from dataclasses import replace

import pytest
import torch

from tests.learning.tiny import asked, context, examples
from worker.learning.changing import change
from worker.learning.networks import build
from worker.learning.prior import fit_prior
from worker.learning.strategy import Batch, Diverged, Strategy, StrategyParams


def made(checkpoint) -> Strategy:
    """A strategy whose training ends in this checkpoint."""
    return Strategy("resize", "made", lambda *given: checkpoint, StrategyParams, "", "")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", ["weights", "fisher"])
def test_what_the_last_step_made_infinite_ends_as_diverged(kind, value, two_labels):
    tensors = {name: tensor.clone() for name, tensor in getattr(two_labels, kind).items()}
    tensors["decoder.1.weight"][0, 0] = value
    broken = replace(two_labels, **{kind: tensors})
    with pytest.raises(Diverged, match=r"decoder\.1\.weight.*lower the learning rate"):
        change(two_labels, made(broken), asked(), StrategyParams(), context())
    with pytest.raises(Diverged):
        change(
            two_labels, made(replace(two_labels, isolated=(broken,))), asked(), StrategyParams(), context()
        )
    assert change(two_labels, made(two_labels), asked(), StrategyParams(), context()) is two_labels


def test_an_encoder_that_answers_nothing_finite_has_diverged(two_labels):
    network = build(two_labels, torch.device("cpu"))
    network.encoder[0].weight.data.fill_(torch.nan)
    images = examples("rows").images["rows"].float() / 255
    with pytest.raises(Diverged, match="no prior"):
        fit_prior(network, 0, [Batch(images, torch.zeros(len(images), dtype=torch.int64))])
