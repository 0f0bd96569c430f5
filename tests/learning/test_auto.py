import math

import pytest
import torch
from pydantic import ValidationError

from tests.learning.tiny import QUICK, asked, context
from worker.jobs.failures import describe_failure
from worker.learning.networks import build
from worker.learning.resizing.auto import AutoParams, candidates, choice
from worker.learning.resizing.capacity import (
    Capacity,
    capacity,
    covariances,
    effective_rank,
    units_needed,
    usual_units,
)
from worker.learning.resizing.taylor import Order, curvature
from worker.learning.resizing.taylor_prune import replay_set
from worker.learning.resizing.units import grow
from worker.learning.strategy import find

CPU = torch.device("cpu")


def signals(rank: float, *widths: int) -> Capacity:
    layers = {f"layer.{index}": width for index, width in enumerate(widths)}
    return Capacity(layers, {layer: rank / len(widths) for layer in layers}, dict.fromkeys(layers, 0))


def order(units: int, cost_of_a_unit: float) -> Order:
    return Order(
        tuple(("layer.0", unit) for unit in range(units)),
        tuple(cost_of_a_unit * (unit + 1) for unit in range(units)),
    )


def chosen(rank: float, cost_of_a_unit: float = 0.0, widths=(60, 40), **params) -> float:
    params = AutoParams(**{"density": 0.1, "reserve": 0, "epsilon": 5.0, **params})
    measured = signals(rank, *widths)
    offered = candidates(measured, order(sum(widths) - 2, cost_of_a_unit), params, limits(measured, params))
    return choice(measured, offered, least(measured, params), params)[0].share


def limits(measured: Capacity, params: AutoParams) -> dict[str, int]:
    return dict.fromkeys(measured.widths, params.widest)


def least(measured: Capacity, params: AutoParams) -> int:
    """Of a network whose architecture's default has no room to keep."""
    return math.ceil(measured.rank / params.density + 100 * params.reserve)


def test_the_narrowest_width_that_is_not_tight_is_chosen():
    assert chosen(rank=8) == -0.2  # 80 units with a rank of 8
    assert chosen(rank=7.4) == -0.25  # 74 would do; 75 is the narrowest candidate


def test_no_more_is_removed_than_may_be_lost():
    assert chosen(rank=5, cost_of_a_unit=0.01) == -0.5
    assert chosen(rank=5, cost_of_a_unit=0.2) == -0.25
    assert chosen(rank=5, cost_of_a_unit=2.0) == 0


def test_a_tight_network_grows_until_it_is_not():
    assert chosen(rank=13) == 0.3
    assert chosen(rank=30) == 1.0, "at most twice as wide in one decision"


@pytest.mark.parametrize("rank", [9.6, 9.9, 10.0, 10.4])
def test_a_change_under_five_per_cent_is_not_made(rank):
    assert chosen(rank=rank) == 0


def test_a_larger_hysteresis_holds_still_longer():
    assert chosen(rank=8.2) == -0.15 != chosen(rank=8.2, hysteresis=0.2) == 0
    assert chosen(rank=11.5) == 0.15 != chosen(rank=11.5, hysteresis=0.2) == 0


