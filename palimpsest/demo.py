"""Learn, forget, resize and draw with a real server: `make demo`, or `python -m palimpsest.demo`.

A model learns five digits and then three more, forgets two, is pruned, is expanded, and draws every label.
Writes demo/before.png, demo/after.png, demo/report.json, the signed receipt of the forget job, and the public
key that verifies it. Exits with 0 only if every job succeeded. Needs `pip install 'palimpsest[worker]'`.
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
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from palimpsest.client import Palimpsest
from palimpsest.demo_page import Row, draw_page
from palimpsest.errors import PalimpsestError, RequestRefused
from palimpsest.local_server import ServerFailed, local_server
from palimpsest.values import Job
from reports import Report

DATASETS = ("mnist", "digits")
"""The demo uses the first that is available. `digits` always is: it is part of scikit-learn."""
IMAGES_PER_LABEL, SCALE, FIRST_SEED = 10, 2, 0
FOLDER = Path("demo")
LOG = FOLDER / "server.log"
RECEIPT, KEY = FOLDER / "receipt.json", FOLDER / "signing.pub.pem"


@dataclass(frozen=True)
class JobSpec:
    """A job that the demo requests."""

    operation: str
    labels: tuple[str, ...] = ()
    policy: str = ""

    @property
    def title(self) -> str:
        """A title to show for the job: `learn 5 6 7`."""
        return " ".join([self.operation, *self.labels, self.policy]).strip()


LEARN_JOBS = (JobSpec("learn", tuple("01234")), JobSpec("learn", tuple("567")))
LATER_JOBS = (
    JobSpec("forget", tuple("36")),
    JobSpec("resize", policy="prune"),
    JobSpec("resize", policy="expand"),
)
LEARNED = tuple(label for spec in LEARN_JOBS for label in spec.labels)
FORGOTTEN = tuple(label for spec in LATER_JOBS if spec.operation == "forget" for label in spec.labels)
KEPT = tuple(label for label in LEARNED if label not in FORGOTTEN)
LAST_SEED = FIRST_SEED + IMAGES_PER_LABEL - 1
SUBTITLE = f"{IMAGES_PER_LABEL} images a label, seeds {FIRST_SEED} to {LAST_SEED}, not cherry-picked"


@dataclass(frozen=True)
class FinishedJob:
    """A job that succeeded, with the report on the version it published."""

    spec: JobSpec
    job: Job
    version: int
    report: Report

    @property
    def seconds(self) -> float:
        """Seconds from the start of the job to its end, by the server's clock."""
        return self.job.seconds or 0.0

    @property
    def parameters(self) -> int:
        return self.report.capacity.parameters

    @property
    def train_images(self) -> int:
        """How many real images the job was given."""
        return sum(self.report.examples.labels.values()) if self.report.examples else 0


class JobFailed(Exception):
    """A job of the demo did not succeed."""

    def __init__(self, spec: JobSpec, job: Job) -> None:
        reason = f"{job.error.code}: {job.error.message}" if job.error else job.state
        super().__init__(f"`{spec.title}` did not succeed: {reason}")
        self.code = job.error.code if job.error else job.state


