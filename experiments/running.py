"""How an experiment runs: its options, its pieces of work side by side, and what is finished kept.

An experiment is a list of pieces of work that know nothing of each other, most often one a seed. What a piece
finds is kept in FILE.seeds/ and not computed again: an experiment that was stopped goes on where it was, as
long as the code is the same.
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
Found = dict[str, Any]  # JSON-ready
Tell = Callable[[str], None]  # says that one more step is done, and which
CODE = sha256((sources_sha256(ROOT / "worker") + sources_sha256(ROOT / "experiments")).encode()).hexdigest()
TOOK = "took_seconds"
WHERE = ("json", "plots", "data", "processes")  # options that change no figure


@dataclass(frozen=True)
class Kept:
    """A folder of what was found, by name. A name says all that what it stands for depends on."""

    folder: Path

    def once(self, name: str, find: Callable[[], Found]) -> Found:
        """What is kept under the name, or what `find` finds, kept from now on."""
        file = self.folder / f"{name}.json"
        if not file.is_file():
            durable.write(file, json.dumps(find()).encode())
        found: Found = json.loads(file.read_text())
        return found


@dataclass(frozen=True)
class Work:
    """A piece of an experiment, of one thread. `run` can be pickled, and tells of each of its steps."""

    name: str
    steps: int
    run: Callable[[Tell], Found]


def options_of(description: str | None, *, seeds: bool = True) -> argparse.ArgumentParser:
    """The options that every experiment has, `--seeds` if it is over several; `asked` reads them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    if seeds:
        parser.add_argument("--seeds", type=int)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of one thread each")
    name = Path(sys.argv[0]).stem
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("results") / f"{name}.json",
        help="file for the figures and all they come from; %(default)s",
    )
    parser.add_argument(
        "--plots", type=Path, default=Path("results/figures"), help="folder for the pictures; %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="a few minutes: short trainings, few seeds")
    parser.add_argument("--data", default=os.environ.get("PALIMPSEST_DATA", "~/.palimpsest/datasets"))
    return parser


def asked(parser: argparse.ArgumentParser, full: Found, quick: Found) -> argparse.Namespace:
    """The options as given; what is not given is as in a full run, or in a quick one."""
    options = parser.parse_args()
    for name, value in (full | (quick if options.quick else {})).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def kept_by(options: argparse.Namespace) -> Kept:
    """Beside the file, in a folder of this code's own: what other code found is not mixed with it."""
    return Kept(options.json.with_suffix(options.json.suffix + ".seeds") / CODE[:12])


def data_of(options: argparse.Namespace) -> Path:
    return Path(options.data).expanduser()


def all_of(works: Sequence[Work], options: argparse.Namespace) -> list[Found]:
    """What every piece of work found, in order, and the seconds it took; with one process, in this one.

    Ends the experiment with a line, and without a traceback, where a dataset is not at hand.
    """
    kept = kept_by(options)
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task("starting", total=sum(work.steps for work in works))

        def show(what: str, steps: int = 1) -> None:
            bar.update(task, advance=steps, description=what)
            if not console.is_terminal:
                console.print(f"{bar.tasks[task].completed:.0f}/{bar.tasks[task].total:.0f} {what}")

        try:
            if options.processes == 1:
                return [_found(work, kept, show) for work in works]
            return _side_by_side(works, kept, options.processes, show)
        except Exception as error:
            from worker.learning.datasets import DatasetUnavailable  # and torch: a pool begins without it

            if isinstance(error, DatasetUnavailable):
                raise SystemExit(str(error)) from None
            raise


def delivered(
    name: str, figures: Found, details: Found, options: argparse.Namespace, *, works: Sequence[Found]
) -> None:
    """Write the figures with their details to the file, and print the figures with how they were got.

    works: what all the works found, whether now or earlier; `minutes` is what they took, one after another.
    """
    known = {
        "experiment": name,
        "command": _command(name, options),
        "code": CODE,
        "quick": options.quick,
        "seeds": getattr(options, "seeds", 1),
        "minutes": round(sum(one[TOOK] for one in works) / 60, 1),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(known | figures | details, indent=2) + "\n")
    sys.stdout.write(json.dumps(known | figures, indent=2) + "\n")


def _command(name: str, options: argparse.Namespace) -> str:
    """What to type for the same figures, wherever they are written."""
    given = {option: value for option, value in vars(options).items() if option not in WHERE and value}
    words = [
        f"--{option}" + ("" if value is True else f" {_typed(value)}") for option, value in given.items()
    ]
    return " ".join([f"python -m experiments.{name}", *words])


def _typed(value: Any) -> str:
    return shlex.join(map(str, value)) if isinstance(value, list | tuple) else shlex.quote(str(value))


def _found(work: Work, kept: Kept, show: Callable[[str, int], None]) -> Found:
    """The work done, or remembered; either way shown as many steps as it has."""
    shown = 0

    def tell(what: str) -> None:
        nonlocal shown
        shown += 1
        show(what, 1)

    def timed() -> Found:
        began = time.monotonic()
        return {**work.run(tell), TOOK: time.monotonic() - began}

    found = kept.once(work.name, timed)
    show(f"{work.name} done", work.steps - shown)
    return found


def _nothing() -> None:
    """No preparation."""


def pool(processes: int, prepare: Callable[..., object] = _nothing, *given: object) -> ProcessPoolExecutor:
    """Processes of their own that begin with `prepare(*given)`, and end when this one does, killed or not."""
    context = get_context("spawn")
    return ProcessPoolExecutor(processes, context, initializer=partial(_begin, prepare, *given))


def _begin(prepare: Callable[..., object], *given: object) -> None:
    Thread(target=_end_with_the_parent, daemon=True).start()
    prepare(*given)


def _end_with_the_parent() -> None:
    """A pool's process waits for work on a pipe it holds both ends of: it would outlive a killed parent."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _side_by_side(
    works: Sequence[Work], kept: Kept, processes: int, show: Callable[[str, int], None]
) -> list[Found]:
    told = get_context("spawn").SimpleQueue()  # what was put is there: a Queue's thread may be late with it
    workers = pool(processes, _listened_to, told)
    try:
        futures = [workers.submit(_told_of, work, kept) for work in works]
        waiting: set[Future[Found]] = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            _drain(told, show)
            for one in done:
                one.result()  # the first that fails ends the experiment; what is finished is kept
        return [one.result() for one in futures]
    finally:
        workers.shutdown(cancel_futures=True)


def _drain(told: Any, show: Callable[[str, int], None]) -> None:
    while not told.empty():
        show(*told.get())


_line: Any = None  # of a process of the pool to the one that shows progress


def _listened_to(told: Any) -> None:
    global _line
    _line = told


def _told_of(work: Work, kept: Kept) -> Found:
    return _found(work, kept, lambda what, steps: _line.put((what, steps)))