@pytest.mark.parametrize("rank", [2.0, 5.0, 8.0, 9.5, 10.2, 10.6, 13.0, 19.0])
def test_a_choice_once_made_is_kept_while_nothing_changes(rank):
    """The rank follows the function, which a resize keeps: asked again, the answer is to stay."""
    params = AutoParams(density=0.1, reserve=0)
    units = 1000
    for _ in range(10):
        now = signals(rank * 10, *[units // 4] * 4)
        units = now.units
        offered = candidates(now, order(units - 1, 0.0), params, limits(now, params))
        became = choice(now, offered, least(now, params), params)[0].units
        if became == units:
            break
        units = became
    else:
        pytest.fail("it never settles")
    assert 0.95 * rank * 10 / 0.1 <= units <= 1.07 * rank * 10 / 0.1


def test_room_is_kept_for_what_is_learnt_next():
    assert chosen(rank=6) == -0.4
    assert chosen(rank=6, reserve=0.15) == -0.25
    assert chosen(rank=6, reserve=0.6) == 0.2


def test_the_room_is_a_share_of_the_default_network_of_the_architecture(two_labels):
    assert usual_units(two_labels.spec) == 512 + 256 + 256 + 512
    assert units_needed(10.0, two_labels.spec, density=0.1, reserve=0.5) == 100 + 768


def test_the_bounds_hold():
    assert chosen(rank=30, widest=70) == 0.15, "the layer of 60 becomes 69"
    assert chosen(rank=30, widest=60) == 0
    measured, params = signals(1, 60, 40), AutoParams()
    offered = candidates(measured, order(12, 0.0), params, limits(measured, params))
    assert choice(measured, offered, 10, params)[0].share == -0.1


def test_the_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    three = torch.linalg.qr(torch.randn(20, 3, generator=generator))[0]
    assert effective_rank(three @ three.T) == pytest.approx(3, abs=1e-3)
    assert effective_rank(torch.eye(20)) == pytest.approx(20, abs=1e-3)
    assert effective_rank(torch.diag(torch.tensor([1.0, 1.0, 1e-9]))) == pytest.approx(2, abs=1e-3)


def test_covariances_are_those_of_all_activations_at_once(two_labels):
    draws, network = replay_set(two_labels, 600, context()), build(two_labels, CPU)
    whole = torch.cat([one.latents for one in draws]), torch.cat([one.slots for one in draws])
    uses = []
    network.decode(*whole, uses=uses)
    found = covariances(network, draws)
    assert {layer: len(one) for layer, one in found.items()} == {
        "encoder.0": 24,
        "encoder.1": 12,
        "decoder.0": 12,
        "decoder.1": 24,
    }
    for layer, use in zip(("decoder.0", "decoder.1"), uses[1:], strict=True):
        expected = use.entered.detach().double().T.cov(correction=0)
        assert torch.allclose(found[layer], expected, atol=1e-6)


def test_units_that_say_nothing_are_idle(two_labels):
    draws = replay_set(two_labels, 500, context())

    def idle(checkpoint) -> dict[str, int]:
        network = build(checkpoint, CPU)
        around = curvature(network, draws, context())
        return dict(capacity(network, draws, around).idle_units)

    before = idle(two_labels)
    after = idle(grow(two_labels, 0.5, torch.Generator().manual_seed(0)))
    assert {layer: after[layer] - before[layer] for layer in before} == {
        "encoder.0": 12,
        "encoder.1": 6,
        "decoder.0": 6,
        "decoder.1": 12,
    }


def resized(checkpoint, **params):
    found, training = find("resize", "auto"), context()
    params = found.Params(schedule=QUICK, fisher_examples=200, narrowest=2, **params)
    return found.run(checkpoint, asked(), params, training), training.findings["width"]


def test_every_decision_is_explained(two_labels):
    smaller, found = resized(two_labels, density=0.5, reserve=0)
    assert found["reason"].startswith("shrinks")
    assert found["signals"]["labels"] == 2
    assert found["chosen"] in found["candidates"]
    assert sum(found["signals"]["widths"].values()) == 72
    assert sum(smaller.spec.encoder_widths + smaller.spec.decoder_widths) == found["chosen"]["units"] < 72
    assert found["measured_loss_change"] > 0
    assert found["chosen"]["predicted_loss_change"] <= 5


def test_a_tight_network_becomes_wider_and_draws_the_same(two_labels):
    larger, found = resized(two_labels, density=0.01)
    assert found["reason"].startswith("grows")
    assert larger.widths == {"encoder": [48, 24], "decoder": [24, 48]}
    assert abs(found["measured_loss_change"]) < 1e-4
    network, before = build(larger, CPU), build(two_labels, CPU)
    noise, slots = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
    assert torch.allclose(network.decode(noise, slots), before.decode(noise, slots), atol=1e-5)


def test_a_layer_that_never_varies_has_the_rank_of_a_constant():
    assert effective_rank(torch.zeros(5, 5, dtype=torch.float64)) == 1.0


def test_a_lower_bound_above_the_upper_one_is_refused_in_words_a_client_can_act_on():
    with pytest.raises(ValidationError) as refused:
        AutoParams(narrowest=65, widest=64)
    failure = describe_failure(refused.value, "job")
    assert (failure["type"], failure["retryable"]) == ("user", False)
    assert failure["message"] == "narrowest (65) must not exceed widest (64)"
    assert AutoParams(narrowest=64, widest=64)
