"""Each audit against something slower and more obvious, and on cases whose answer is known."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from tests.learning.tiny import CPU, NETWORKS, context, examples, run, stripes
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.distances import diversity, frechet_distance
from worker.learning.judging.feature_network import FeatureNetwork, feature_architecture
from worker.learning.judging.likeness import energy_distance, function_distance, permutation_p_value
from worker.learning.judging.membership import auc, measure_membership
from worker.learning.judging.recovery import Recovered, Search, plausible_radius, recover
from worker.learning.judging.relearning import RelearningSetup, relearn, steps_to_reach
from worker.learning.networks import blank, frozen
from worker.learning.strategy import Examples
from worker.learning.training import Schedule


def points(count: int, seed: int, size: int = 3) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_distance(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    distances = torch.stack([(one - other).norm() for one, other in pairs])
    return distances.mean().item()


@pytest.fixture(scope="module")
def two_kinds() -> Checkpoint:
    return run("learn", "retrain", blank(NETWORKS["mlp"], seed=0, pixels=64), examples("rows", "columns"))


@pytest.fixture
def untrained_features() -> FeatureNetwork:
    """A feature network with random weights: still a function that an attack can climb."""
    torch.manual_seed(0)
    network = feature_architecture(2).eval().requires_grad_(False)
    return FeatureNetwork(("rows", "columns"), network, version="untrained", test_accuracy=0.5)


def recovered_rows(checkpoint: Checkpoint, features: FeatureNetwork, search: Search) -> Recovered:
    """What a recovery attack on the label in slot 0 ends with; slot 1 is held."""
    return recover(
        frozen(checkpoint, CPU),
        0,
        [1],
        label="rows",
        feature_network=features,
        search=search,
        context=context(5),
    )


def layers_of(network: nn.Module, side: str) -> list[nn.Module]:
    return list(network.get_submodule(side).children())


def parameter(layer: nn.Module, name: str) -> Tensor:
    return layer.get_parameter(name)


def test_the_energy_distance_is_its_definition_over_all_pairs() -> None:
    one, other = points(7, 0), points(5, 1) + 0.5
    across = mean_distance((a, b) for a in one for b in other)
    within = [
        mean_distance((s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j)
        for s in (one, other)
    ]
    assert energy_distance(one, other) == pytest.approx(2 * across - sum(within))


def test_a_permutation_test_distinguishes_two_clouds_and_does_not_distinguish_one_from_itself() -> None:
    rng = torch.Generator().manual_seed(0)
    assert permutation_p_value(points(60, 0), points(60, 1) + 1, rng, 200) < 0.01
    alike = [permutation_p_value(points(30, seed), points(30, 1000 + seed), rng, 100) for seed in range(40)]
    assert sum(p < 0.1 for p in alike) <= 10
    assert 0.3 < sum(alike) / len(alike) < 0.7  # uniform, as a p-value under its null is


def test_the_auc_is_the_share_of_pairs_in_which_the_member_has_the_lower_loss() -> None:
    members, others = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([2.0, 3.0, 0.5])
    pairs = [bool(a < b) + 0.5 * bool(a == b) for a in members for b in others]
    assert auc(members, others) == pytest.approx(sum(pairs) / len(pairs))


def test_a_network_that_memorised_its_images_is_caught_and_a_blank_one_is_not() -> None:
    """Noise cannot be guessed: a network that reproduces it has seen it."""
    rng = torch.Generator().manual_seed(3)
    members, unseen = torch.randint(0, 256, (2, 24, 64), dtype=torch.uint8, generator=rng)
    request = Examples(("rows",), "stripes", {"rows": members})
    wide = NETWORKS["mlp"] | {"encoder_widths": (64, 32), "decoder_widths": (32, 64)}
    schedule = {"steps": 400, "batch_size": 24, "learning_rate": 1e-2}

    def attack(steps: int) -> float:
        empty = blank(wide, seed=0, pixels=64)
        learned = run(
            "learn", "retrain", empty, request, schedule=schedule | {"steps": steps}, fisher_examples=1
        )
        return measure_membership(frozen(learned, CPU), learned.label("rows").slot, members, unseen, rng)[
            "reconstruction"
        ]

    assert attack(400) > 0.8
    assert abs(attack(1) - 0.5) < 0.2


def test_the_frechet_distance_of_two_clouds_on_axes_is_the_closed_form() -> None:
    """Of diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    whole = points(4000, 0, 2)
    white = (whole - whole.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(whole.T.cov())).T
    one, other = (
        white * torch.tensor([1.0, 2.0]),
        white * torch.tensor([3.0, 0.5]) + torch.tensor([1.0, -1.0]),
    )
    assert frechet_distance(one, other) == pytest.approx(2 + 4 + 2.25, abs=1e-6)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_diversity_is_the_ratio_of_mean_distances_and_nothing_for_one_image() -> None:
    drawn, real = points(6, 0), points(5, 1)
    means = [mean_distance((a, b) for i, a in enumerate(cloud) for b in cloud[:i]) for cloud in (drawn, real)]
    assert diversity(drawn, real) == pytest.approx(means[0] / means[1])
    assert diversity(real[:1].expand(5, 3), real) == 0


