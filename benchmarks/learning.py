"""Measure how fast a forget and a training step are, and how fast they could be.

    python -m benchmarks.learning --json -

A network of full size (784-512-256-8) learns 0-4 of MNIST in a few hundred steps. Then, with one thread:

`speedup`          one label is forgotten by the default strategy, from start to end, and by Selective Amnesia
                   at its published budget. The latter is extrapolated from measured parts: 50,000 backward
                   passes of one example each for the Fisher information, and 10,000 training steps.
`step_over_floor`  a step of `fit` on real images at the default batch size, divided by its floor: the time of
                   the matrix products of the same shapes alone, one forward and two backward for each layer,
                   without the gradient at the images.
`variants_step_ms` the median step with 1 and with 2 threads, in float32 and in bfloat16 as the worker uses
                   it, and with torch.compile. The variants take turns.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.fisher import exact_fisher
from benchmarks.output import make_parser, write_figures
from experiments.running import add_data_option, data_folder
from worker.learning import datasets
from worker.learning.checkpoint import Checkpoint
from worker.learning.elbo import negative_elbo
from worker.learning.networks import blank, build, frozen
from worker.learning.networks.network import Network
from worker.learning.sources import draw_batches, generative_replay, interleave, real_examples
from worker.learning.strategy import Examples, Progress, Strategy, TrainingContext, all_strategies, find
from worker.learning.training import Parts, Schedule, fit
from worker.learning.unlearning.selective_amnesia import SelectiveAmnesiaParams
from worker.process.devices import compute_reproducibly

CPU = torch.device("cpu")
LABELS, TO_FORGET = ("0", "1", "2", "3", "4"), ("3",)
PARTIAL_PARAMS: dict[str, Any] = {"schedule": {"steps": 60}, "fisher_examples": 256}
"""Params of the part of Selective Amnesia that is measured."""
ROUNDS, STEPS = 5, 20
"""Every variant has a turn of STEPS steps in each of the ROUNDS."""

Objective = Callable[[Network, Tensor, Tensor, Tensor], Tensor]  # (network, images, slots, noise) -> [batch]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--loop", type=int, default=500, help="number of examples for the Fisher; %(default)s"
    )
    add_data_option(parser)
    options = parser.parse_args()
    compute_reproducibly(threads=1)
    images = datasets.load("mnist", data_folder(options)).train
    examples = Examples(LABELS, "mnist", {name: images[name] for name in LABELS})
    start = learn(examples)
    figures = {
        **measure_forgetting(start, options.loop),
        **measure_training_step(start, examples),
        **measure_variants(start, examples),
    }
    write_figures(figures, options.json)


def learn(examples: Examples) -> Checkpoint:
    """Learn the labels with the default strategy, in few steps."""
    strategy = find("learn", "replay_ewc")
    params = strategy.Params.model_validate({"schedule": {"steps": 300}})
    return strategy.run(blank({}, seed=0), examples, params, TrainingContext(CPU, 0))


def measure_forgetting(start: Checkpoint, loop: int) -> dict[str, Any]:
    """Time one forget by the default strategy, and extrapolate the published method from a part of it."""
    defaults = {(one.operation, one.retention): one for one in all_strategies() if one.default}
    default = defaults["forget", "permanent"]
    began = time.perf_counter()
    steps = seconds_per_step(default, start, {})
    seconds = time.perf_counter() - began
    published = SelectiveAmnesiaParams()
    per_example = seconds_per_example(start, loop)
    per_step = statistics.median(seconds_per_step(find("forget", "selective_amnesia"), start, PARTIAL_PARAMS))
    fisher, training = published.fisher_examples * per_example, published.schedule.steps * per_step
    measured = PARTIAL_PARAMS["schedule"]["steps"] - 1
    return {
        "speedup": round((fisher + training) / seconds, 1),
        "forget_strategy": default.name,
        "forget_seconds": round(seconds, 2),
        "forget_step_ms": round(1000 * statistics.median(steps), 2),
        "published": {
            "seconds": round(fisher + training, 1),
            "extrapolated": True,
            "fisher_seconds": round(fisher, 1),
            "fisher_from": f"{published.fisher_examples} one-example backward passes, at the mean of {loop}",
            "training_seconds": round(training, 1),
            "training_from": f"{published.schedule.steps} steps, at the median of {measured}",
        },
    }


def seconds_per_step(strategy: Strategy, start: Checkpoint, params: dict[str, Any]) -> list[float]:
    """Forget with the strategy; return the seconds from each training step to the next."""
    stamps: list[float] = []

    def stamp(progress: Progress) -> None:
        if progress.phase == "forgetting":
            stamps.append(time.perf_counter())

    context = TrainingContext(CPU, 0, on_progress=stamp)
    strategy.run(start, Examples(TO_FORGET, "mnist"), strategy.Params.model_validate(params), context)
    return [after - before for before, after in itertools.pairwise(stamps)]


def seconds_per_example(start: Checkpoint, loop: int) -> float:
    """Time the Fisher with one backward pass for each example, on the network's own draws."""
    network = build(start, CPU)
    source = generative_replay(
        frozen(start, CPU), sorted(start.retained.values()), torch.Generator().manual_seed(1)
    )
    draws = list(draw_batches(source, loop, CPU))
    began = time.perf_counter()
    exact_fisher(network, draws)
    return (time.perf_counter() - began) / loop


