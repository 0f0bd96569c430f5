"""The Adam of this project against torch's."""

import subprocess
import sys

import pytest
import torch

from worker.learning.adam import Adam

RATES = [(1e-2, 0.1), (3e-3, 0.03), (0.0, 1e-3)]


def tensors() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 4), (4,), (3, 2, 3, 3)]
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


@pytest.mark.parametrize("without", [None, 0, 2], ids=["all", "without_the_first", "without_the_last"])
def test_every_step_is_that_of_torch_to_the_bit(without: int | None) -> None:
    """A tensor without a gradient stays as it is, and its moments begin with its first gradient."""
    ours, theirs = tensors(), tensors()
    optimiser = Adam([ours[:2], ours[2:]])
    reference = torch.optim.Adam([{"params": theirs[:2]}, {"params": theirs[2:]}], fused=True)
    generator = torch.Generator().manual_seed(1)
    for number in range(12):
        rates = RATES[number % len(RATES)]
        optimiser.zero_grad()
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(one.shape, generator=generator)
            has_one = index != without or number >= 4
            one.grad, other.grad = (gradient.clone(), gradient) if has_one else (None, None)
        optimiser.step(rates)
        for group, rate in zip(reference.param_groups, rates, strict=True):
            group["lr"] = rate
        reference.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True)), number


TRAINED = """
import sys
from tests.learning.tiny import TINY, examples, labels, run
from worker.process.devices import compute_reproducibly
from worker.learning.networks import blank

compute_reproducibly(0)
learnt = run("learn", "replay_ewc", blank(TINY, seed=0, pixels=64), examples("rows", "columns"))
run("resize", "targeted_dropout_prune", run("forget", "surrogate", learnt, labels("rows")), labels())
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


def test_training_imports_no_compiler() -> None:
    trained = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, check=True)
    assert trained.stdout.strip() == "[]"
