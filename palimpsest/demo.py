"""The main job, end to end, against a real server: `make demo` or `python -m palimpsest.demo`.

A model learns five digits, then three more, forgets two, is made smaller and larger, and draws every label.
Writes demo/before.png, demo/after.png, demo/report.json, and the signed receipt of what was forgotten with
the key to check it; exits 0 only if every job succeeded.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from palimpsest.client import Palimpsest, RequestRefused
from palimpsest.demo_page import Row, page
from palimpsest.local_server import ServerFailed, running
from palimpsest.values import Job, Report

DATASETS = ("mnist", "digits")  # the first that can be had; digits always can
DRAWS, SCALE, FIRST_SEED = 10, 2, 0
FOLDER = Path("demo")
LOG = FOLDER / "server.log"
RECEIPT, KEY = FOLDER / "receipt.json", FOLDER / "signing.pub.pem"


@dataclass(frozen=True)
class Step:
    """One job of the demonstration: what is asked, and how a person calls it."""

    operation: str
    labels: tuple[str, ...] = ()
    policy: str = ""

    @property
    def title(self) -> str:
        """As a person says it: `learn 5 6 7`."""
        return " ".join([self.operation, *self.labels, self.policy]).strip()


LEARNING = (Step("learn", tuple("01234")), Step("learn", tuple("567")))
CHANGING = (Step("forget", tuple("36")), Step("resize", policy="prune"), Step("resize", policy="expand"))
LEARNT = tuple(label for step in LEARNING for label in step.labels)
FORGOTTEN = tuple(label for step in CHANGING if step.operation == "forget" for label in step.labels)
KEPT = tuple(label for label in LEARNT if label not in FORGOTTEN)
SUBTITLE = f"{DRAWS} draws a label, seeds {FIRST_SEED} to {FIRST_SEED + DRAWS - 1}, none chosen"


@dataclass(frozen=True)
class Done:
    """A job that succeeded, and the evidence of the version it published."""

    step: Step
    job: Job
    version: int
    report: Report


class JobFailed(Exception):
    """A job of the demonstration did not succeed."""

    def __init__(self, step: Step, job: Job) -> None:
        reason = f"{job.error.code}: {job.error.message}" if job.error else job.state
        super().__init__(f"{step.title} did not succeed: {reason}")
        self.code = job.error.code if job.error else job.state


@dataclass(frozen=True)
class Walk:
    """The demonstration under way: one model, named after its dataset, and what was done to it."""

    palimpsest: Palimpsest
    console: Console
    dataset: str
    quick: bool
    done: list[Done] = field(default_factory=list)

    def run(self, steps: Sequence[Step]) -> None:
        """Ask for one job after the other, each with its progress bar; JobFailed ends the walk."""
        for step in steps:
            job = self._follow(step)
            if job.output_version is None:
                raise JobFailed(step, job)
            report = self.palimpsest.report(self.dataset, job.output_version)
            self.done.append(Done(step, job, job.output_version, report))

    def picture(self, title: str, subtitle: str, path: Path) -> None:
        """Every label ever learnt, drawn by the newest version; what it refuses to draw is struck out."""
        page(title, subtitle, [self._row(label) for label in LEARNT]).save(path)

    def keep_receipt(self) -> None:
        """The receipt of what was forgotten, and the public key that this deployment signs with."""
        [forget] = [done for done in self.done if done.step.operation == "forget"]
        RECEIPT.write_bytes(self.palimpsest.receipt(forget.job.id))
        KEY.write_text(self.palimpsest.signing_key().public_key)

    def _follow(self, step: Step) -> Job:
        with _bar(self.console) as bar:
            task = bar.add_task(step.title, total=1.0, detail="")
            return self.palimpsest.wait(self._ask(step), on_progress=lambda job: _show(bar, task, job))

    def _ask(self, step: Step) -> Job:
        params = _few_steps(step) if self.quick else None
        if step.operation == "learn":
            return self.palimpsest.learn(self.dataset, step.labels, params=params)
        if step.operation == "forget":
            return self.palimpsest.forget(self.dataset, step.labels, params=params)
        return self.palimpsest.resize(self.dataset, step.policy, params=params)

    def _row(self, label: str) -> Row:
        last = self.done[-1]
        try:
            strip = self.palimpsest.image(
                self.dataset, last.version, label, FIRST_SEED, scale=SCALE, grid=(1, DRAWS)
            )
        except RequestRefused as refused:
            return Row(label, None, f"asked: {refused.status} {refused.code}")
        accuracy = last.report["retained"]["labels"][label]["accuracy"]
        return Row(label, strip, "not judged" if accuracy is None else f"judged right: {accuracy:.1%}")


def main() -> int:
    """Run the demonstration; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m palimpsest.demo", description="The main job, end to end."
    )
    parser.add_argument("--quick", action="store_true", help="few training steps: the way, not the quality")
    quick = parser.parse_args().quick
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    FOLDER.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="palimpsest-demo-") as home:
            try:
                _demonstrate(Path(home), console, quick=quick)
            finally:
                _keep_log(Path(home))
    except KeyboardInterrupt:
        return _say_why(console, "stopped by Ctrl-C, and the server with it", status=130)
    except (RequestRefused, JobFailed, ServerFailed, OSError) as error:
        return _say_why(console, f"{error} (the server's log is {LOG})", status=1)
    return 0


