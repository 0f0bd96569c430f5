"""How fast forgetting and training are, beside the published way to forget and the bare matmuls of a step.

    python -m benchmarks.learning --json -

A full-size network (784-512-256-8) learns 0-4 of MNIST in a few hundred steps. Then, in one thread:

`speedup`: one label forgotten by the default strategy, whole, against Selective Amnesia at its published
budget: 50,000 one-example backwards for the Fisher and 10,000 steps, each extrapolated from a measured slice.
`step_over_floor`: a step of `fit` on real images at the default batch size over the floor, the matmuls of the
same shapes alone: one forward and two backward a layer, without the gradient at the images.
`variants`: median step with 1 and 2 threads, bf16 as the worker has it, and torch.compile, measured in turns.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fisher import one_at_a_time
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
LABELS, GONE = ("0", "1", "2", "3", "4"), ("3",)
SLICE: dict[str, Any] = {"schedule": {"steps": 60}, "fisher_examples": 256}  # of Selective Amnesia
ROUNDS, STEPS = 5, 20  # of every variant, in turns

Objective = Callable[[Network, Tensor, Tensor, Tensor], Tensor]  # (network, images, slots, noise) -> [batch]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", default="-", help="file for the figures, - for the terminal")
    parser.add_argument("--loop", type=int, default=500, help="examples of the one-example Fisher")
    parser.add_argument("--data", default=os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets"))
    options = parser.parse_args()
    compute_reproducibly(threads=1)
    images = datasets.load("mnist", Path(options.data).expanduser()).train
    given = Examples(LABELS, "mnist", {name: images[name] for name in LABELS})
    start = learnt(given)
    figures = {**forgetting(start, options.loop), **training_step(start, given), **variants(start, given)}
    text = json.dumps(figures, indent=2)
    if options.json == "-":
        sys.stdout.write(text + "\n")
    else:
        Path(options.json).write_text(text + "\n")


def learnt(given: Examples) -> Checkpoint:
    learn = find("learn", "replay_ewc")
    params = learn.Params.model_validate({"schedule": {"steps": 300}})
    return learn.run(blank({}, seed=0), given, params, TrainingContext(CPU, 0))


def forgetting(start: Checkpoint, loop: int) -> dict[str, Any]:
    """Seconds of one forget by the default strategy, and of the published one from slices of it."""
    kinds = {(one.operation, one.retention): one for one in all_strategies() if one.default}
    default = kinds["forget", "permanent"]
    began = time.perf_counter()
    steps = steps_of(default, start, {})
    seconds = time.perf_counter() - began
    published = SelectiveAmnesiaParams()
    an_example = seconds_of_one_example(start, loop)
    a_step = statistics.median(steps_of(find("forget", "selective_amnesia"), start, SLICE))
    fisher, training = published.fisher_examples * an_example, published.schedule.steps * a_step
    measured = SLICE["schedule"]["steps"] - 1
    return {
        "speedup": round((fisher + training) / seconds, 1),
        "forget_strategy": default.name,
        "forget_seconds": round(seconds, 2),
        "forget_step_ms": round(1000 * statistics.median(steps), 2),
        "published": {
            "seconds": round(fisher + training, 1),
            "extrapolated": True,
            "fisher_seconds": round(fisher, 1),
            "fisher_from": f"{published.fisher_examples} one-example backwards at the mean of {loop}",
            "training_seconds": round(training, 1),
            "training_from": f"{published.schedule.steps} steps at the median of {measured}",
        },
    }


def steps_of(one: Strategy, start: Checkpoint, params: dict[str, Any]) -> list[float]:
    """Seconds from step to step of one forget."""
    stamps: list[float] = []

    def stamp(progress: Progress) -> None:
        if progress.phase == "forgetting":
            stamps.append(time.perf_counter())

    context = TrainingContext(CPU, 0, on_progress=stamp)
    one.run(start, Examples(GONE, "mnist"), one.Params.model_validate(params), context)
    return [after - before for before, after in itertools.pairwise(stamps)]


def seconds_of_one_example(start: Checkpoint, loop: int) -> float:
    """Seconds an example of the published Fisher, one backward each, on the network's own draws."""
    network = build(start, CPU)
    source = generative_replay(
        frozen(start, CPU), sorted(start.retained.values()), torch.Generator().manual_seed(1)
    )
    draws = list(draw_batches(source, loop, CPU))
    began = time.perf_counter()
    one_at_a_time(network, draws)
    return (time.perf_counter() - began) / loop


