"""Coverage is the share of real images that a draw is near, and shows when draws collapse."""

import pytest
import torch
from torch import Tensor

from worker.learning.judging.coverage import Neighbourhoods


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
