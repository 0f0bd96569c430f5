"""Table 1, compression and the script of CLPU: compared networks differ in what is compared, and no more."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from experiments import clpu, compression, table1
from experiments.significance import paired_t_test
from experiments.training_setup import CPU, PUBLISHED, DatasetArchive, shortened_schedule
from tests.experiments.invented_results import clpu_networks, compression_result, table1_results
from tests.learning.tiny import TINY, context, examples, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.datasets import Dataset
from worker.learning.networks import blank, build
from worker.learning.strategy import find
from worker.learning.units.removal import measure_curvature, replay_sample


def params(arm: str) -> dict[str, Any]:
    strategy, values = table1.arms(300)[arm]
    return find("forget", strategy).Params(**values).model_dump()


def test_both_arms_of_table_1_have_the_same_steps_batch_and_ewc() -> None:
    for name in ("schedule", "ewc_strength", "replay_match"):
        assert params("fixed")[name] == params("resized")[name]
    assert params("fixed")["schedule"]["steps"] == 300
    assert params("resized")["surrogate"] == "uniform_noise"


def test_a_schedule_of_the_published_length_has_the_published_learning_rate() -> None:
    published = PUBLISHED.schedule
    assert shortened_schedule(published.steps)["learning_rate"] == published.learning_rate
    assert shortened_schedule(published.steps // 4)["learning_rate"] == 4 * published.learning_rate


@pytest.mark.parametrize(
    ("one", "differs"), [("unpruned", {"prune_share": 0.0}), ("resized_free", {"ewc_strength": 0.0})]
)
def test_the_other_arms_of_table_1_differ_from_resized_in_one_param(
    one: str, differs: dict[str, float]
) -> None:
    assert params(one) == params("resized") | differs


def test_table_1_is_paired_by_seed(tmp_path: Path) -> None:
    accuracy = {name: [0.9, 0.95, 0.99] for name in table1.arms(1)}
    accuracy |= {"resized": [0.91, 0.97, 0.995], "resized_free": [0.8, 0.9, 0.99]}
    found = table1_results(accuracy)
    compared = table1.summarize(found)["compared"]
    assert compared["same_ewc"]["retained_closed"] == paired_t_test(accuracy["resized"], accuracy["fixed"])
    assert compared["confounded"]["retained_closed"]["mean"] == pytest.approx(-0.05)
    assert compared["pruning_alone"]["arms"] == ["resized", "unpruned"]
    table1.plot(found, tmp_path / "table1.png")
    assert plt.imread(tmp_path / "table1.png").std() > 0.01


@pytest.fixture(scope="module")
def two_labels() -> Checkpoint:
    network = blank(TINY, seed=0, pixels=64)
    learned: Checkpoint = run("learn", "replay_ewc", network, examples("rows", "columns"))
    return learned


@pytest.fixture(scope="module")
def compressed(two_labels: Checkpoint) -> dict[str, Checkpoint]:
    """What each method leaves when half of the units are removed."""
    draws = replay_sample(two_labels, 200, context())
    curvature = measure_curvature(build(two_labels, CPU), draws, context())
    half_dropped = compression.train_with_dropout(two_labels, 0.5, 5, context())
    return compression.compress(two_labels, curvature, half_dropped, 0.5, 5, context())


def test_every_method_removes_the_same_number_of_units(compressed: dict[str, Checkpoint]) -> None:
    assert {tuple(one.spec.encoder_widths + one.spec.decoder_widths) for one in compressed.values()} == {
        (12, 6, 6, 12)
    }


def test_fine_tuning_starts_from_the_units_that_the_same_choice_left(
    compressed: dict[str, Checkpoint],
) -> None:
    for chosen in ("magnitude", "taylor"):
        name = "encoder.0.weight"
        before, after = (compressed[method].weights[name] for method in (chosen, f"{chosen}_tuned"))
        assert not torch.equal(before, after)
        assert torch.nn.functional.cosine_similarity(before, after).min() > 0.9


def test_magnitude_is_the_norm_of_incoming_weights(two_labels: Checkpoint) -> None:
    for layer, removed in compression.smallest_units(two_labels, 0.25).items():
        norms = two_labels.weights[f"{layer}.weight"].square().sum(dim=1)
        assert removed.sum() == len(norms) // 4
        assert norms[removed].max() <= norms[~removed].min()


def test_the_cliff_is_the_largest_share_that_costs_at_most_5_points(tmp_path: Path) -> None:
    every = {method: [0.92, 0.2] for _, panel in compression.PANELS for method in panel}
    curves = {"dropout_on": [0.94, 0.91], "taylor": [0.5, 0.1], "taylor_tuned": [0.5, 0.93]}
    figures = compression.summarize([compression_result(every | curves)] * 2)
    assert (figures["cliff"]["dropout_on"], figures["cliff"]["dropout_off"]) == (0.6, 0.3)
    assert figures["cliff"]["taylor"] == 0
    assert figures["cliff"]["taylor_tuned"] == 0, "a larger share that costs less does not count"
    assert [one["mean"] for one in figures["compared"]["dropout_on-dropout_off"]] == pytest.approx(
        [0.02, 0.71]
    )
    compression.plot(figures, tmp_path / "compression.png")
    assert plt.imread(tmp_path / "compression.png").std() > 0.01


@pytest.fixture(scope="module")
def tiny_digits() -> Dataset:
    """Ten labels, each with its own picture and a little noise."""
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> dict[str, torch.Tensor]:
        return {
            name: (picture * (0.7 + 0.3 * torch.rand(count, 64, generator=generator)) * 255).to(torch.uint8)
            for name, picture in pictures.items()
        }

    pictures = {name: torch.randint(2, (64,), generator=generator).float() for name in "0123456789"}
    return Dataset("tiny", tuple(pictures), (8, 8), some(100), some(120))


@pytest.fixture(scope="module")
def networks(tiny_digits: Dataset) -> dict[str, Checkpoint]:
    """The network at the end of each script, from the same seed."""

    def run_step(step: str, checkpoint: Checkpoint) -> Checkpoint:
        return clpu.run_step(step, checkpoint, "surrogate", archive, tiny_digits, seed=0, step_divisor=20)

    found = {}
    for group, script in clpu.SCRIPTS.items():
        archive = DatasetArchive(tiny_digits, blank(TINY, seed=0, pixels=64))
        checkpoint = archive.blank_model
        for step in script:
            checkpoint = run_step(step, checkpoint)
        found[group] = checkpoint
    found["surrogate"] = run_step(clpu.FORGET_STEP, found["kept"])
    return found


def test_the_scripts_of_clpu_end_with_the_same_labels_except_for_the_forgotten(
    networks: dict[str, Checkpoint],
) -> None:
    held = {name: set(one.retained) for name, one in networks.items()}
    retained = set(clpu.RETAINED)
    assert held == {
        "without": retained,
        "exact": retained,
        "kept": retained | set(clpu.FORGOTTEN),
        "surrogate": retained,
    }
    assert all(one.isolated == () for one in networks.values()), "4 and 5 were made permanent"


def test_exact_forgetting_leaves_the_bytes_of_a_network_that_never_learned(
    networks: dict[str, Checkpoint],
) -> None:
    assert networks["exact"].to_bytes() == networks["without"].to_bytes()
    assert networks["surrogate"].to_bytes() != networks["without"].to_bytes()


def test_networks_are_compared_by_their_outputs_for_the_same_images(
    networks: dict[str, Checkpoint], tiny_digits: Dataset
) -> None:
    made = {name: clpu.outputs(one, tiny_digits, clpu.FORGOTTEN).numpy() for name, one in networks.items()}
    assert made["kept"].shape == (clpu.IMAGES, 64)
    distances = clpu.distances_between([made["without"], made["exact"], made["kept"]])
    assert distances[0, 1] == 0
    assert distances[0, 2] == distances[1, 2] > 0
    assert np.array_equal(distances, distances.T)


def test_the_summary_of_clpu_counts_identical_networks_and_tests_groups(tmp_path: Path) -> None:
    found = clpu.summarize(clpu_networks())
    assert found["identical"] == {"same": 2, "of": 3}
    assert found["smallest_p"] == pytest.approx(2 / 20)
    assert set(found["forgotten"]) == {"kept"}
    for kind in clpu.COMPARED_ON:
        assert found["tests"][kind]["kept"]["p"] == pytest.approx(found["smallest_p"])
        assert found["tests"][kind]["exact"]["p"] > 0.3
        assert len(found["tests"][kind]["reference"]["pairs_within"]) == 3
    clpu.plot(found, tmp_path / "clpu.png")
    assert plt.imread(tmp_path / "clpu.png").std() > 0.01