def measure_training_step(start: Checkpoint, examples: Examples) -> dict[str, Any]:
    """Measure the parts of a training step, and the matrix products alone; they take turns."""
    network, batch_size = build(start, CPU), Schedule().batch_size
    parts: dict[str, list[float]] = {"data": [], "forward": [], "backward": [], "optimiser": []}
    floors: list[float] = []
    for _ in range(ROUNDS):
        for name, seconds in time_step_parts(network, start, examples).items():
            parts[name] += seconds[STEPS // 4 :]
        floors += [time_matrix_products(network, batch_size) for _ in range(STEPS)]
    split = {name: 1000 * statistics.median(seconds) for name, seconds in parts.items()}
    bare = 1000 * statistics.median(floors)
    return {
        "step_over_floor": round(sum(split.values()) / bare, 2),
        "step_ms": round(sum(split.values()), 2),
        "step_split_ms": {name: round(value, 2) for name, value in split.items()},
        "floor_ms": round(bare, 2),
        "batch_size": batch_size,
    }


def time_step_parts(
    network: Network,
    start: Checkpoint,
    examples: Examples,
    objective: Objective = negative_elbo,
    precision: torch.dtype = torch.float32,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Run `fit` on real images; return the seconds of each part of each step."""
    spent: dict[str, list[float]] = {"data": [], "forward": [], "backward": [], "optimiser": []}
    last = [0.0]

    def lap(name: str) -> None:
        now = clock()
        spent[name].append(now - last[0])
        last[0] = now

    def timed(batches: Iterator[list[Any]]) -> Iterator[list[Any]]:
        last[0] = clock()
        for parts in batches:
            lap("data")
            yield parts

    def loss(parts: Parts, progress: float) -> Tensor:
        (new,) = parts
        value = objective(network, new.images, new.slots, network.noise(new.slots, noise)).mean()
        lap("forward")
        return value

    schedule = Schedule(steps=STEPS, learning_rate=1e-4)
    context = TrainingContext(CPU, 0, precision=precision, on_progress=lambda progress: lap("backward"))
    noise = context.generator("latent noise")
    source = real_examples(examples.images, start.retained, context.generator("examples"))
    batches = timed(interleave([(source, 1.0)], schedule.batch_size, CPU))
    fit(network, loss, batches, schedule, context, phase="timing", after_step=lambda: lap("optimiser"))
    return spent


def measure_variants(start: Checkpoint, examples: Examples) -> dict[str, Any]:
    """Measure the median milliseconds of a step in every variant, and say why compiled ones are missing."""
    compiled, reason = compile_objective(start, examples)
    objectives = {"": negative_elbo} if compiled is None else {"": negative_elbo, " compiled": compiled}
    network = build(start, CPU)
    spent: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for threads, bf16, (suffix, objective) in itertools.product(
            (1, 2), (False, True), objectives.items()
        ):
            name = f"{threads} thread{'s' if threads > 1 else ''}{' bf16' if bf16 else ''}{suffix}"
            torch.set_num_threads(threads)
            split = time_step_parts(
                network, start, examples, objective, torch.bfloat16 if bf16 else torch.float32
            )
            steps = [sum(parts) for parts in zip(*split.values(), strict=True)]
            spent.setdefault(name, []).extend(steps[STEPS // 4 :])
    torch.set_num_threads(1)
    medians = {name: round(1000 * statistics.median(seconds), 2) for name, seconds in spent.items()}
    return {"variants_step_ms": medians, "compile_skipped": reason}


def compile_objective(start: Checkpoint, examples: Examples) -> tuple[Objective | None, str | None]:
    """Return the objective under torch.compile after one try, or the reason why it does not work."""
    try:
        compiled = torch.compile(negative_elbo)
        time_step_parts(build(start, CPU), start, examples, compiled)
    except Exception as error:  # a missing compiler or header can raise anything
        return None, f"torch.compile does not work here: {str(error).strip().splitlines()[0]}"
    return compiled, None


def time_matrix_products(network: Network, batch_size: int) -> float:
    """Measure the matrix products alone: y = x W', dW = dy' x, dx = dy W, in every layer of the network."""
    weights = [tensor for name, tensor in network.state_dict().items() if name.endswith(".weight")]
    entering = [torch.rand(batch_size, weight.shape[1]) for weight in weights]
    leaving = [torch.rand(batch_size, weight.shape[0]) for weight in weights]
    began = time.perf_counter()
    for index, (weight, x, dy) in enumerate(zip(weights, entering, leaving, strict=True)):
        x @ weight.T
        dy.T @ x
        if index > 0:  # the gradient at the images is not needed
            dy @ weight
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
