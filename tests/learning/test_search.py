"""The search for a larger width by successive halving."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.learning.tiny import CPU, QUICK, context, labels
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import frozen
from worker.learning.networks.network import MAX_UNITS
from worker.learning.sources import generative_replay
from worker.learning.strategy import find
from worker.learning.training import Schedule
from worker.learning.units.halving import SHARES, Sources, better_half, children_of, successive_halving
from worker.learning.units.resize import grow


def replayed(checkpoint: Checkpoint) -> Callable[[str], Sources]:
    teacher = frozen(checkpoint, CPU)
    return lambda purpose: [(generative_replay(teacher, [0, 1], context().generator(purpose)), 1.0)]


def searched(checkpoint: Checkpoint, mu: float) -> tuple[Checkpoint, dict[str, Any]]:
    found, training = find("resize", "search"), context()
    params = found.Params.model_validate({"schedule": QUICK, "fisher_examples": 200, "mu": mu})
    result = found.run(checkpoint, labels(), params, training)
    findings: dict[str, Any] = training.findings["search"]
    return result, findings


def test_the_children_are_halved_until_one_is_left(two_labels: Checkpoint) -> None:
    _, found = searched(two_labels, mu=0.0)
    assert [len(one["objective"]) for one in found["rungs"]] == [5, 3, 2]
    assert [one["steps"] for one in found["rungs"]] == [10, 16, 25], "a third of 150 steps a round"
    last = found["rungs"][-1]["objective"]
    assert f"+{found['chosen']:.0%}" == min(last, key=last.__getitem__)
    for before, after in zip(found["rungs"], found["rungs"][1:], strict=False):
        left = sorted(before["objective"], key=before["objective"].get)[: len(after["objective"])]
        assert set(after["objective"]) == set(left)


def test_the_chosen_child_draws_what_its_parent_drew(two_labels: Checkpoint) -> None:
    larger, found = searched(two_labels, mu=0.0)
    assert larger.spec.decoder_widths[-1] == 24 + round(found["chosen"] * 24 + 0.499)
    noise, slots = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
    drawn, before = (frozen(one, CPU).decode(noise, slots) for one in (larger, two_labels))
    assert torch.allclose(drawn, before, atol=1e-5)


def test_parameters_that_cost_more_than_they_gain_are_not_added(two_labels: Checkpoint) -> None:
    same, found = searched(two_labels, mu=1.0)
    assert found["chosen"] == 0
    assert same.spec == two_labels.spec


def test_equal_children_have_equal_probes(two_labels: Checkpoint) -> None:
    """All probes have the same seed: children differ in their width alone."""
    twins = {0.0: two_labels, 0.05: grow(two_labels, 0.0, torch.Generator())}
    chosen, [only] = successive_halving(
        twins, replayed(two_labels), Schedule(**QUICK), context(), mu=0, validation_examples=2000
    )
    assert only["negative_elbo"]["+0%"] == only["negative_elbo"]["+5%"]
    assert chosen == 0


@pytest.mark.parametrize(
    ("costs", "left"),
    [
        ({0.0: 3.0, 0.1: 1.0, 0.2: 2.0}, [0.1, 0.2]),
        ({0.0: 1.0, 0.1: 1.0}, [0.0]),
        ({0.4: 5.0, 0.2: 4.0, 0.1: 3.0, 0.05: 2.0, 0.0: 1.0}, [0.0, 0.05, 0.1]),
    ],
)
def test_the_better_half_is_rounded_up_and_prefers_the_smaller(
    costs: dict[float, float], left: list[float]
) -> None:
    assert better_half(costs) == left


def test_no_child_is_wider_than_the_service_allows(two_labels: Checkpoint) -> None:
    assert list(children_of(two_labels, context())) == list(SHARES)
    wide = grow(two_labels, MAX_UNITS / 24 / 1.06 - 1, torch.Generator().manual_seed(0))
    assert list(children_of(wide, context())) == [0.0, 0.05]
