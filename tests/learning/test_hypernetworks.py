"""The architecture `hyper`: its weights are made for each label from an embedding."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.learning.tiny import BRIEF, CPU, NETWORKS, context, examples, labels, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.den import DenParams
from worker.learning.continual.den import learn as learn_by_den
from worker.learning.judging.unit_probe import reconstruct_from_units
from worker.learning.networks import blank, build, frozen
from worker.learning.networks.hyper import Hyper
from worker.learning.slots import with_slots
from worker.learning.units.removal import (
    least_important_units,
    measure_curvature,
    measured_loss_change,
    predicted_loss_change,
    remove_units,
    replay_sample,
)


@pytest.fixture(scope="module")
def learnt_hyper() -> Checkpoint:
    start = blank(NETWORKS["hyper"], seed=0, pixels=64)
    return run("learn", "replay_ewc", start, examples("rows", "columns", "frame"))


def hypernetwork(checkpoint: Checkpoint) -> Hyper:
    network = frozen(checkpoint, CPU)
    assert isinstance(network, Hyper)
    return network


def written_out(network: Hyper, side: str, slot: int) -> list[tuple[Tensor, Tensor]]:
    """The weights of every layer of a side for one label, as matrices."""
    made = network.make_weights(network.embeddings(torch.tensor([slot])))
    return [
        (one.scale[0][:, None] * layer.weight, one.scale[0] * layer.bias + one.shift[0])
        for (name, layer) in network.generated_layers()
        for one in [made[name]]
        if name.startswith(side)
    ]


def test_a_batch_of_several_labels_is_decoded_by_the_weights_made_for_each(learnt_hyper: Checkpoint) -> None:
    network, slots = hypernetwork(learnt_hyper), torch.tensor([2, 0, 1, 0, 2, 2])
    latents = torch.randn(len(slots), 2, generator=torch.Generator().manual_seed(0))
    expected = []
    for latent, slot in zip(latents, slots.tolist(), strict=True):
        *hidden, last = written_out(network, "decoder", slot)
        for weight, bias in hidden:
            latent = functional.silu(weight @ latent + bias)
        expected.append(last[0] @ latent + last[1])
    assert torch.allclose(network.decode(latents, slots), torch.stack(expected), atol=1e-4)


def test_each_label_has_weights_of_its_own(learnt_hyper: Checkpoint) -> None:
    network = hypernetwork(learnt_hyper)
    for first, second in ((0, 1), (1, 2)):
        for (weight, _), (other, _) in zip(
            *(written_out(network, "decoder", slot) for slot in (first, second)), strict=True
        ):
            assert (weight - other).norm() > 0.1 * weight.norm()


def test_a_network_has_as_many_parameters_as_an_mlp_within_a_hundredth() -> None:
    hyper, mlp = (
        with_slots(blank({"architecture": name}, seed=0), [*"0123456789"], "mnist", "permanent").parameters
        for name in ("hyper", "mlp")
    )
    assert 0.99 * mlp < hyper <= mlp


def test_growth_changes_no_output_of_any_label(learnt_hyper: Checkpoint) -> None:
    draws = replay_sample(learnt_hyper, 200, context())
    for method in ("zero_outgoing", "net2net"):
        larger = run("resize", "expand", learnt_hyper, labels(), share=0.5, method=method)
        assert larger.widths == {"encoder": [36, 18], "decoder": [18, 36]}
        assert abs(measured_loss_change(learnt_hyper, larger, draws, CPU)) < 1e-3


def test_the_cost_of_removing_units_is_predicted_for_all_labels(learnt_hyper: Checkpoint) -> None:
    draws = replay_sample(learnt_hyper, 1000, context())
    curvature = measure_curvature(build(learnt_hyper, CPU), draws, context())
    removed = least_important_units(curvature, 0.1, "layer")
    smaller = remove_units(learnt_hyper, removed, curvature)
    measured = measured_loss_change(learnt_hyper, smaller, draws, CPU)
    assert predicted_loss_change(curvature, removed) == pytest.approx(measured, rel=0.5)


def test_units_that_never_vary_are_removed_for_free(learnt_hyper: Checkpoint) -> None:
    """Their means go into the next shared bias, which every label's factors multiply."""
    weights = {name: tensor.clone() for name, tensor in learnt_hyper.weights.items()}
    for part in ("weight", "scale.weight", "shift.weight"):
        weights[f"decoder.1.{part}"][:2] = 0
    weights["decoder.1.bias"][:2] = torch.tensor([1.0, -1.0])
    constant = replace(learnt_hyper, weights=weights)
    draws = replay_sample(constant, 200, context())
    curvature = measure_curvature(build(constant, CPU), draws, context())
    removed = {layer: torch.zeros(width, dtype=torch.bool) for layer, width in curvature.widths.items()}
    removed["decoder.1"][:2] = True
    smaller = remove_units(constant, removed, curvature)
    assert smaller.widths["decoder"] == [12, 22]
    assert abs(measured_loss_change(constant, smaller, draws, CPU)) < 1e-3


def test_an_embedding_reaches_every_unit(learnt_hyper: Checkpoint) -> None:
    worker = context(0, "hyper")
    params = DenParams.model_validate({"schedule": BRIEF, "probe_steps": 5})
    learn_by_den(learnt_hyper, examples("blot"), params, worker)
    found = worker.findings["subnetwork"]
    assert set(found["reached_share"].values()) == {1.0}
    assert found["trained_share"] > 0.9


def test_units_that_draw_another_picture_for_each_label_are_not_probed(learnt_hyper: Checkpoint) -> None:
    images = torch.zeros((3, 64), dtype=torch.uint8)
    assert reconstruct_from_units(hypernetwork(learnt_hyper), images) is None