def training_step(start: Checkpoint, given: Examples) -> dict[str, Any]:
    """Where a step's time goes, and the floor, measured in turns."""
    network, batch_size = build(start, CPU), Schedule().batch_size
    parts: dict[str, list[float]] = {"data": [], "forward": [], "backward": [], "optimiser": []}
    floors: list[float] = []
    for _ in range(ROUNDS):
        for name, seconds in split_steps(network, start, given).items():
            parts[name] += seconds[STEPS // 4 :]
        floors += [floor(network, batch_size) for _ in range(STEPS)]
    split = {name: 1000 * statistics.median(seconds) for name, seconds in parts.items()}
    bare = 1000 * statistics.median(floors)
    return {
        "step_over_floor": round(sum(split.values()) / bare, 2),
        "step_ms": round(sum(split.values()), 2),
        "step_split_ms": {name: round(value, 2) for name, value in split.items()},
        "floor_ms": round(bare, 2),
        "batch_size": batch_size,
    }


def split_steps(
    network: Network,
    start: Checkpoint,
    given: Examples,
    objective: Objective = negative_elbo,
    precision: torch.dtype = torch.float32,
) -> dict[str, list[float]]:
    """Seconds of data, forward, backward and optimiser of every step of a `fit` on real images."""
    spent: dict[str, list[float]] = {"data": [], "forward": [], "backward": [], "optimiser": []}
    last = [0.0]

    def lap(name: str) -> None:
        now = time.perf_counter()
        spent[name].append(now - last[0])
        last[0] = now

    def timed(batches: Iterator[list[Any]]) -> Iterator[list[Any]]:
        last[0] = time.perf_counter()
        for parts in batches:
            lap("data")
            yield parts

    def loss(parts: Parts, done: float) -> Tensor:
        (new,) = parts
        value = objective(network, new.images, new.slots, network.noise(new.slots, noise)).mean()
        lap("forward")
        return value

    schedule = Schedule(steps=STEPS, learning_rate=1e-4)
    context = TrainingContext(CPU, 0, precision=precision, on_progress=lambda progress: lap("backward"))
    noise = context.generator("latent noise")
    source = real_examples(given.images, start.retained, context.generator("examples"))
    batches = timed(interleave([(source, 1.0)], schedule.batch_size, CPU))
    fit(network, loss, batches, schedule, context, phase="timing", after_step=lambda: lap("optimiser"))
    return spent


def variants(start: Checkpoint, given: Examples) -> dict[str, Any]:
    """Median milliseconds of a step with each of the switches, and why those that are missing are."""
    compiled, reason = compiled_objective(start, given)
    objectives = {"": negative_elbo} if compiled is None else {"": negative_elbo, " compiled": compiled}
    network = build(start, CPU)
    spent: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for threads, bf16, (suffix, objective) in itertools.product(
            (1, 2), (False, True), objectives.items()
        ):
            name = f"{threads} thread{'s' if threads > 1 else ''}{' bf16' if bf16 else ''}{suffix}"
            torch.set_num_threads(threads)
            split = split_steps(network, start, given, objective, torch.bfloat16 if bf16 else torch.float32)
            steps = [sum(parts) for parts in zip(*split.values(), strict=True)]
            spent.setdefault(name, []).extend(steps[STEPS // 4 :])
    torch.set_num_threads(1)
    medians = {name: round(1000 * statistics.median(seconds), 2) for name, seconds in spent.items()}
    return {"variants_step_ms": medians, "compile_skipped": reason}


def compiled_objective(start: Checkpoint, given: Examples) -> tuple[Objective | None, str | None]:
    """The objective under torch.compile, tried once, or the reason why it cannot be had."""
    try:
        compiled = torch.compile(negative_elbo)
        split_steps(build(start, CPU), start, given, compiled)
    except Exception as error:  # whatever a missing compiler or header turns into
        return None, f"torch.compile does not work here: {str(error).strip().splitlines()[0]}"
    return compiled, None


def floor(network: Network, batch_size: int) -> float:
    """Seconds of the matmuls alone: y = x W', dW = dy' x, dx = dy W, in every layer of the network."""
    weights = [tensor for name, tensor in network.state_dict().items() if name.endswith(".weight")]
    entering = [torch.rand(batch_size, weight.shape[1]) for weight in weights]
    leaving = [torch.rand(batch_size, weight.shape[0]) for weight in weights]
    began = time.perf_counter()
    for index, (weight, x, dy) in enumerate(zip(weights, entering, leaving, strict=True)):
        x @ weight.T
        dy.T @ x
        if index > 0:  # nobody asks for the gradient at the images
            dy @ weight
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
