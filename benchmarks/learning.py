"""Measure how fast a forget and a training step are, and how fast they could be.

    python -m benchmarks.learning --json -
    python -m benchmarks.learning --json - --device cuda

A network of full size (784-512-256-8) learns 0-4 of MNIST in a few hundred steps. Then, with one thread:

`speedup`          one label is forgotten by the default strategy, from start to end, and by Selective Amnesia
                   at its published budget. The latter is extrapolated from measured parts: 50,000 backward
                   passes of one example each for the Fisher information, and 10,000 training steps.
`step_over_floor`  a step of `fit` on real images at the default batch size, divided by its floor: the time of
                   the matrix products of the same shapes alone, one forward and two backward for each layer,
                   without the gradient at the images.
`variants_step_ms` the median step in float32 and in bfloat16 as the worker uses it, and with torch.compile:
                   on a CPU with 1 and with 2 threads, on a GPU with and without CUDA graphs. The variants
                   take turns. `compile_seconds` is how long the first step took after each compilation.
`jobs`             the seconds of a whole learn of five labels and of a whole forget of one, with default
                   params, in both precisions, and how the judge scores the draws; on a GPU also those of the
                   CPU. `seconds_by_phase` divides them, and `floor_by_phase` is the time of the matrix
                   products alone that a phase which trains needs, in float32: those of the decoder and the
                   encoder for images that train both, those of the decoder for images that train it alone,
                   and those of the decoder, without the gradients of its weights, for images that columns
                   are fitted to. Drawing these images is not counted. With `--network conv` only
                   `variants_step_ms` and `jobs` are measured, without floors.
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
from experiments.scoring import Scorer
from experiments.training_setup import examples_of
from worker.learning import datasets
from worker.learning.adversary import NAIVE_BATCH, NAIVE_STEPS
from worker.learning.checkpoint import Checkpoint
from worker.learning.continual.replay_ewc import ReplayEwcParams
from worker.learning.elbo import negative_elbo
from worker.learning.networks import blank, build, frozen
from worker.learning.networks.network import Network
from worker.learning.sources import draw_batches, generative_replay, interleave, real_examples
from worker.learning.strategy import Examples, Progress, Strategy, TrainingContext, all_strategies, find
from worker.learning.training import Parts, Schedule, fit
from worker.learning.unlearning.selective_amnesia import SelectiveAmnesiaParams
from worker.learning.unlearning.surrogate import SurrogateParams
from worker.process.devices import choose_device, compute_reproducibly

CPU = torch.device("cpu")
LABELS, TO_FORGET = ("0", "1", "2", "3", "4"), ("3",)
PARTIAL_PARAMS: dict[str, Any] = {"schedule": {"steps": 60}, "fisher_examples": 256}
"""Params of the part of Selective Amnesia that is measured."""
ROUNDS, STEPS = 5, 20
"""Every variant has a turn of STEPS steps in each of the ROUNDS."""
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}

Objective = Callable[[Network, Tensor, Tensor, Tensor], Tensor]  # (network, images, slots, noise) -> [batch]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--loop", type=int, default=500, help="number of examples for the Fisher; %(default)s"
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU; %(default)s")
    parser.add_argument("--network", choices=("mlp", "conv"), default="mlp", help="%(default)s")
    add_data_option(parser)
    options = parser.parse_args()
    compute_reproducibly(threads=1)
    device = choose_device(options.device)
    mnist = datasets.load("mnist", data_folder(options))
    examples = examples_of(mnist, LABELS)
    empty = blank({"architecture": options.network}, seed=0)
    start = learn(empty, examples, device)
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "network": options.network,
    }
    if options.network == "mlp":  # the floor of a convolution is not a product of two matrices
        figures |= measure_forgetting(start, options.loop, device)
        figures |= measure_training_step(start, examples, device)
    figures |= measure_variants(start, examples, device)
    figures |= measure_jobs(empty, examples, Scorer.of(mnist), device)
    write_figures(figures, options.json)


def learn(empty: Checkpoint, examples: Examples, device: torch.device) -> Checkpoint:
    """Learn the labels with the default strategy, in few steps."""
    strategy = find("learn", "replay_ewc")
    params = strategy.Params.model_validate({"schedule": {"steps": 300}})
    return strategy.run(empty, examples, params, TrainingContext(device, 0))


def measure_forgetting(start: Checkpoint, loop: int, device: torch.device) -> dict[str, Any]:
    """Time one forget by the default strategy, and extrapolate the published method from a part of it."""
    defaults = {(one.operation, one.retention): one for one in all_strategies() if one.default}
    default = defaults["forget", "permanent"]
    began = time.perf_counter()
    steps = seconds_per_step(default, start, {}, device)
    seconds = time.perf_counter() - began
    published = SelectiveAmnesiaParams()
    per_example = seconds_per_example(start, loop, device)
    amnesia = find("forget", "selective_amnesia")
    per_step = statistics.median(seconds_per_step(amnesia, start, PARTIAL_PARAMS, device))
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


def seconds_per_step(
    strategy: Strategy, start: Checkpoint, params: dict[str, Any], device: torch.device
) -> list[float]:
    """Forget with the strategy; return the seconds from each training step to the next."""
    stamps: list[float] = []

    def stamp(progress: Progress) -> None:
        if progress.phase == "forgetting":
            stamps.append(time.perf_counter())

    context = TrainingContext(device, 0, on_progress=stamp)
    strategy.run(start, Examples(TO_FORGET, "mnist"), strategy.Params.model_validate(params), context)
    return [after - before for before, after in itertools.pairwise(stamps)]


def seconds_per_example(start: Checkpoint, loop: int, device: torch.device) -> float:
    """Time the Fisher with one backward pass for each example, on the network's own draws."""
    network = build(start, device)
    source = generative_replay(
        frozen(start, device), sorted(start.retained.values()), torch.Generator().manual_seed(1)
    )
    draws = list(draw_batches(source, loop, device))
    began = time.perf_counter()
    exact_fisher(network, draws)
    wait_for(device)
    return (time.perf_counter() - began) / loop


