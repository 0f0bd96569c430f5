"""How fast and how exact the batched Fisher is, beside one backward an example in the same run.

    python -m benchmarks.fisher --json -

The network is the paper's (784-512-256-8, ten labels) on its own draws. `seconds_10k` and `seconds_50k` are
measured, not extrapolated; the one-example loops are measured over `--loop` examples. One thread.

`speedup` is over the loop as Selective Amnesia publishes it: zero_grad, backward, a check for NaN, squared
gradients divided and added, parameter by parameter. `speedup_over_lean_loop` is over the least that one
backward an example can do, which is also the oracle. `gflops` is what the batched one computes a second.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from worker.learning.elbo import negative_elbo
from worker.learning.fisher import fisher_diagonal
from worker.learning.networks import blank, build
from worker.learning.networks.mlp import Mlp
from worker.learning.slots import with_slots
from worker.learning.sources import draw_batches, generative_replay
from worker.learning.strategy import Batch

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", default="-", help="file for the figures, - for the terminal")
    parser.add_argument("--loop", type=int, default=500, help="examples of the one-example loop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    text = json.dumps(measure(options.loop), indent=2)
    if options.json == "-":
        sys.stdout.write(text + "\n")
    else:
        Path(options.json).write_text(text + "\n")


def measure(loop: int) -> dict[str, float | int]:
    labels = [str(digit) for digit in range(10)]
    network = build(with_slots(blank({}, seed=0), labels, "mnist", "permanent"), CPU)
    few = examples(network, loop)
    fast, exact = batched(network, few), one_at_a_time(network, few)
    error = max(
        ((fast[name] - exact[name]).norm() / exact[name].norm()).item()
        for name in exact
        if exact[name].norm() > 0
    )
    published = seconds(lambda: as_published(network, few)) / loop
    lean = seconds(lambda: one_at_a_time(network, few)) / loop
    ten, fifty = examples(network, 10_000), examples(network, 50_000)
    seconds_10k = seconds(lambda: batched(network, ten))
    an_example = seconds_10k / 10_000
    return {
        "seconds_10k": round(seconds_10k, 3),
        "seconds_50k": round(seconds(lambda: batched(network, fifty)), 3),
        "speedup": round(published / an_example, 1),
        "speedup_over_lean_loop": round(lean / an_example, 1),
        "relative_error": error,
        "loop_examples": loop,
        "published_seconds_an_example": round(published, 6),
        "lean_seconds_an_example": round(lean, 6),
        "gflops": round(flops_an_example(network) / an_example / 1e9, 1),
        "threads": torch.get_num_threads(),
    }


def examples(network: Mlp, count: int) -> list[Batch]:
    return list(
        draw_batches(generative_replay(network, range(10), torch.Generator().manual_seed(1)), count, CPU)
    )


def batched(network: Mlp, batches: list[Batch]) -> dict[str, torch.Tensor]:
    return fisher_diagonal(network, batches, torch.Generator().manual_seed(2))


def as_published(network: Mlp, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """The loop of Heng & Soh 2023, on examples drawn beforehand."""
    generator = torch.Generator().manual_seed(2)
    count = sum(len(batch.slots) for batch in batches)
    totals = {name: torch.zeros_like(tensor) for name, tensor in network.named_parameters()}
    for batch in batches:
        noise = network.noise(batch.slots, generator)
        for index in range(len(batch.slots)):
            one = slice(index, index + 1)
            network.zero_grad()
            negative_elbo(network, batch.images[one], batch.slots[one], noise[one]).sum().backward()
            for name, tensor in network.named_parameters():
                gradient = tensor.grad
                if gradient is None or torch.isnan(gradient).any():
                    raise ArithmeticError(f"no usable gradient for {name}")
                totals[name] += gradient**2 / count
    return totals


def flops_an_example(network: Mlp) -> int:
    """Of the matmuls alone: forward, backward to all but the images, and the squares, in every layer."""
    sizes = [tensor.numel() for name, tensor in network.named_parameters() if name.endswith(".weight")]
    return 2 * (3 * sum(sizes) - sizes[0])


def one_at_a_time(network: Mlp, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """The reference loop: one forward and one backward an example."""
    generator = torch.Generator().manual_seed(2)
    parameters = dict(network.named_parameters())
    totals = {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
    for batch in batches:
        noise = network.noise(batch.slots, generator)
        for index in range(len(batch.slots)):
            one = slice(index, index + 1)
            loss = negative_elbo(network, batch.images[one], batch.slots[one], noise[one]).sum()
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            for name, gradient in zip(parameters, gradients, strict=True):
                totals[name] += gradient.square()
    count = sum(len(batch.slots) for batch in batches)
    return {name: total / count for name, total in totals.items()}


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """The median of a few runs."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[repeats // 2]


if __name__ == "__main__":
    main()
