"""The choice of a width by a network's own signals."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.learning.tiny import CPU, QUICK, context, labels
from worker.jobs.failures import describe_failure
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import build
from worker.learning.networks.network import LayerCall
from worker.learning.replay_losses import latents_of
from worker.learning.resizing.auto import AutoParams, candidates, choose
from worker.learning.strategy import find
from worker.learning.units.capacity import (
    Capacity,
    covariances,
    default_units,
    effective_rank,
    measure_capacity,
    units_needed,
)
from worker.learning.units.removal import RemovalOrder, measure_curvature, replay_sample
from worker.learning.units.resize import grow


def capacity_of(rank: float, *widths: int) -> Capacity:
    layers = {f"layer.{index}": width for index, width in enumerate(widths)}
    return Capacity(layers, {layer: rank / len(widths) for layer in layers}, dict.fromkeys(layers, 0))


def order(units: int, cost_of_a_unit: float) -> RemovalOrder:
    return RemovalOrder(
        tuple(("layer.0", unit) for unit in range(units)),
        tuple(cost_of_a_unit * (unit + 1) for unit in range(units)),
    )


def chosen(
    rank: float, cost_of_a_unit: float = 0.0, widths: tuple[int, ...] = (60, 40), **sent: float
) -> float:
    """The share by which the network is resized."""
    params = AutoParams.model_validate({"density": 0.1, "reserve": 0, "epsilon": 5.0, **sent})
    measured = capacity_of(rank, *widths)
    offered = candidates(measured, order(sum(widths) - 2, cost_of_a_unit), params, limits(measured, params))
    return choose(measured, offered, needed(measured, params), params)[0].share


def limits(measured: Capacity, params: AutoParams) -> dict[str, int]:
    return dict.fromkeys(measured.widths, params.widest)


def needed(measured: Capacity, params: AutoParams) -> int:
    """The units needed, for an architecture whose default has 100 units."""
    return math.ceil(measured.rank / params.density + 100 * params.reserve)


def test_the_narrowest_width_with_enough_units_is_chosen() -> None:
    assert chosen(rank=8) == -0.2  # 80 units with a rank of 8
    assert chosen(rank=7.4) == -0.25  # 74 would do; 75 is the narrowest candidate


def test_no_more_is_removed_than_epsilon_allows() -> None:
    assert chosen(rank=5, cost_of_a_unit=0.01) == -0.5
    assert chosen(rank=5, cost_of_a_unit=0.2) == -0.25
    assert chosen(rank=5, cost_of_a_unit=2.0) == 0


def test_a_network_with_too_few_units_grows_until_it_has_enough() -> None:
    assert chosen(rank=13) == 0.3
    assert chosen(rank=30) == 1.0, "at most twice as wide in one decision"


@pytest.mark.parametrize("rank", [9.6, 9.9, 10.0, 10.4])
def test_a_change_under_five_per_cent_is_not_made(rank: float) -> None:
    assert chosen(rank=rank) == 0


def test_a_larger_hysteresis_prevents_larger_changes() -> None:
    assert chosen(rank=8.2) == -0.15 != chosen(rank=8.2, hysteresis=0.2) == 0
    assert chosen(rank=11.5) == 0.15 != chosen(rank=11.5, hysteresis=0.2) == 0


@pytest.mark.parametrize("rank", [2.0, 5.0, 8.0, 9.5, 10.2, 10.6, 13.0, 19.0])
def test_a_choice_is_kept_while_nothing_changes(rank: float) -> None:
    """The rank follows the function, which a resize keeps: the next choice is to stay."""
    params = AutoParams(density=0.1, reserve=0)
    units = 1000
    for _ in range(10):
        now = capacity_of(rank * 10, *[units // 4] * 4)
        units = now.units
        offered = candidates(now, order(units - 1, 0.0), params, limits(now, params))
        next_units = choose(now, offered, needed(now, params), params)[0].units
        if next_units == units:
            break
        units = next_units
    else:
        pytest.fail("ten choices in a row changed the width")
    assert 0.95 * rank * 10 / 0.1 <= units <= 1.07 * rank * 10 / 0.1


def test_room_is_kept_for_what_is_learnt_next() -> None:
    assert chosen(rank=6) == -0.4
    assert chosen(rank=6, reserve=0.15) == -0.25
    assert chosen(rank=6, reserve=0.6) == 0.2


def test_the_room_is_a_share_of_the_default_network_of_the_architecture(two_labels: Checkpoint) -> None:
    assert default_units(two_labels.spec) == 512 + 256 + 256 + 512
    assert units_needed(10.0, two_labels.spec, density=0.1, reserve=0.5) == 100 + 768


def test_the_bounds_hold() -> None:
    assert chosen(rank=30, widest=70) == 0.15, "the layer of 60 becomes 69"
    assert chosen(rank=30, widest=60) == 0
    measured, params = capacity_of(1, 60, 40), AutoParams()
    offered = candidates(measured, order(12, 0.0), params, limits(measured, params))
    assert choose(measured, offered, 10, params)[0].share == -0.1


def test_the_effective_rank_counts_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    three = torch.linalg.qr(torch.randn(20, 3, generator=generator))[0]
    assert effective_rank(three @ three.T) == pytest.approx(3, abs=1e-3)
    assert effective_rank(torch.eye(20)) == pytest.approx(20, abs=1e-3)
    assert effective_rank(torch.diag(torch.tensor([1.0, 1.0, 1e-9]))) == pytest.approx(2, abs=1e-3)


def test_covariances_are_those_of_all_activations_at_once(two_labels: Checkpoint) -> None:
    draws, network = replay_sample(two_labels, 600, context()), build(two_labels, CPU)
    latents = torch.cat([latents_of(one) for one in draws])
    calls: list[LayerCall] = []
    network.decode(latents, torch.cat([one.slots for one in draws]), calls=calls)
    found = covariances(network, draws)
    assert {layer: len(one) for layer, one in found.items()} == {
        "encoder.0": 24,
        "encoder.1": 12,
        "decoder.0": 12,
        "decoder.1": 24,
    }
    for layer, call in zip(("decoder.0", "decoder.1"), calls[1:], strict=True):
        expected = call.inputs.detach().double().T.cov(correction=0)
        assert torch.allclose(found[layer], expected, atol=1e-6)


def test_units_without_outgoing_weights_are_idle(two_labels: Checkpoint) -> None:
    draws = replay_sample(two_labels, 500, context())

    def idle(checkpoint: Checkpoint) -> dict[str, int]:
        network = build(checkpoint, CPU)
        curvature = measure_curvature(network, draws, context())
        return dict(measure_capacity(network, draws, curvature).idle_units)

    before = idle(two_labels)
    after = idle(grow(two_labels, 0.5, torch.Generator().manual_seed(0)))
    assert {layer: after[layer] - before[layer] for layer in before} == {
        "encoder.0": 12,
        "encoder.1": 6,
        "decoder.0": 6,
        "decoder.1": 12,
    }


def resized(checkpoint: Checkpoint, **sent: float) -> tuple[Checkpoint, dict[str, Any]]:
    found, training = find("resize", "auto"), context()
    brief = {"schedule": QUICK, "fisher_examples": 200, "narrowest": 2}
    params = found.Params.model_validate(brief | sent)
    result = found.run(checkpoint, labels(), params, training)
    findings: dict[str, Any] = training.findings["width"]
    return result, findings


def test_every_decision_is_explained(two_labels: Checkpoint) -> None:
    smaller, found = resized(two_labels, density=0.5, reserve=0)
    assert found["reason"].startswith("shrinks")
    assert found["signals"]["labels"] == 2
    assert found["chosen"] in found["candidates"]
    assert sum(found["signals"]["widths"].values()) == 72
    assert sum(smaller.spec.encoder_widths + smaller.spec.decoder_widths) == found["chosen"]["units"] < 72
    assert found["measured_loss_change"] > 0
    assert found["chosen"]["predicted_loss_change"] <= 5


def test_a_network_that_grows_draws_the_same(two_labels: Checkpoint) -> None:
    larger, found = resized(two_labels, density=0.01)
    assert found["reason"].startswith("grows")
    assert larger.widths == {"encoder": [48, 24], "decoder": [24, 48]}
    assert abs(found["measured_loss_change"]) < 1e-4
    network, before = build(larger, CPU), build(two_labels, CPU)
    noise, slots = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 2
    assert torch.allclose(network.decode(noise, slots), before.decode(noise, slots), atol=1e-5)


def test_a_layer_that_never_varies_has_the_rank_of_a_constant() -> None:
    assert effective_rank(torch.zeros(5, 5, dtype=torch.float64)) == 1.0


def test_a_lower_bound_above_the_upper_one_is_refused_with_a_message_a_client_can_act_on() -> None:
    with pytest.raises(ValidationError) as refused:
        AutoParams(narrowest=65, widest=64)
    failure = describe_failure(refused.value, "job")
    assert (failure["type"], failure["retryable"]) == ("user", False)
    assert failure["message"] == "narrowest (65) must not exceed widest (64)"
    assert AutoParams(narrowest=64, widest=64)
