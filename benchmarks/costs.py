"""Measure the CPU time of a learn, a forget and a full evaluation beside that of an earlier commit.

    python -m benchmarks.costs 0ee42f1
    python -m benchmarks.costs 0ee42f1 --no-evaluation --precision bfloat16 --json -
    python -m benchmarks.costs 0ee42f1 --no-evaluation --dataset fashion_mnist

COMMIT is checked out into a temporary folder. Its code and that of the working tree take turns: each job runs
once with either, in a process of its own with one thread, with default params. Which one begins
changes from round to round. Commits before 0ee42f1 do not work. Uncommitted changes of the working tree are
included; do not edit it while this runs.

`learn 5`, `learn 3`  five labels from a blank network, then three more. Either code goes on from its own
                      version.
`forget 2`            one label of each learn. Both forget them from the version that COMMIT learned.
`evaluate`            the full report on the version that COMMIT forgot them in. It takes over a minute, and
                      needs a dataset with committed classifiers: MNIST.

The CPU seconds are those of the training or of the evaluation, without imports, reading of images and the
quick report. A ratio is that of the working tree's seconds to COMMIT's in the same round: the median over
the rounds, the lowest and the highest.

The images of both are scored by the judge of the working tree, which is trained first if the dataset has
none that is committed: the share of the retained labels' draws that
it takes for their label, their coverage, and the largest share of a forgotten label's draws that it takes for
this label. Means over the rounds, each with a seed of its own, and the differences in percentage points.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file
from torch import Tensor

from benchmarks import one_job
from benchmarks.one_job import OneJob
from benchmarks.output import write_table_and_figures
from benchmarks.trees import TreeFailed, check_out, git, package_names, run_script
from experiments.audit_histories import Setting
from experiments.running import Cache, add_data_option, data_folder
from experiments.scoring import DRAWS, LabelScores, Scorer
from worker.learning import datasets
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.classifiers import is_committed
from worker.learning.judging.judge import JUDGE

Side = Literal["before", "now"]
SIDES: tuple[Side, ...] = ("before", "now")
FIGURES = ("accuracy", "coverage", "forgotten")
LABELS = 8
"""How many labels a round learns."""


@dataclass(frozen=True)
class Job:
    """A job that both codes run."""

    name: str
    operation: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Jobs:
    """The jobs of a round, with labels of one dataset."""

    learn_5: Job
    learn_3: Job
    forget_2: Job
    evaluate: Job | None

    @classmethod
    def of(cls, labels: Sequence[str], *, evaluation: bool) -> "Jobs":
        """Return the jobs of a dataset with these labels, of which there are at least eight."""
        return cls(
            learn_5=Job("learn 5", "learn", tuple(labels[:5])),
            learn_3=Job("learn 3", "learn", tuple(labels[5:8])),
            forget_2=Job("forget 2", "forget", (labels[2], labels[7])),
            evaluate=Job("evaluate", "evaluate") if evaluation else None,
        )


@dataclass(frozen=True)
class Code:
    """One of the two codes that are compared, and the precision it trains in."""

    tree: Path
    precision: str


@dataclass(frozen=True)
class Done:
    """What a job cost, the file of its checkpoint, and the scores of what that draws."""

    cpu_seconds: float
    checkpoint: Path
    scores: Mapping[str, float]


Round = Mapping[str, Mapping[Side, Done]]
"""{name of the job: what it took and left with either code}."""
RunJob = Callable[[Job, Side, int, Path | None], Done]
"""(job, code, seed, checkpoint that it starts from) -> what it took and left."""


def main() -> int:
    """Measure, print the table, and return the exit status: 2 if a job of either code failed."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        commit = git("rev-parse", "--verify", f"{options.commit}^{{commit}}")
        rounds = _measure(commit, options)
    except (TreeFailed, OSError, datasets.DatasetUnavailable) as error:
        sys.stderr.write(f"costs: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    precisions = {"before": options.precision_before, "now": options.precision}
    figures = {"commit": commit, "dataset": options.dataset, "precision": precisions, **summarise(rounds)}
    write_table_and_figures(table(figures), figures, options.json)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="commit to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="%(default)s")
    for name, whose in (("precision", "the working tree"), ("precision-before", "COMMIT")):
        parser.add_argument(
            f"--{name}",
            choices=("float32", "bfloat16"),
            default="float32",
            help=f"of the matrix products of {whose}; %(default)s",
        )
    parser.add_argument(
        "--no-evaluation", dest="evaluation", action="store_false", help="leave out the full report"
    )
    parser.add_argument("--dataset", default="mnist", help="with at least eight labels; %(default)s")
    parser.add_argument("--json", help="file for the figures, - for the terminal")
    add_data_option(parser)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:
        info, _ = datasets.find(options.dataset)
    except datasets.DatasetUnavailable as error:
        parser.error(str(error))
    if len(info.labels) < LABELS:
        parser.error(f"{options.dataset} has fewer than {LABELS} labels")
    if options.evaluation and not is_committed(JUDGE, options.dataset):
        parser.error(f"no classifiers of {options.dataset} are committed: give --no-evaluation")
    return options


def _measure(commit: str, options: argparse.Namespace) -> list[Round]:
    here, data = Path(git("rev-parse", "--show-toplevel")), data_folder(options).absolute()
    with tempfile.TemporaryDirectory(prefix="costs-") as folder:
        temporary, setting = Path(folder), Setting(options.dataset, data)
        dataset = setting.load()
        scorer = Scorer.of(dataset, judge=setting.judge(Cache(temporary)))
        jobs = Jobs.of(dataset.labels, evaluation=options.evaluation)
        with check_out(commit, temporary / "tree") as tree:
            codes: dict[Side, Code] = {
                "before": Code(tree, options.precision_before),
                "now": Code(here, options.precision),
            }
            run = partial(_run_job, codes, setting, temporary, scorer)
            return [measure_round(seed, run, jobs) for seed in range(options.rounds)]


def measure_round(seed: int, run: RunJob, jobs: Jobs) -> Round:
    """Run every job with both codes, which take turns. Which one begins depends on the seed."""
    order = SIDES if seed % 2 == 0 else SIDES[::-1]

    def run_both(job: Job, bases: Mapping[Side, Path | None]) -> dict[Side, Done]:
        return {side: run(job, side, seed, bases[side]) for side in order}

    def shared(base: Done) -> dict[Side, Path | None]:
        return dict.fromkeys(SIDES, base.checkpoint)

    first = run_both(jobs.learn_5, dict.fromkeys(SIDES))
    more = run_both(jobs.learn_3, {side: first[side].checkpoint for side in SIDES})
    forgot = run_both(jobs.forget_2, shared(more["before"]))
    found = {jobs.learn_5.name: first, jobs.learn_3.name: more, jobs.forget_2.name: forgot}
    if jobs.evaluate:
        found[jobs.evaluate.name] = run_both(jobs.evaluate, shared(forgot["before"]))
    return found


def _run_job(
    codes: Mapping[Side, Code],
    setting: Setting,
    temporary: Path,
    scorer: Scorer,
    job: Job,
    side: Side,
    seed: int,
    base: Path | None,
) -> Done:
    """Run the job with one of the codes, in a process of its own, and score what it drew."""
    code, folder = codes[side], temporary / f"{seed} {side} {job.name}"
    folder.mkdir()
    one = OneJob(
        operation=job.operation,
        labels=job.labels,
        base=None if base is None else str(base),
        seed=seed,
        precision=code.precision,
        dataset=setting.dataset,
        data=str(setting.data),
        folder=str(folder),
        draws=DRAWS,
    )
    run_script(
        code.tree,
        folder / "process",
        Path(one_job.__file__),
        json.dumps(asdict(one)),
        environment={"OMP_NUM_THREADS": "1"},
        other_packages=frozenset().union(*(package_names(code.tree) for code in codes.values())),
    )
    cpu_seconds: float = json.loads((folder / one_job.COST).read_text())
    sys.stderr.write(f"seed {seed}, {side}, {job.name}: {cpu_seconds:.1f} s of CPU time\n")
    checkpoint = folder / one_job.CHECKPOINT
    scores = score(checkpoint, folder / one_job.DRAWS, scorer.score_images) if checkpoint.exists() else {}
    return Done(cpu_seconds, checkpoint, scores)


def score(
    checkpoint: Path, draws: Path, score_images: Callable[[Tensor, str], LabelScores]
) -> dict[str, float]:
    """Score the images that a job drew from its checkpoint; `forgotten` only if it has forgotten a label."""
    labels = Checkpoint.from_bytes(checkpoint.read_bytes())
    found = {name: score_images(images, name) for name, images in load_file(draws).items()}
    scores = {
        "accuracy": statistics.mean(found[name].open for name in labels.retained),
        "coverage": statistics.mean(found[name].coverage for name in labels.retained),
    }
    if labels.forgotten:
        scores["forgotten"] = max(found[name].open for name in labels.forgotten)
    return scores


def summarise(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the CPU seconds and their ratios, and the scores and their differences, as JSON-ready values."""
    names = list(rounds[0])
    return {
        "rounds": len(rounds),
        "cpu_seconds": {name: _summarise_seconds([one[name] for one in rounds]) for name in names},
        "quality": {
            name: _summarise_scores([one[name] for one in rounds])
            for name in names
            if rounds[0][name]["now"].scores
        },
    }


def _summarise_seconds(pairs: Sequence[Mapping[Side, Done]]) -> dict[str, Any]:
    ratios = [pair["now"].cpu_seconds / pair["before"].cpu_seconds for pair in pairs]
    seconds = {side: [round(pair[side].cpu_seconds, 2) for pair in pairs] for side in SIDES}
    return {
        **{side: round(statistics.median(seconds[side]), 2) for side in SIDES},
        "ratio": round(statistics.median(ratios), 3),
        "lowest_ratio": round(min(ratios), 3),
        "highest_ratio": round(max(ratios), 3),
        "of_each_round": seconds,
    }


def _summarise_scores(pairs: Sequence[Mapping[Side, Done]]) -> dict[str, Any]:
    means = {
        side: {
            figure: statistics.mean(pair[side].scores[figure] for pair in pairs)
            for figure in FIGURES
            if figure in pairs[0][side].scores
        }
        for side in SIDES
    }
    points = {name: 100 * (value - means["before"][name]) for name, value in means["now"].items()}
    return {
        **{side: {name: round(value, 4) for name, value in means[side].items()} for side in SIDES},
        "points": {name: round(value, 2) for name, value in points.items()},
    }


def table(figures: Mapping[str, Any]) -> str:
    """Return a line for each job, and one for each score after it."""
    precision = figures["precision"]
    rows = [
        ("", f"{figures['commit'][:7]}, {precision['before']}", f"now, {precision['now']}", "now / before")
    ]
    for name, one in figures["cpu_seconds"].items():
        ratio = f"{one['ratio']:.2f} ({one['lowest_ratio']:.2f} to {one['highest_ratio']:.2f})"
        rows.append((f"{name}, CPU seconds", f"{one['before']:.1f}", f"{one['now']:.1f}", ratio))
    for name, one in figures["quality"].items():
        for figure, points in one["points"].items():
            before, now = (f"{one[side][figure]:.1%}" for side in SIDES)
            rows.append((f"{name}, {figure}", before, now, f"{points:+.2f} points"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"{line.rstrip()}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
