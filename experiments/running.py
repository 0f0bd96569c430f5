"""Run an experiment: parse its options, run its trials in parallel, and keep the results of finished trials.

An experiment is a list of independent trials, most often one for each seed. The result of a finished trial is
stored in FILE.trials/CODE/, where CODE identifies the sources it was computed with. An experiment that was
interrupted therefore continues where it stopped, as long as the code is the same.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from service import durable
from worker.jobs.code_version import sources_sha256

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]
"""What a trial or an experiment measured, ready for JSON."""
OnStep = Callable[[str], None]
"""Called by a trial after each of its steps, with a description of the step."""
CODE = sha256((sources_sha256(ROOT / "worker") + sources_sha256(ROOT / "experiments")).encode()).hexdigest()
SECONDS = "took_seconds"
"""Key of the duration in a trial's result."""
OPTIONS_THAT_CHANGE_NO_FIGURE = ("json", "plots", "page", "data", "processes")


@dataclass(frozen=True)
class Cache:
    """A folder of finished results. The name of a result must identify everything the result depends on."""

    folder: Path

    def result(self, name: str, compute: Callable[[], Result]) -> Result:
        """Return the stored result of that name; compute and store it first if there is none."""
        file = self.file(f"{name}.json", lambda: json.dumps(compute()).encode())
        result: Result = json.loads(file.read_text())
        return result

    def file(self, name: str, make: Callable[[], bytes]) -> Path:
        """Return the path of the file of that name; make and write its bytes first if there is none."""
        file = self.folder / name
        if not file.is_file():
            durable.write(file, make())
        return file


@dataclass(frozen=True)
class Trial:
    """An independent part of an experiment, computed with one thread.

    run: can be pickled. It calls its argument, an OnStep, after each step and returns what it measured.
    """

    name: str
    steps: int
    run: Callable[[OnStep], Result]


def make_parser(
    description: str | None, *, seeds: bool = True, plots: bool = True
) -> argparse.ArgumentParser:
    """Return a parser with the options that every experiment has. `parse_options` parses with it.

    seeds: whether the experiment runs over several seeds and so has the option --seeds.
    plots: whether it draws plots and so has the option --plots.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    if seeds:
        parser.add_argument("--seeds", type=int, help="number of seeds")
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        help="number of processes, each with one thread; %(default)s",
    )
    name = Path(sys.argv[0]).stem
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("results") / f"{name}.json",
        help="file for the figures and the results of all trials; %(default)s",
    )
    if plots:
        parser.add_argument(
            "--plots", type=Path, default=Path("results/figures"), help="folder for the plots; %(default)s"
        )
    parser.add_argument(
        "--quick", action="store_true", help="run for a few minutes only: shorter trainings, fewer seeds"
    )
    add_data_option(parser)
    return parser


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --data, which `data_folder` reads."""
    parser.add_argument(
        "--data",
        default=os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets"),
        help="folder of the datasets; %(default)s",
    )


def parse_options(parser: argparse.ArgumentParser, full: Result, quick: Result) -> argparse.Namespace:
    """Parse the command line. An option left out has its value in `full`, or in `quick` with --quick."""
    options = parser.parse_args()
    for name, value in (full | (quick if options.quick else {})).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def cache_of(options: argparse.Namespace, code: str = CODE) -> Cache:
    """Return the experiment's cache: a folder beside its file, which only the same code reads and writes."""
    return Cache(options.json.with_suffix(options.json.suffix + ".trials") / code[:12])


def data_folder(options: argparse.Namespace) -> Path:
    return Path(options.data).expanduser()


def run_all(trials: Sequence[Trial], options: argparse.Namespace) -> list[Result]:
    """Run the trials that are not in the cache; return the results of all, in order, with their seconds.

    With --processes 1 the trials run in this process. Raises SystemExit with a message if a dataset is
    missing.
    """
    cache = cache_of(options)
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task("starting", total=sum(trial.steps for trial in trials))

        def show(step: str, steps: int = 1) -> None:
            bar.update(task, advance=steps, description=step)
            if not console.is_terminal:
                console.print(f"{bar.tasks[task].completed:.0f}/{bar.tasks[task].total:.0f} {step}")

        try:
            if options.processes == 1:
                return [_run(trial, cache, show) for trial in trials]
            return _run_in_parallel(trials, cache, options.processes, show)
        except Exception as error:
            # Imported here because it imports torch, which the processes of a pool are to start without.
            from worker.learning.datasets import DatasetUnavailable

            if isinstance(error, DatasetUnavailable):
                raise SystemExit(str(error)) from None
            raise


