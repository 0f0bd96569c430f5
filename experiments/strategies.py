"""Run every strategy and its controls from the same networks, and write docs/strategies.md.

    python -m experiments.strategies --seeds 3 --json docs/results/strategies.json --page docs/strategies.md
    python -m experiments.strategies --page docs/strategies.md --text-only

A control is the same strategy with its idea switched off (experiments/controls.py). A strategy that works on
some architectures only starts from a network of the first of them. The second form runs nothing: it writes
the page from the figures in docs/results, with the strategies' docstrings as they are now.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from experiments import running
from experiments.controls import SLOW, VARIANTS, Control, Given, Key, Params, controls_of
from experiments.running import Cache, OnStep, Result, Trial
from experiments.scoring import Scorer
from experiments.strategies_page import page
from experiments.training_setup import (
    CPU,
    LEARN_STRATEGIES,
    QUICK_DIVISOR,
    DatasetArchive,
    examples_of,
    params_of,
)
from worker.learning import datasets, strategy
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.strategy import Examples, Strategy, TrainingContext
from worker.process.devices import compute_reproducibly

HELD, NEW, TO_FORGET = ("0", "1", "2", "3", "4"), ("5", "6", "7"), ("3",)
FOR_TEMPORARY_LABELS = ("merge", "drop")
"""Strategies that need isolated networks, here those of the labels NEW."""
RESULTS = Path("docs/results/strategies.json")


def main() -> None:
    parser = running.make_parser(__doc__)
    parser.add_argument("--page", type=Path, help="file for the page of strategies")
    parser.add_argument(
        "--text-only", action="store_true", help=f"run nothing: write the page from the figures in {RESULTS}"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="STRATEGY",
        help="run only the strategies of these names; FILE keeps the rows that it has of others",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="leave out the default params of selective_amnesia, which take 6 minutes for the first seed",
    )
    options = running.parse_options(parser, {"seeds": 3}, {"seeds": 1})
    if options.text_only:
        if options.page is None:
            parser.error("--text-only needs --page")
        options.page.write_text(page(json.loads(RESULTS.read_text())))
        return
    cache, data = running.cache_of(options), running.data_folder(options)
    divisor = QUICK_DIVISOR if options.quick else 1
    trials = [
        Trial(
            f"{divisor}-{operation}-{name}-{seed}-{len(variants)}",
            sum(len(controls_of((operation, name), variant)) + 1 for variant in variants),
            partial(run, (operation, name), variants, seed, divisor, data, cache),
        )
        for seed in range(options.seeds)
        for operation, name in [(one.operation, one.name) for one in strategy.all_strategies()]
        if not options.only or name in options.only
        for variants in [variants_of((operation, name), slow=seed == 0 and not options.short)]
    ]
    results = running.run_all(trials, options)
    found = {"dataset": "mnist", "rows": [row for one in results for row in one["rows"]]}
    if options.only and options.json.is_file():
        found |= kept_of(json.loads(options.json.read_text()), found["rows"])
    running.write_results("strategies", {}, found, options, trials=results)
    if options.page:
        options.page.write_text(page(json.loads(options.json.read_text())))


def kept_of(before: Result, rows: Sequence[Result]) -> Result:
    """Return the rows with those of other strategies from before, and how these were measured."""
    measured = {(row["operation"], row["strategy"]) for row in rows}
    kept = [row for row in before["rows"] if (row["operation"], row["strategy"]) not in measured]
    provenance = {name: before[name] for name in ("command", "code", "seeds", "minutes")}
    return {"rows": [*kept, *rows], "earlier": [*before.get("earlier", ()), provenance]}


def variants_of(key: Key, *, slow: bool) -> dict[str, Params]:
    """Return the params of the runs of a strategy by their name, which is empty for its default params.

    slow: whether default params that take minutes are among them.
    """
    defaults: dict[str, Params] = {} if key in SLOW and not slow else {"": {}}
    return defaults | dict(VARIANTS.get(key, {}))


def run(
    key: Key,
    variants: Mapping[str, Params],
    seed: int,
    divisor: int,
    data: Path,
    cache: Cache,
    on_step: OnStep,
) -> Result:
    """Run and measure a strategy, its variants and its controls; return a row for each."""
    compute_reproducibly(threads=1)
    mnist = datasets.load("mnist", data)
    one, scorer = strategy.find(*key), Scorer.of(mnist)
    archive = archive_of(mnist, architecture_of(one), seed)
    base = base_network(mnist, archive, seed, divisor, cache)
    given = Given(
        start=base if one.name in FOR_TEMPORARY_LABELS else replace(base, isolated=()),
        request=request_of(one, mnist),
        dataset=mnist,
        context=TrainingContext(CPU, seed, archive),
        result=base,
        step_divisor=divisor,
    )
    rows: list[Result] = []

    def measure(variant: str, control: str, make: Callable[[Given], Checkpoint]) -> Checkpoint:
        fresh, began = replace(given, context=TrainingContext(CPU, seed, archive)), time.process_time()
        after = make(fresh)
        seconds = round(time.process_time() - began, 1)
        row = {"operation": key[0], "strategy": key[1], "variant": variant, "control": control, "seed": seed}
        figures = figures_of(after, one, scorer, seed)
        rows.append({**row, **figures, "seconds": seconds, "findings": dict(fresh.context.findings)})
        on_step(f"seed {seed}: {' '.join(filter(None, (*key, variant, control)))}")
        return after

    for variant, chosen in variants.items():
        result = measure(variant, "", partial(run_control, key, Control("", chosen)))
        given = replace(given, result=result)
        for control in controls_of(key, variant):
            measure(variant, control.off, partial(run_control, key, control))
    return {"rows": rows}


def run_control(key: Key, control: Control, given: Given) -> Checkpoint:
    return control.run(given) if control.run else given.run(*key, **(control.params or {}))


def architecture_of(one: Strategy) -> str:
    """Return the architecture of the network that a strategy starts from."""
    return one.architectures[0] if one.architectures else "mlp"


def archive_of(dataset: datasets.Dataset, architecture: str, seed: int) -> DatasetArchive:
    return DatasetArchive(dataset, blank({"architecture": architecture}, seed=seed))


def base_network(
    dataset: datasets.Dataset, archive: DatasetArchive, seed: int, divisor: int, cache: Cache
) -> Checkpoint:
    """Return the network that all strategies of a seed start from, with isolated networks of NEW.

    It has the architecture of the archive's blank model.
    """
    architecture = archive.blank_model.spec.architecture

    def make() -> Checkpoint:
        context = TrainingContext(CPU, seed, archive)
        names = LEARN_STRATEGIES[architecture], "isolated"
        learn, isolated = (strategy.find("learn", name) for name in names)
        params = [params_of(one, {}, step_divisor=divisor) for one in (learn, isolated)]
        start = learn.run(archive.blank_model, examples_of(dataset, HELD), params[0], context)
        return isolated.run(start, examples_of(dataset, NEW), params[1], context)

    made: list[Checkpoint] = []

    def part(index: int) -> bytes:
        if not made:
            made.append(make())
        return (made[0], *made[0].isolated)[index].to_bytes()

    files = [
        cache.file(f"base-{architecture}-{divisor}-{seed}-{index}.safetensors", partial(part, index))
        for index in range(1 + len(NEW))
    ]
    main, *others = (Checkpoint.from_bytes(file.read_bytes()) for file in files)
    return replace(main, isolated=tuple(others))


def request_of(one: Strategy, dataset: datasets.Dataset) -> Examples:
    """Return what the strategy is asked for: to learn NEW, to forget TO_FORGET, or to resize."""
    if one.name in FOR_TEMPORARY_LABELS:
        return Examples(NEW, dataset.name)
    if one.operation == "learn":
        return examples_of(dataset, NEW)
    return Examples(TO_FORGET if one.operation == "forget" else (), dataset.name)


def figures_of(after: Checkpoint, one: Strategy, scorer: Scorer, seed: int) -> Result:
    """Score the draws of the result: means over the retained, the new and the forgotten labels."""
    new = NEW if one.operation == "learn" else ()
    forgotten = () if one.operation != "forget" else NEW if one.name in FOR_TEMPORARY_LABELS else TO_FORGET
    scores = {
        name: scorer.scores(after, name, seed)
        for name in (*HELD, *new, *forgotten)
        if name in {*after.retained, *after.forgotten, *after.temporary}  # a dropped label cannot be drawn
    }

    def mean(figure: str, labels: Sequence[str]) -> float | None:
        values = [getattr(scores[name], figure) for name in labels if name in scores]
        return statistics.mean(values) if values else None

    retained = [name for name in HELD if name not in forgotten]
    return {
        "retained": mean("open", retained),
        "coverage": mean("coverage", retained),
        "new": mean("open", new),
        "forgotten": mean("open", forgotten),
        "parameters": sum(network.parameters for network in (after, *after.isolated)),
    }


if __name__ == "__main__":
    main()
