"""Coverage is the share of real images that a draw is near, and shows when draws collapse."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from worker.learning.judging.coverage import Neighbourhoods, RelativeCoverage, sample_images
from worker.learning.judging.quality_part import compare_coverage


def coverage_by_hand(real: Tensor, drawn: Tensor, k: int) -> float:
    """A real image is covered if a draw is no further away than its k-th nearest real neighbour."""
    covered = 0
    for i in range(len(real)):
        others = sorted((real[i] - real[j]).norm().item() for j in range(len(real)) if j != i)
        covered += any((real[i] - one).norm().item() <= others[k - 1] + 1e-6 for one in drawn)
    return covered / len(real)


def points(count: int, seed: int) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 5])
def test_coverage_is_the_share_of_real_images_a_draw_is_near(k: int) -> None:
    real, drawn = points(40, 0), points(15, 1)
    assert Neighbourhoods.of(real, k).coverage(drawn) == pytest.approx(coverage_by_hand(real, drawn, k))


def test_draws_as_varied_as_the_real_images_cover_them_and_a_collapsed_one_does_not() -> None:
    real = points(300, 0)
    around = Neighbourhoods.of(real)
    assert around.coverage(real) == 1
    assert around.coverage(points(300, 1)) > 0.9
    assert around.coverage(real.mean(dim=0).expand(300, 4)) < 0.2


def relative(real: int, others: int, drawn: Tensor) -> float:
    found = RelativeCoverage.of(Neighbourhoods.of(points(real, 0)), points(others, 1), len(drawn))
    assert found is not None
    return found.of_draws(drawn)


@pytest.mark.parametrize(
    ("real", "others", "draws"),
    [(1000, 1000, 1000), (200, 1000, 1000), (34, 139, 1000), (1000, 1000, 200), (500, 80, 1000)],
)
def test_a_perfect_model_has_a_relative_coverage_of_about_one_however_many_images_there_are(
    real: int, others: int, draws: int
) -> None:
    assert relative(real, others, points(draws, 2)) == pytest.approx(1, abs=0.06)


def test_many_draws_of_little_variety_cover_few_images_and_have_a_low_relative_coverage_all_the_same() -> (
    None
):
    narrow = 0.3 * points(1000, 2)
    assert Neighbourhoods.of(points(34, 0)).coverage(narrow) == 1
    assert relative(34, 139, narrow) < 0.9
    assert relative(1000, 1000, narrow) < 0.4


def test_sets_of_images_cover_what_each_of_them_covers_by_itself() -> None:
    around, images = Neighbourhoods.of(points(30, 0)), points(25, 1)
    first, second = (around.covered(some).float() for some in (images[:10], images[10:20]))
    assert torch.equal(around.covered_by_sets(images, 10), (first + second) / 2)


def test_beside_references_many_draws_of_little_variety_are_not_as_good_where_real_images_are_few() -> None:
    """All of them together cover the 34 images, and so do the references' draws: the ratio was 1."""
    around = Neighbourhoods.of(points(34, 0))
    candidate, *references = (0.3 * points(1000, 2), points(1000, 3), points(1000, 4))
    assert around.coverage(candidate) == 1
    narrow = compare_coverage(*compared(around, candidate, references))
    assert narrow.measured_value < 0.9
    assert narrow.verdict == "missed"
    perfect = compare_coverage(*compared(around, points(1000, 5), references))
    assert perfect.measured_value == pytest.approx(1, abs=0.05)
    assert perfect.verdict == "met"


def compared(
    around: Neighbourhoods, candidate: Tensor, references: Sequence[Tensor]
) -> tuple[float, list[float]]:
    return around.coverage_by_sets(candidate), [around.coverage_by_sets(one) for one in references]


def test_where_there_are_no_more_draws_than_real_images_the_sets_change_nothing() -> None:
    around, drawn = Neighbourhoods.of(points(100, 0)), points(100, 1)
    assert around.coverage_by_sets(drawn) == around.coverage(drawn)
    assert around.coverage_by_sets(drawn[:60]) == around.coverage(drawn[:60])


def test_images_that_cover_nothing_are_nothing_to_compare_with() -> None:
    assert RelativeCoverage.of(Neighbourhoods.of(points(30, 0)), points(30, 1) + 100, 30) is None


def test_the_same_images_are_chosen_every_time_and_from_everywhere() -> None:
    images = torch.arange(1000)
    chosen = sample_images(images, 100)
    assert torch.equal(chosen, sample_images(images, 100))
    assert len(set(chosen.tolist())) == 100
    assert chosen.max() > 900
    assert set(sample_images(images, 2000).tolist()) == set(range(1000))
