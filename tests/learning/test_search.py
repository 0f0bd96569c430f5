import pytest
import torch

from tests.learning.tiny import QUICK, asked, context
from worker.learning.networks import frozen
from worker.learning.networks.network import WIDEST
from worker.learning.replay import replay
from worker.learning.resizing.search import SHARES, SearchParams, better_half, in_reach, tournament
from worker.learning.resizing.units import grow
from worker.learning.strategy import find

CPU = torch.device("cpu")


def replayed(checkpoint):
    teacher = frozen(checkpoint, CPU)
    return lambda purpose: [(replay(teacher, [0, 1], context().generator(purpose)), 1.0)]


def searched(checkpoint, seed=0, **params):
    found, training = find("resize", "search"), context(seed)
    params = found.Params(schedule=QUICK, fisher_examples=200, **params)
    return found.run(checkpoint, asked(), params, training), training.findings["search"]


def test_the_children_are_halved_until_one_is_left(two_labels):
    _, found = searched(two_labels, mu=0.0)
    assert [len(rung["objective"]) for rung in found["rungs"]] == [5, 3, 2]
    assert [rung["steps"] for rung in found["rungs"]] == [10, 16, 25], "a third of 150 steps a rung"
    last = found["rungs"][-1]["objective"]
    assert f"+{found['chosen']:.0%}" == min(last, key=last.get)
    for before, after in zip(found["rungs"], found["rungs"][1:], strict=False):
        left = sorted(before["objective"], key=before["objective"].get)[: len(after["objective"])]
        assert set(after["objective"]) == set(left)


def test_what_is_added_draws_what_its_parent_drew(two_labels):
    larger, found = searched(two_labels, mu=0.0)
    assert larger.spec.decoder_widths[-1] == 24 + round(found["chosen"] * 24 + 0.499)
    noise, slots = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
    drawn, before = (frozen(one, CPU).decode(noise, slots) for one in (larger, two_labels))
    assert torch.allclose(drawn, before, atol=1e-5)


def test_parameters_that_cost_more_than_they_are_worth_are_not_added(two_labels):
    same, found = searched(two_labels, mu=1.0)
    assert found["chosen"] == 0
    assert same.spec == two_labels.spec


def test_equal_children_have_equal_probes(two_labels):
    """The same seed for all: what differs between children is their width alone."""
    twins = {0.0: two_labels, 0.05: grow(two_labels, 0.0, torch.Generator())}
    params = SearchParams(schedule=QUICK, mu=0)
    winner, [rung] = tournament(twins, replayed(two_labels), params, params.schedule, context())
    assert rung["negative_elbo"]["+0%"] == rung["negative_elbo"]["+5%"]
    assert winner == 0


@pytest.mark.parametrize(
    ("costs", "left"),
    [
        ({0.0: 3.0, 0.1: 1.0, 0.2: 2.0}, [0.1, 0.2]),
        ({0.0: 1.0, 0.1: 1.0}, [0.0]),
        ({0.4: 5.0, 0.2: 4.0, 0.1: 3.0, 0.05: 2.0, 0.0: 1.0}, [0.0, 0.05, 0.1]),
    ],
)
def test_the_better_half_is_rounded_up_and_prefers_the_smaller(costs, left):
    assert better_half(costs) == left


def test_no_child_is_wider_than_the_service_offers(two_labels):
    assert in_reach(two_labels) == list(SHARES)
    wide = grow(two_labels, WIDEST / 24 / 1.06 - 1, torch.Generator().manual_seed(0))
    assert in_reach(wide) == [0.0, 0.05]
