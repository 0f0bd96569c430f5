"""Each audit against something slower and more obvious, and on cases whose answer is known."""

import pytest
import torch

from tests.learning.tiny import NETWORKS, context, examples, run, stripes
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.distances import diversity, frechet
from worker.learning.judging.feature_network import FeatureNetwork, feature_architecture
from worker.learning.judging.likeness import energy_distance, function_distance, permutation_p
from worker.learning.judging.membership import auc, membership
from worker.learning.judging.recovery import Search, plausible_radius, recovered
from worker.learning.judging.relearning import Lesson, relearned, steps_to
from worker.learning.networks import blank, frozen
from worker.learning.training import Schedule

CPU = torch.device("cpu")


def points(count: int, seed: int, size: int = 3) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def two_kinds() -> Checkpoint:
    return run("learn", "retrain", blank(NETWORKS["mlp"], seed=0, pixels=64), examples("rows", "columns"))


def stranger(labels: tuple[str, ...] = ("rows", "columns")) -> FeatureNetwork:
    """A feature network that was never taught anything: still a function to be climbed."""
    torch.manual_seed(0)
    network = feature_architecture(len(labels)).eval().requires_grad_(False)
    return FeatureNetwork(labels, network, version="untrained", test_accuracy=0.5)


def test_the_energy_distance_is_its_definition_over_all_pairs():
    one, other = points(7, 0), points(5, 1) + 0.5

    def mean(pairs):
        return sum((a - b).norm().item() for a, b in pairs) / len(pairs)

    across = mean([(a, b) for a in one for b in other])
    within = [
        mean([(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]) for s in (one, other)
    ]
    assert energy_distance(one, other) == pytest.approx(2 * across - sum(within))


def test_a_permutation_test_tells_two_clouds_apart_and_not_one_from_itself():
    rng = torch.Generator().manual_seed(0)
    assert permutation_p(points(60, 0), points(60, 1) + 1, rng, 200) < 0.01
    alike = [permutation_p(points(30, seed), points(30, 1000 + seed), rng, 100) for seed in range(40)]
    assert sum(p < 0.1 for p in alike) <= 10
    assert 0.3 < sum(alike) / len(alike) < 0.7  # uniform, as a p-value under its null is


def test_the_auc_is_the_share_of_pairs_in_which_the_member_costs_less():
    members, others = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([2.0, 3.0, 0.5])
    pairs = [(a < b).item() + 0.5 * (a == b).item() for a in members for b in others]
    assert auc(members, others) == pytest.approx(sum(pairs) / len(pairs))


def test_a_network_that_knows_its_images_by_heart_is_caught_and_a_blank_one_is_not():
    """Noise cannot be guessed: who reproduces it has seen it."""
    rng = torch.Generator().manual_seed(3)
    taught, unseen = torch.randint(0, 256, (2, 24, 64), dtype=torch.uint8, generator=rng)
    given = examples("rows")
    given.images["rows"] = taught
    empty = blank(
        NETWORKS["mlp"] | {"encoder_widths": (64, 32), "decoder_widths": (32, 64)}, seed=0, pixels=64
    )
    schedule = {"steps": 400, "batch_size": 24, "learning_rate": 1e-2}
    learnt = run("learn", "retrain", empty, given, schedule=schedule, fisher_examples=1)
    found = membership(frozen(learnt, CPU), learnt.label("rows").slot, taught, unseen, rng)
    assert found["reconstruction"] > 0.8
    blind = run("learn", "retrain", empty, given, schedule=schedule | {"steps": 1}, fisher_examples=1)
    assert abs(membership(frozen(blind, CPU), 0, taught, unseen, rng)["reconstruction"] - 0.5) < 0.2


def test_the_frechet_distance_of_two_clouds_on_axes_is_the_closed_form():
    """Of diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    whole = points(4000, 0, 2)
    white = (whole - whole.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(whole.T.cov())).T
    one, other = (
        white * torch.tensor([1.0, 2.0]),
        white * torch.tensor([3.0, 0.5]) + torch.tensor([1.0, -1.0]),
    )
    assert frechet(one, other) == pytest.approx(2 + 4 + 2.25, abs=1e-6)
    assert frechet(one, one) == pytest.approx(0, abs=1e-6)


def test_diversity_is_the_ratio_of_mean_distances_and_nothing_for_one_image():
    drawn, real = points(6, 0), points(5, 1)

    def mean(cloud):
        pairs = [(a - b).norm().item() for i, a in enumerate(cloud) for b in cloud[:i]]
        return sum(pairs) / len(pairs)

    assert diversity(drawn, real) == pytest.approx(mean(drawn) / mean(real))
    assert diversity(real[:1].expand(5, 3), real) == 0


def test_the_search_improves_on_its_start_and_never_leaves_what_is_plausible(two_kinds):
    network, feature_network = frozen(two_kinds, CPU), stranger()

    def found(steps: int):
        search = Search(starts=30, steps=steps, learning_rate=0.5)
        return recovered(
            network, 0, [1], label="rows", feature_network=feature_network, search=search, context=context(5)
        )

    start, end = found(0), found(40)
    assert (
        feature_network.negative_log_probability(end.images, "rows").mean()
        < feature_network.negative_log_probability(start.images, "rows").mean()
    )
    assert end.noise.norm(dim=1).max() <= plausible_radius(network.latent) + 1e-5
    assert end.noise.norm(dim=1).max() > plausible_radius(network.latent) - 0.1  # it did try
    assert torch.allclose(end.mixtures.sum(dim=1), torch.ones(30))
    assert end.mixtures.min() >= 0


def test_what_the_search_shows_is_what_the_network_draws_there(two_kinds):
    """A condition that is wholly one slot's is that slot; searched without a step."""
    network = frozen(two_kinds, CPU)
    search = Search(starts=9, steps=0)
    found = recovered(
        network, 0, [1], label="rows", feature_network=stranger(), search=search, context=context(5)
    )
    columns = torch.cat([network.decoder[0].label, torch.zeros(1, 12)])
    hidden = torch.nn.functional.silu
    slots = torch.tensor([0, 1])[torch.randint(2, (9,), generator=context(5).generator("recovery of rows"))]
    entered = network.decoder[0](network.sample_prior(found.noise, slots)) + found.mixtures @ columns
    by_hand = network.decoder[2](hidden(network.decoder[1](hidden(entered)))).sigmoid()
    assert torch.allclose(found.images, by_hand, atol=1e-5)


def test_relearning_leaves_the_checkpoint_alone_and_its_curve_rises(two_kinds):
    before = two_kinds.to_bytes()
    gone = two_kinds.with_status(["rows"], "forgotten")
    schedule = Schedule(steps=60, batch_size=32, learning_rate=1e-2, shape="constant")
    target = stripes("rows").float().mean(0) / 255

    def near(images):
        return ((images - target).abs().mean(1) < 0.1).float().mean().item()

    curve = relearned(
        gone, "rows", stripes("rows"), near, Lesson(schedule, steps_between=10, draws=40), context()
    )
    assert [step for step, _ in curve] == [0, 10, 20, 30, 40, 50, 60]
    assert curve[-1][1] > 0.9 > curve[0][1]
    assert two_kinds.to_bytes() == before


def test_the_steps_to_a_share_lie_on_a_line_between_two_looks():
    assert steps_to(0.9, [(0, 0.0), (10, 0.8), (20, 1.0)]) == pytest.approx(15)
    assert steps_to(0.9, [(0, 0.0), (10, 0.5)]) is None
    assert steps_to(0.9, [(0, 0.95), (10, 0.5)]) == 0


def test_the_function_distance_does_not_see_the_coordinates_of_the_latents(two_kinds):
    """Two networks whose latents are mirrored are one function."""
    network, mirrored = frozen(two_kinds, CPU), frozen(two_kinds, CPU)
    with torch.no_grad():
        mirrored.encoder[-1].weight[: mirrored.latent] *= -1
        mirrored.encoder[-1].bias[: mirrored.latent] *= -1
        mirrored.decoder[0].weight *= -1
    images = [(stripes("rows").float() / 255, 0)]
    assert function_distance(network, mirrored, images) == pytest.approx(0, abs=1e-6)
    assert function_distance(network, frozen(blank_like(two_kinds), CPU), images) > 0.01


def blank_like(checkpoint: Checkpoint) -> Checkpoint:
    weights = {name: torch.zeros_like(tensor) for name, tensor in checkpoint.weights.items()}
    weights["prior_scale"] = checkpoint.weights["prior_scale"]
    return Checkpoint(checkpoint.spec, weights, checkpoint.labels)