@dataclass(frozen=True)
class DemoRun:
    """One run of the demo. The model has the name of its dataset. finished: the jobs so far."""

    client: Palimpsest
    console: Console
    dataset: str
    quick: bool
    finished: list[FinishedJob] = field(default_factory=list)

    def run(self, specs: Sequence[JobSpec]) -> None:
        """Run the jobs one after the other, each with a progress bar. The first failure raises JobFailed."""
        for spec in specs:
            job = self._run_job(spec)
            if job.output_version is None:
                raise JobFailed(spec, job)
            report = self.client.versions.report(self.dataset, job.output_version)
            self.finished.append(FinishedJob(spec, job, job.output_version, report))

    def save_page(self, title: str, path: Path) -> None:
        """Draw every learned label with the newest version; labels that the server refuses are struck out."""
        draw_page(title, SUBTITLE, [self._row(label) for label in LEARNED]).save(path)

    def save_receipt(self) -> None:
        """Save the receipt of the forget job, and the public key that verifies it."""
        [forget] = [entry for entry in self.finished if entry.spec.operation == "forget"]
        RECEIPT.write_bytes(self.client.receipts.get(forget.job))
        KEY.write_text(self.client.signing_keys.current().public_key)

    def _run_job(self, spec: JobSpec) -> Job:
        with _progress_bar(self.console) as bar:
            task = bar.add_task(spec.title, total=1.0, detail="")
            job = self._start_job(spec)
            return self.client.jobs.wait(job, on_progress=lambda job: _update_bar(bar, task, job))

    def _start_job(self, spec: JobSpec) -> Job:
        params = _few_steps(spec) if self.quick else None
        if spec.operation == "learn":
            return self.client.models.learn(self.dataset, spec.labels, params=params)
        if spec.operation == "forget":
            return self.client.models.forget(self.dataset, spec.labels, params=params)
        return self.client.models.resize(self.dataset, spec.policy, params=params)

    def _row(self, label: str) -> Row:
        newest = self.finished[-1]
        grid = (1, IMAGES_PER_LABEL)
        try:
            strip = self.client.images.get(
                self.dataset, newest.version, label, FIRST_SEED, scale=SCALE, grid=grid
            )
        except RequestRefused as refused:
            return Row(label, None, f"refused: {refused.status} {refused.code}")
        accuracy = newest.report.retained.labels[label].value
        return Row(label, strip, "not measured" if accuracy is None else f"recognised: {accuracy:.1%}")


def main() -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m palimpsest.demo",
        description="Learn, forget, resize and draw digits on a temporary local server. Writes demo/.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="train for a few steps only: takes less time, and the images are poor",
    )
    quick = parser.parse_args().quick
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    FOLDER.mkdir(exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="palimpsest-demo-") as home:
            try:
                _run_demo(Path(home), console, quick=quick)
            finally:
                _save_log(Path(home))
    except KeyboardInterrupt:
        return _end_with(console, "stopped by Ctrl-C; its server is stopped too", status=130)
    except (PalimpsestError, JobFailed, ServerFailed, OSError) as error:
        return _end_with(console, f"{error} (the server's log is {LOG})", status=1)
    return 0


def _run_demo(home: Path, console: Console, *, quick: bool) -> None:
    started = time.monotonic()
    with local_server(home, data=_data_folder()) as address, Palimpsest(address) as client:
        console.print(f"Palimpsest is up at {address}\n")
        run = _learn(client, console, quick=quick)
        run.save_page("Before: eight labels, learned in two jobs", FOLDER / "before.png")
        run.run(LATER_JOBS)
        sample = client.samples.create(run.dataset, KEPT, IMAGES_PER_LABEL, seed=FIRST_SEED)
        run.save_page("After: two labels forgotten, six still drawn", FOLDER / "after.png")
        run.save_receipt()
    report = _report(run, sample.id, seconds_total=time.monotonic() - started)
    (FOLDER / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    _print_summary(console, run, report)


def _learn(client: Palimpsest, console: Console, *, quick: bool) -> DemoRun:
    """Learn the eight labels from the first dataset that is available."""
    for dataset in DATASETS:
        run = DemoRun(client, console, dataset, quick)
        client.models.create(dataset, dataset=dataset)
        try:
            run.run(LEARN_JOBS)
            return run
        except JobFailed as failed:
            if failed.code != "dataset_unavailable" or dataset == DATASETS[-1]:
                raise
            console.print(f"{failed}\n\nUsing scikit-learn's bundled digits instead.\n", soft_wrap=True)
    raise AssertionError("unreachable: the loop returns or raises for the last dataset")


def _few_steps(spec: JobSpec) -> dict[str, Any]:
    schedule = {} if spec.policy == "expand" else {"schedule": {"steps": 30}}
    return {**schedule, "fisher_examples": 100}


def _data_folder() -> Path:
    """PALIMPSEST_DATA, or the folder that `palimpsest up` downloads to: MNIST is downloaded only once."""
    return Path(os.environ.get("PALIMPSEST_DATA") or Path.home() / ".palimpsest" / "datasets")


def _save_log(home: Path) -> None:
    log = home / "server.log"
    if log.exists():
        shutil.copy(log, LOG)


def _end_with(console: Console, reason: str, *, status: int) -> int:
    console.print(f"demo: {reason}", style="red", soft_wrap=True, markup=False)
    return status


def _progress_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<17}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[detail]:<34}"),
        TimeElapsedColumn(),
        console=console,
    )