def write_results(
    name: str, figures: Result, details: Result, options: argparse.Namespace, *, trials: Sequence[Result]
) -> None:
    """Write the figures and their details to the file of --json, and print the figures without the details.

    Both also say how the figures were computed: command, code, and the minutes that all trials took, one
    after another. trials: the results of all trials, whether they were computed now or earlier.
    """
    provenance = {
        "experiment": name,
        "command": _command(name, options),
        "code": CODE,
        "quick": options.quick,
        "seeds": getattr(options, "seeds", 1),
        "minutes": round(sum(trial[SECONDS] for trial in trials) / 60, 1),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(provenance | figures | details, indent=2) + "\n")
    sys.stdout.write(json.dumps(provenance | figures, indent=2) + "\n")


def _command(name: str, options: argparse.Namespace) -> str:
    """The command line that computes the same figures, wherever it writes them."""
    given = {
        option: value
        for option, value in vars(options).items()
        if option not in OPTIONS_THAT_CHANGE_NO_FIGURE and value
    }
    words = [
        f"--{option.replace('_', '-')}" + ("" if value is True else f" {_quote(value)}")
        for option, value in given.items()
    ]
    return " ".join([f"python -m experiments.{name}", *words])


def _quote(value: Any) -> str:
    if isinstance(value, dict):
        return shlex.quote(json.dumps(value))
    return shlex.join(map(str, value)) if isinstance(value, list | tuple) else shlex.quote(str(value))


def _run(trial: Trial, cache: Cache, show: Callable[[str, int], None]) -> Result:
    """Return the trial's result, computed now or earlier; either way, show all its steps as done."""
    shown = 0

    def on_step(step: str) -> None:
        nonlocal shown
        shown += 1
        show(step, 1)

    def compute() -> Result:
        began = time.monotonic()
        return {**trial.run(on_step), SECONDS: time.monotonic() - began}

    result = cache.result(trial.name, compute)
    show(f"{trial.name} done", trial.steps - shown)
    return result


def _do_nothing() -> None:
    """Prepare nothing: the default of `make_pool`."""


def make_pool(
    processes: int, prepare: Callable[..., object] = _do_nothing, *arguments: object
) -> ProcessPoolExecutor:
    """Return a pool whose processes call `prepare(*arguments)` first and end when this process ends.

    They end even if this process is killed.
    """
    context = get_context("spawn")
    return ProcessPoolExecutor(processes, context, initializer=partial(_start, prepare, *arguments))


def _start(prepare: Callable[..., object], *arguments: object) -> None:
    Thread(target=_exit_with_parent, daemon=True).start()
    prepare(*arguments)


def _exit_with_parent() -> None:
    """Exit when the parent has exited.

    A process of a pool waits for work on a pipe of which it holds both ends, so it would outlive a killed
    parent.
    """
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_parallel(
    trials: Sequence[Trial], cache: Cache, processes: int, show: Callable[[str, int], None]
) -> list[Result]:
    # A SimpleQueue holds a step as soon as `put` returns; the thread of a Queue may write it after the trial
    # ended.
    steps = get_context("spawn").SimpleQueue()
    pool = make_pool(processes, _connect, steps)
    try:
        futures = [pool.submit(_run_and_send_steps, trial, cache) for trial in trials]
        running: set[Future[Result]] = set(futures)
        while running:
            done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            _show_received(steps, show)
            for future in done:
                future.result()  # raises what the trial raised, and so ends the experiment
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)


def _show_received(steps: Any, show: Callable[[str, int], None]) -> None:
    while not steps.empty():
        show(*steps.get())


_steps: Any = None
"""In a process of the pool: the queue to the process that shows the progress."""


def _connect(steps: Any) -> None:
    global _steps
    _steps = steps


def _run_and_send_steps(trial: Trial, cache: Cache) -> Result:
    return _run(trial, cache, lambda step, steps: _steps.put((step, steps)))
