"""What the experiments over random histories share: their options, and a function that runs the histories."""

import argparse
from collections.abc import Sequence

from experiments import running
from experiments.histories import Plan, Setting, make_trial
from experiments.running import Result


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every experiment that runs histories."""
    parser = running.make_parser(description)
    parser.add_argument("--passes", type=int, help="number of passes of a history")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process; %(default)s")
    return parser


def run_histories(plans: Sequence[Plan], options: argparse.Namespace) -> list[list[Result]]:
    """Run the histories of all plans and seeds in parallel; return one list, seed by seed, for each plan."""
    cache = running.cache_of(options)
    setting = Setting(
        running.data_folder(options),
        options.passes,
        getattr(options, "simple", "never"),
        network={"architecture": getattr(options, "architecture", "mlp")},
        threads=options.threads,
    )
    trials = [make_trial(plan, seed, setting, cache) for plan in plans for seed in range(options.seeds)]
    results = running.run_all(trials, options)
    return [results[index * options.seeds :][: options.seeds] for index in range(len(plans))]
