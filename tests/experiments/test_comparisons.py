"""Table 1, compression and the script of CLPU: the arms differ in what they say, and in nothing else."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from experiments import clpu, compression, table1
from experiments.significance import paired
from experiments.strategies import CPU, Archive
from tests.experiments.made_up import of_clpu, of_compression, of_table1
from tests.learning.tiny import TINY, context, examples, run
from worker.learning.checkpoint import Checkpoint
from worker.learning.datasets import Dataset
from worker.learning.networks import blank, build
from worker.learning.resizing.taylor import curvature
from worker.learning.resizing.taylor_prune import replay_set
from worker.learning.strategy import find


def params(arm: str) -> dict:
    strategy, given = table1.arms(300)[arm]
    return find("forget", strategy).Params(**given).model_dump()


def test_both_arms_of_table_1_have_the_same_steps_batch_and_ewc():
    for name in ("schedule", "ewc_strength", "replay_match"):
        assert params("fixed")[name] == params("resized")[name]
    assert params("fixed")["schedule"]["steps"] == 300
    assert params("resized")["surrogate"] == "uniform_noise"


def test_at_the_published_steps_the_rate_is_the_published_one():
    published = table1.PUBLISHED.schedule
    assert table1.shortened(published.steps)["learning_rate"] == published.learning_rate
    assert table1.shortened(published.steps // 4)["learning_rate"] == 4 * published.learning_rate


@pytest.mark.parametrize(
    ("one", "differs"), [("unpruned", {"prune_share": 0.0}), ("resized_free", {"ewc_strength": 0.0})]
)
def test_the_other_arms_of_table_1_differ_from_the_resized_in_one_thing(one, differs):
    assert params(one) == params("resized") | differs


def test_table_1_compares_seed_by_seed(tmp_path):
    accuracy = {name: [0.9, 0.95, 0.99] for name in table1.arms(1)}
    accuracy |= {"resized": [0.91, 0.97, 0.995], "resized_free": [0.8, 0.9, 0.99]}
    found = of_table1(accuracy)
    compared = table1.summary(found)["compared"]
    assert compared["same_ewc"]["retained_closed"] == paired(accuracy["resized"], accuracy["fixed"])
    assert compared["confounded"]["retained_closed"]["mean"] == pytest.approx(-0.05)
    assert compared["pruning_alone"]["arms"] == ["resized", "unpruned"]
    table1.draw(found, tmp_path / "table1.png")
    assert plt.imread(tmp_path / "table1.png").std() > 0.01


@pytest.fixture(scope="module")
def two_labels() -> Checkpoint:
    return run("learn", "replay_ewc", blank(TINY, seed=0, pixels=64), examples("rows", "columns"))


@pytest.fixture(scope="module")
def ways(two_labels: Checkpoint) -> dict[str, Checkpoint]:
    draws = replay_set(two_labels, 200, context())
    around = curvature(build(two_labels, CPU), draws, context())
    spared = compression.trained(two_labels, 0.5, 5, context())
    return compression.every_way(two_labels, around, spared, 0.5, 5, context())


def test_every_way_to_compress_removes_as_many_units(ways):
    assert {tuple(one.spec.encoder_widths + one.spec.decoder_widths) for one in ways.values()} == {
        (12, 6, 6, 12)
    }


def test_tuning_starts_from_the_units_that_the_same_choice_left(ways):
    for chosen in ("magnitude", "taylor"):
        name = "encoder.0.weight"
        before, after = (ways[way].weights[name] for way in (chosen, f"{chosen}_tuned"))
        assert not torch.equal(before, after)
        assert torch.nn.functional.cosine_similarity(before, after).min() > 0.9


def test_magnitude_is_the_norm_of_incoming_weights(two_labels):
    for layer, gone in compression.smallest(two_labels, 0.25).items():
        norms = two_labels.weights[f"{layer}.weight"].square().sum(dim=1)
        assert gone.sum() == len(norms) // 4
        assert norms[gone].max() <= norms[~gone].min()


def test_the_cliff_is_the_largest_share_that_costs_at_most_5_points(tmp_path):
    every = {way: [0.92, 0.2] for _, panel in compression.PANELS for way in panel}
    curves = {"dropout_on": [0.94, 0.91], "taylor": [0.5, 0.1], "taylor_tuned": [0.5, 0.93]}
    found = [of_compression(every | curves)] * 2
    figures = compression.summary(found)
    assert (figures["cliff"]["dropout_on"], figures["cliff"]["dropout_off"]) == (0.6, 0.3)
    assert figures["cliff"]["taylor"] == 0
    assert figures["cliff"]["taylor_tuned"] == 0, "what recovers beyond the edge has fallen over it"
    assert [one["mean"] for one in figures["compared"]["dropout_on-dropout_off"]] == pytest.approx(
        [0.02, 0.71]
    )
    compression.draw(found, tmp_path / "compression.png")
    assert plt.imread(tmp_path / "compression.png").std() > 0.01


@pytest.fixture(scope="module")
def tiny_digits() -> Dataset:
    """Ten labels, each a picture of its own with a little noise."""
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
    """What each script leads to, from the same seed."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.histories.QUICKER", 20)
        for group, script in clpu.SCRIPTS.items():
            archive = Archive(tiny_digits, blank(TINY, seed=0, pixels=64))
            checkpoint = archive.start
            for step in script:
                checkpoint = clpu.after(checkpoint, step, "surrogate", archive, tiny_digits, 0, quick=True)
            found[group] = checkpoint
        found["surrogate"] = clpu.after(checkpoint, "F23", "surrogate", archive, tiny_digits, 0, quick=True)
    return found


def test_the_scripts_of_clpu_end_with_the_same_labels_but_for_the_forgotten(networks):
    held = {name: set(one.held) for name, one in networks.items()}
    retained = set(clpu.RETAINED)
    assert held == {
        "without": retained,
        "exact": retained,
        "kept": retained | set(clpu.GONE),
        "surrogate": retained,
    }
    assert all(one.isolated == () for one in networks.values()), "4 and 5 were made permanent"


def test_exact_forgetting_leaves_the_bytes_of_never_having_learnt(networks):
    assert networks["exact"].to_bytes() == networks["without"].to_bytes()
    assert networks["surrogate"].to_bytes() != networks["without"].to_bytes()


def test_networks_are_compared_on_what_they_make_of_the_same_images(networks, tiny_digits):
    made = {name: clpu.outputs(one, tiny_digits, clpu.GONE).numpy() for name, one in networks.items()}
    assert made["kept"].shape == (clpu.IMAGES, 64)
    distances = clpu.distances_of([made["without"], made["exact"], made["kept"]])
    assert distances[0, 1] == 0
    assert distances[0, 2] == distances[1, 2] > 0
    assert np.array_equal(distances, distances.T)


def test_the_summary_of_clpu_counts_twins_and_tells_groups_apart(tmp_path):
    found = clpu.summary(of_clpu())
    assert found["identical"] == {"same": 2, "of": 3}
    assert found["smallest_p"] == pytest.approx(2 / 20)
    assert set(found["forgotten"]) == {"kept"}
    for kind in clpu.ON:
        assert found["tests"][kind]["kept"]["p"] == pytest.approx(found["smallest_p"])
        assert found["tests"][kind]["exact"]["p"] > 0.3
        assert len(found["tests"][kind]["reference"]["pairs_within"]) == 3
    clpu.draw(found, tmp_path / "clpu.png")
    assert plt.imread(tmp_path / "clpu.png").std() > 0.01