def _demonstrate(home: Path, console: Console, *, quick: bool) -> None:
    started = time.monotonic()
    with running(home, data=_data_folder()) as address, Palimpsest(address) as palimpsest:
        console.print(f"Palimpsest is up at {address}\n")
        walk = _learn(palimpsest, console, quick=quick)
        walk.picture("Before: eight labels, learnt in two jobs", SUBTITLE, FOLDER / "before.png")
        walk.run(CHANGING)
        sample = palimpsest.samples(walk.dataset, KEPT, DRAWS, seed=FIRST_SEED)
        walk.picture("After: two forgotten, six still drawn", SUBTITLE, FOLDER / "after.png")
        walk.keep_receipt()
    report = _report(walk, sample.id, seconds_total=time.monotonic() - started)
    (FOLDER / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    _tell(console, walk, report)


def _learn(palimpsest: Palimpsest, console: Console, *, quick: bool) -> Walk:
    """The eight labels learnt from the first dataset that can be had."""
    for dataset in DATASETS:
        walk = Walk(palimpsest, console, dataset, quick)
        palimpsest.create_model(dataset, dataset=dataset)
        try:
            walk.run(LEARNING)
            return walk
        except JobFailed as failed:
            if failed.code != "dataset_unavailable" or dataset == DATASETS[-1]:
                raise
            console.print(
                f"{failed}\n\nGoing on with scikit-learn's bundled digits instead.\n", soft_wrap=True
            )
    raise AssertionError("the last dataset either returned or raised")


def _few_steps(step: Step) -> dict[str, Any]:
    schedule = {} if step.policy == "expand" else {"schedule": {"steps": 30}}
    return {**schedule, "fisher_examples": 100}


def _data_folder() -> Path:
    """PALIMPSEST_DATA, or where `palimpsest up` keeps what it downloads, so that it is fetched once."""
    return Path(os.environ.get("PALIMPSEST_DATA") or Path.home() / ".palimpsest" / "datasets")


def _keep_log(home: Path) -> None:
    log = home / "server.log"
    if log.exists():
        shutil.copy(log, LOG)


def _say_why(console: Console, why: str, *, status: int) -> int:
    console.print(f"demo: {why}", style="red", soft_wrap=True, markup=False)
    return status


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<17}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[detail]:<34}"),
        TimeElapsedColumn(),
        console=console,
    )


def _show(bar: Progress, task: TaskID, job: Job) -> None:
    if job.done:
        outcome = f"version {job.output_version}" if job.output_version is not None else job.state
        bar.update(task, completed=1.0, detail=outcome)
    elif (progress := job.progress) is None:
        bar.update(task, detail=job.state)
    else:
        loss = "" if progress.loss is None else f"  loss {progress.loss:.1f}"
        steps = f"{progress.phase} {progress.step}/{progress.total}{loss}"
        done = min(progress.fraction or 0.0, 0.99)  # the end of a phase is not the end of the job
        bar.update(task, completed=done, detail=steps)


def _seconds(job: Job) -> float:
    """From claimed to published, by the database's clock."""
    if job.started_at is None or job.finished_at is None:
        return 0.0
    return (datetime.fromisoformat(job.finished_at) - datetime.fromisoformat(job.started_at)).total_seconds()


def _report(walk: Walk, sample_id: str, *, seconds_total: float) -> dict[str, Any]:
    """The figures of the walk; accuracies are those the worker's judge measured, not ours."""
    last = walk.done[-1].report
    return {
        "dataset": walk.dataset,
        "train_images": sum(sum(done.report["examples"]["labels"].values()) for done in walk.done),
        "jobs": [
            {
                "operation": done.step.operation,
                "policy": done.step.policy or None,
                "strategy": done.job.strategy,
                "labels": list(done.step.labels),
                "seconds": round(_seconds(done.job), 3),
                "version": done.version,
            }
            for done in walk.done
        ],
        "retained_accuracy": last["retained"]["accuracy"],
        "forgotten_accuracy": last["forgotten"]["accuracy"],
        "parameters_by_version": {str(done.version): _parameters(done) for done in walk.done},
        "seconds_jobs": round(sum(_seconds(done.job) for done in walk.done), 3),
        "seconds_total": round(seconds_total, 3),
        "sample": sample_id,
        "reports_by_version": {str(done.version): done.report for done in walk.done},
    }


def _tell(console: Console, walk: Walk, report: dict[str, Any]) -> None:
    table = Table("job", "seconds", "version", "parameters", "kept labels", "forgotten labels", box=None)
    for done in walk.done:
        table.add_row(
            done.step.title,
            f"{_seconds(done.job):.1f}",
            str(done.version),
            f"{_parameters(done):,}",
            _percent(done.report["retained"]["accuracy"]),
            _percent(done.report["forgotten"]["accuracy"]),
        )
    console.print("\n", table, "\n")
    console.print(
        f"{report['train_images']:,} images of {walk.dataset}, {report['seconds_total']:.0f} s in all."
    )
    console.print(
        f"Percentages: images the judge took for their label, {walk.done[-1].report['n']:,} a label."
    )
    console.print(f"Look at {FOLDER}/before.png, {FOLDER}/after.png and {FOLDER}/report.json.")
    console.print(f"What was forgotten has a receipt: .venv/bin/palimpsest verify {RECEIPT} --key {KEY}")


def _parameters(done: Done) -> int:
    return int(done.report["capacity"]["parameters"])


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.1%}"


if __name__ == "__main__":
    sys.exit(main())