def measure_training_step(start: Checkpoint, examples: Examples, device: torch.device) -> dict[str, Any]:
    """Measure the parts of a training step, and the matrix products alone; they take turns.

    A GPU computes while the next kernels are sent to it. There the whole step is measured, and its parts
    are when they were sent.
    """
    network, batch_size = build(start, device), Schedule().batch_size
    parts: dict[str, list[float]] = {"data": [], "forward": [], "backward": [], "optimiser": []}
    floors: list[float] = []
    for _ in range(ROUNDS):
        for name, seconds in time_step_parts(network, start, examples, device).items():
            parts[name] += seconds[STEPS // 4 :]
        floors += [time_matrix_products(network, batch_size, device) for _ in range(STEPS)]
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
    device: torch.device,
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
    context = TrainingContext(device, 0, precision=precision, on_progress=lambda progress: lap("backward"))
    noise = context.generator("latent noise")
    source = real_examples(examples.images, start.retained, context.generator("examples"))
    batches = timed(interleave([(source, 1.0)], schedule.batch_size, device))
    fit(network, loss, batches, schedule, context, phase="timing", after_step=lambda: lap("optimiser"))
    return spent


def measure_variants(start: Checkpoint, examples: Examples, device: torch.device) -> dict[str, Any]:
    """Measure the median milliseconds of a step in every variant, and say why compiled ones are missing."""
    modes = {" compiled": "default"} | ({" CUDA graphs": "reduce-overhead"} if device.type == "cuda" else {})
    objectives: dict[str, Objective] = {"": negative_elbo}
    skipped: dict[str, str] = {}
    compile_seconds: dict[str, float] = {}
    for suffix, mode in modes.items():
        began = time.perf_counter()
        compiled, reason = compile_objective(start, examples, device, mode)
        compile_seconds[suffix.strip()] = round(time.perf_counter() - began, 1)
        if compiled is None:
            skipped[suffix.strip()] = reason
        else:
            objectives[suffix] = compiled
    network = build(start, device)
    spent: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for threads, (precision, dtype), (suffix, objective) in itertools.product(
            (1,) if device.type == "cuda" else (1, 2), PRECISIONS.items(), objectives.items()
        ):
            name = f"{threads} thread{'s' if threads > 1 else ''} {precision}{suffix}"
            torch.set_num_threads(threads)
            split = time_step_parts(network, start, examples, device, objective, dtype)
            steps = [sum(parts) for parts in zip(*split.values(), strict=True)]
            spent.setdefault(name, []).extend(steps[STEPS // 4 :])
    torch.set_num_threads(1)
    medians = {name: round(1000 * statistics.median(seconds), 2) for name, seconds in spent.items()}
    return {
        "variants_step_ms": medians,
        "compile_skipped": skipped,
        "compile_seconds": compile_seconds,
    }


def compile_objective(
    start: Checkpoint, examples: Examples, device: torch.device, mode: str
) -> tuple[Objective | None, str]:
    """Return the objective under torch.compile after one try, or the reason why it does not work."""
    try:
        compiled = torch.compile(negative_elbo, mode=mode)
        time_step_parts(build(start, device), start, examples, device, compiled)
    except Exception as error:  # a missing compiler or header can raise anything
        return None, f"torch.compile does not work here: {str(error).strip().splitlines()[0]}"
    return compiled, ""


def measure_jobs(
    empty: Checkpoint, examples: Examples, scorer: Scorer, device: torch.device
) -> dict[str, Any]:
    """Measure a learn and then a forget by default, in both precisions, and score what they draw."""
    runs = {f"{device.type} {name}": (device, dtype) for name, dtype in PRECISIONS.items()}
    if device.type != "cpu":
        runs["cpu float32"] = CPU, torch.float32
    learning, forgetting = find("learn", "replay_ewc"), find("forget", "surrogate")
    jobs: dict[str, Any] = {}
    for name, (place, dtype) in runs.items():
        of_learn, of_forget = PhaseClock(), PhaseClock()
        context = TrainingContext(place, 0, precision=dtype, on_progress=of_learn.lap)
        learned = learning.run(empty, examples, learning.Params(), context)
        of_learn.stop()
        context = TrainingContext(place, 1, precision=dtype, on_progress=of_forget.lap)
        forgot = forgetting.run(learned, Examples(TO_FORGET, "mnist"), forgetting.Params(), context)
        of_forget.stop()
        after = [scorer.scores(forgot, label, 0) for label in LABELS if label not in TO_FORGET]
        before = [scorer.scores(learned, label, 0) for label in LABELS]
        jobs[name] = {
            "learn_seconds": round(sum(of_learn.seconds.values()), 2),
            "forget_seconds": round(sum(of_forget.seconds.values()), 2),
            "seconds_by_phase": {"learn": of_learn.rounded(), "forget": of_forget.rounded()},
            "learned_open_accuracy": round(statistics.mean(one.open for one in before), 4),
            "retained_open_accuracy": round(statistics.mean(one.open for one in after), 4),
            "retained_coverage": round(statistics.mean(one.coverage for one in after), 4),
            "forgotten_open_accuracy": round(scorer.scores(forgot, TO_FORGET[0], 0).open, 4),
        }
    if empty.spec.architecture == "mlp":
        jobs["floor_by_phase"] = floor_by_phase(learned, device)
    return {"jobs": jobs}


class PhaseClock:
    """The seconds of each phase of a job. What comes before the first progress of a phase belongs to it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last, self._phase = time.perf_counter(), ""

    def lap(self, progress: Progress) -> None:
        """Add the time since the last progress to the phase of this one."""
        self._phase = progress.phase
        self._add()

    def stop(self) -> None:
        """Add the rest to the last phase."""
        self._add()

    def rounded(self) -> dict[str, float]:
        """Return the seconds of each phase, to hundredths."""
        return {phase: round(seconds, 2) for phase, seconds in self.seconds.items()}

    def _add(self) -> None:
        now = time.perf_counter()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._last
        self._last = now


def floor_by_phase(learned: Checkpoint, device: torch.device) -> dict[str, float]:
    """Return the seconds of the matrix products that the training phases of the default jobs need."""
    learn, forget = ReplayEwcParams(), SurrogateParams()
    network = build(learned, device)

    def seconds(side: str, examples: float, *, trains_weights: bool = True) -> float:
        count = max(1, round(examples))
        return statistics.median(
            time_matrix_products(network, count, device, side, trains_weights=trains_weights)
            for _ in range(STEPS)
        )

    batch, share = forget.schedule.batch_size, forget.surrogate_share
    step_of_forget = seconds("encoder", batch * (1 - share)) + seconds("decoder", batch)
    return {
        "learning": round(learn.schedule.steps * seconds("", learn.schedule.batch_size), 3),
        "training naive network": round(forget.naive_steps * seconds("decoder", batch), 3),
        "fitting columns of the naive network": round(
            NAIVE_STEPS * seconds("decoder", NAIVE_BATCH, trains_weights=False), 3
        ),
        "forgetting": round(forget.schedule.steps * step_of_forget, 3),
    }


def time_matrix_products(
    network: Network,
    batch_size: int,
    device: torch.device,
    side: str = "",
    *,
    trains_weights: bool = True,
) -> float:
    """Measure the matrix products alone: y = x W', dW = dy' x, dx = dy W, in every layer of the network.

    side: `encoder` or `decoder` for the layers of one of them. trains_weights: whether dW is needed.
    """
    weights = [
        tensor
        for name, tensor in network.state_dict().items()
        if name.startswith(side) and name.endswith(".weight")
    ]
    entering = [torch.rand(batch_size, weight.shape[1], device=device) for weight in weights]
    leaving = [torch.rand(batch_size, weight.shape[0], device=device) for weight in weights]
    wait_for(device)
    began = time.perf_counter()
    for index, (weight, x, dy) in enumerate(zip(weights, entering, leaving, strict=True)):
        x @ weight.T
        if trains_weights:
            dy.T @ x
        if index > 0:  # the gradient at the images is not needed
            dy @ weight
    wait_for(device)
    return time.perf_counter() - began


def wait_for(device: torch.device) -> None:
    """Wait until the device has computed what was sent to it; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
