"""Measure how fast and how exact the batched Fisher is, beside one backward pass for each example.

    python -m benchmarks.fisher --json -

The network is the paper's (784-512-256-8, ten labels), and the examples are its own draws. `seconds_10k` and
`seconds_50k` are measured, not extrapolated. The loops over single examples run over `--loop` of them. All
use one thread.

`speedup` is relative to the loop as Selective Amnesia publishes it: zero_grad, backward, a check for NaN, and
squared gradients that are divided and added for each parameter. `speedup_over_lean_loop` is relative to the
cheapest loop with one backward pass for each example, whose result is also the exact value that
`relative_error` compares with. `gflops` is the throughput of the batched computation, in 10^9 operations a
second.
"""

import time
from collections.abc import Callable

import torch

from benchmarks.output import make_parser, write_figures
from worker.learning.elbo import negative_elbo
from worker.learning.fisher import fisher_diagonal
from worker.learning.networks import blank, build
from worker.learning.networks.network import Network
from worker.learning.slots import with_slots
from worker.learning.sources import draw_batches, generative_replay
from worker.learning.strategy import Batch

CPU = torch.device("cpu")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--loop",
        type=int,
        default=500,
        help="number of examples of the loops over single examples; %(default)s",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    write_figures(measure(options.loop), options.json)


def measure(loop: int) -> dict[str, float | int]:
    labels = [str(digit) for digit in range(10)]
    network = build(with_slots(blank({}, seed=0), labels, "mnist", "permanent"), CPU)
    few = draw_examples(network, loop)
    fast, exact = batched_fisher(network, few), exact_fisher(network, few)
    error = max(
        ((fast[name] - exact[name]).norm() / exact[name].norm()).item()
        for name in exact
        if exact[name].norm() > 0
    )
    published = median_seconds(lambda: published_fisher(network, few)) / loop
    lean = median_seconds(lambda: exact_fisher(network, few)) / loop
    ten_thousand, fifty_thousand = draw_examples(network, 10_000), draw_examples(network, 50_000)
    seconds_10k = median_seconds(lambda: batched_fisher(network, ten_thousand))
    per_example = seconds_10k / 10_000
    return {
        "seconds_10k": round(seconds_10k, 3),
        "seconds_50k": round(median_seconds(lambda: batched_fisher(network, fifty_thousand)), 3),
        "speedup": round(published / per_example, 1),
        "speedup_over_lean_loop": round(lean / per_example, 1),
        "relative_error": error,
        "loop_examples": loop,
        "published_seconds_an_example": round(published, 6),
        "lean_seconds_an_example": round(lean, 6),
        "gflops": round(flops_per_example(network) / per_example / 1e9, 1),
        "threads": torch.get_num_threads(),
    }


def draw_examples(network: Network, count: int) -> list[Batch]:
    """Draw examples from the network itself."""
    return list(
        draw_batches(generative_replay(network, range(10), torch.Generator().manual_seed(1)), count, CPU)
    )


def batched_fisher(network: Network, batches: list[Batch]) -> dict[str, torch.Tensor]:
    return fisher_diagonal(network, batches, torch.Generator().manual_seed(2))


def published_fisher(network: Network, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """Compute the Fisher information with the loop of Heng & Soh 2023, on examples drawn beforehand."""
    generator = torch.Generator().manual_seed(2)
    count = sum(len(batch.slots) for batch in batches)
    totals = {name: torch.zeros_like(tensor) for name, tensor in network.named_parameters()}
    for batch in batches:
        noise = network.noise(batch.slots, generator)
        for index in range(len(batch.slots)):
            one = slice(index, index + 1)
            network.zero_grad()
            loss = negative_elbo(network, batch.images[one], batch.slots[one], noise[one]).sum()
            loss.backward()
            for name, tensor in network.named_parameters():
                gradient = tensor.grad
                if gradient is None or torch.isnan(gradient).any():
                    raise ArithmeticError(f"no usable gradient for {name}")
                totals[name] += gradient**2 / count
    return totals


def flops_per_example(network: Network) -> int:
    """Count the operations of the matrix products: forward, backward except to the images, and squares."""
    sizes = [tensor.numel() for name, tensor in network.named_parameters() if name.endswith(".weight")]
    return 2 * (3 * sum(sizes) - sizes[0])


def exact_fisher(network: Network, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """Compute the Fisher information with one forward and one backward pass for each example."""
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


def median_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Return the median of the seconds that the repetitions take."""
    taken: list[float] = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return sorted(taken)[repeats // 2]


if __name__ == "__main__":
    main()