def _update_bar(bar: Progress, task: TaskID, job: Job) -> None:
    if job.done:
        outcome = f"version {job.output_version}" if job.output_version is not None else job.state
        bar.update(task, completed=1.0, detail=outcome)
    elif (progress := job.progress) is None:
        bar.update(task, detail=job.state)
    else:
        loss = "" if progress.loss is None else f"  loss {progress.loss:.1f}"
        steps = f"{progress.phase} {progress.step}/{progress.total}{loss}"
        fraction = min(progress.fraction or 0.0, 0.99)  # the end of a phase is not the end of the job
        bar.update(task, completed=fraction, detail=steps)


def _report(run: DemoRun, sample_id: str | None, *, seconds_total: float) -> dict[str, Any]:
    """Collect the figures of the run. Accuracies come from the server's reports."""
    last = run.finished[-1].report
    return {
        "dataset": run.dataset,
        "train_images": sum(entry.train_images for entry in run.finished),
        "jobs": [
            {
                "operation": entry.spec.operation,
                "policy": entry.spec.policy or None,
                "strategy": entry.job.strategy,
                "labels": list(entry.spec.labels),
                "seconds": round(entry.seconds, 3),
                "version": entry.version,
            }
            for entry in run.finished
        ],
        "retained_accuracy": last.retained.value,
        "forgotten_accuracy": last.forgotten.value,
        "parameters_by_version": {str(entry.version): entry.parameters for entry in run.finished},
        "seconds_jobs": round(sum(entry.seconds for entry in run.finished), 3),
        "seconds_total": round(seconds_total, 3),
        "sample": sample_id,
        "reports_by_version": {str(entry.version): entry.report.as_json() for entry in run.finished},
    }


def _print_summary(console: Console, run: DemoRun, report: dict[str, Any]) -> None:
    columns = ("job", "seconds", "version", "parameters", "kept labels", "forgotten labels")
    table = Table(*columns, box=None)
    for entry in run.finished:
        table.add_row(
            entry.spec.title,
            f"{entry.seconds:.1f}",
            str(entry.version),
            f"{entry.parameters:,}",
            _percent(entry.report.retained.value),
            _percent(entry.report.forgotten.value),
        )
    console.print("\n", table, "\n")
    measured_on, trained_on = run.finished[-1].report.n, report["train_images"]
    console.print(
        f"Percentages: the share of {measured_on:,} images drawn of each label that a separate classifier"
        " (the judge) recognises as that label. High is good for kept labels, low for forgotten ones.",
        soft_wrap=True,
    )
    console.print(
        f"Trained on {trained_on:,} images of {run.dataset}; {report['seconds_total']:.0f} s in all."
    )
    if run.quick:
        console.print("Images are poor and few are recognised, because --quick trains for a few steps only.")
    console.print(f"See {FOLDER}/before.png, {FOLDER}/after.png and {FOLDER}/report.json.")
    console.print(f"Verify the receipt for the forgotten labels: {_command()} verify {RECEIPT} --key {KEY}")


def _command() -> str:
    """The command `palimpsest` as it is typed in this folder."""
    script = Path(sys.executable).with_name("palimpsest")
    return str(script.relative_to(Path.cwd())) if script.is_relative_to(Path.cwd()) else "palimpsest"


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.1%}"


if __name__ == "__main__":
    sys.exit(main())