def test_the_search_improves_on_its_start_and_never_leaves_what_is_plausible(
    two_kinds: Checkpoint, untrained_features: FeatureNetwork
) -> None:
    start, end = (
        recovered_rows(two_kinds, untrained_features, Search(starts=30, steps=steps, learning_rate=0.5))
        for steps in (0, 40)
    )
    assert (
        untrained_features.negative_log_probability(end.images, "rows").mean()
        < untrained_features.negative_log_probability(start.images, "rows").mean()
    )
    latent = two_kinds.spec.latent
    radius, lengths = plausible_radius(latent), end.noise[:, :latent].norm(dim=1)
    assert lengths.max() <= radius + 1e-5
    assert lengths.max() > radius - 0.1  # it did try
    assert torch.equal(end.noise[:, latent:], start.noise[:, latent:]), "each stays in its component"
    assert torch.allclose(end.mixtures.sum(dim=1), torch.ones(30))
    assert end.mixtures.min() >= 0


def test_what_the_search_shows_is_what_the_network_draws_there(
    two_kinds: Checkpoint, untrained_features: FeatureNetwork
) -> None:
    """A condition that is wholly one slot's is that slot; searched without a step."""
    network = frozen(two_kinds, CPU)
    found = recovered_rows(two_kinds, untrained_features, Search(starts=9, steps=0))
    first, second, last = layers_of(network, "decoder")
    columns = torch.cat([parameter(first, "label"), torch.zeros(1, 12)])
    slots = torch.tensor([0, 1])[torch.randint(2, (9,), generator=context(5).generator("recovery of rows"))]
    entered = first(network.sample_prior(found.noise, slots)) + found.mixtures @ columns
    activate = nn.functional.silu
    by_hand = last(activate(second(activate(entered)))).sigmoid()
    assert torch.allclose(found.images, by_hand, atol=1e-5)


def test_relearning_leaves_the_checkpoint_unchanged_and_its_curve_rises_to_its_target(
    two_kinds: Checkpoint,
) -> None:
    before = two_kinds.to_bytes()
    gone = two_kinds.with_status(["rows"], "forgotten")
    schedule = Schedule(steps=60, batch_size=32, learning_rate=1e-2, shape="constant")
    target = stripes("rows").float().mean(0) / 255

    def near(images: Tensor) -> float:
        return ((images - target).abs().mean(1) < 0.1).float().mean().item()

    setup = RelearningSetup(schedule, steps_between=10, draws=40)
    curve = relearn(gone, "rows", stripes("rows"), near, setup, context())
    assert [step for step, _ in curve] == list(range(0, curve[-1][0] + 1, 10))
    assert 0 < curve[-1][0] <= 60
    assert curve[-1][1] >= 0.9 > max(accuracy for _, accuracy in curve[:-1])
    assert two_kinds.to_bytes() == before


def test_the_steps_to_an_accuracy_are_interpolated_between_two_points_of_the_curve() -> None:
    assert steps_to_reach(0.9, [(0, 0.0), (10, 0.8), (20, 1.0)]) == pytest.approx(15)
    assert steps_to_reach(0.9, [(0, 0.0), (10, 0.5)]) is None
    assert steps_to_reach(0.9, [(0, 0.95), (10, 0.5)]) == 0


def test_the_function_distance_does_not_see_the_coordinates_of_the_latents(two_kinds: Checkpoint) -> None:
    """Two networks whose latents are mirrored are one function."""
    network, mirrored = frozen(two_kinds, CPU), frozen(two_kinds, CPU)
    posterior, entry = layers_of(mirrored, "encoder")[-1], layers_of(mirrored, "decoder")[0]
    with torch.no_grad():
        parameter(posterior, "weight")[: mirrored.latent].mul_(-1)
        parameter(posterior, "bias")[: mirrored.latent].mul_(-1)
        parameter(entry, "weight").mul_(-1)
    images = [(stripes("rows").float() / 255, 0)]
    assert function_distance(network, mirrored, images) == pytest.approx(0, abs=1e-6)
    assert function_distance(network, frozen(zeroed(two_kinds), CPU), images) > 0.01


def zeroed(checkpoint: Checkpoint) -> Checkpoint:
    """The same spec with every weight zero."""
    weights = {name: torch.zeros_like(tensor) for name, tensor in checkpoint.weights.items()}
    weights["prior_scale"] = checkpoint.weights["prior_scale"]
    return Checkpoint(checkpoint.spec, weights, checkpoint.labels)
