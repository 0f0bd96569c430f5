"""How benchmarks/costs.py pairs the jobs of two codes, and what it computes of them, with tiny networks."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

from benchmarks import one_job
from benchmarks.costs import SIDES, Done, Job, Jobs, Round, Side, measure_round, score, summarise, table
from benchmarks.one_job import OneJob, run_job
from benchmarks.trees import TreeFailed, run_script
from experiments.scoring import LabelScores
from tests.learning.tiny import TINY, brief, stripes
from worker.learning.datasets import Dataset
from worker.learning.strategy import find


class Recorded:
    """Runs nothing, and remembers what it was asked to run: (job, code, base)."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, Side, str | None]] = []

    def __call__(self, job: Job, side: Side, seed: int, base: Path | None) -> Done:
        self.jobs.append((job.name, side, None if base is None else base.name))
        return Done(1.0, Path(f"{job.name} {side}"), {})


def test_both_codes_forget_and_evaluate_what_the_earlier_one_made() -> None:
    recorded = Recorded()
    measure_round(0, recorded, Jobs.of("0123456789", evaluation=True))
    assert recorded.jobs == [
        ("learn 5", "before", None),
        ("learn 5", "now", None),
        ("learn 3", "before", "learn 5 before"),
        ("learn 3", "now", "learn 5 now"),
        ("forget 2", "before", "learn 3 before"),
        ("forget 2", "now", "learn 3 before"),
        ("evaluate", "before", "forget 2 before"),
        ("evaluate", "now", "forget 2 before"),
    ]


def test_the_codes_take_turns_in_being_the_first_and_an_evaluation_can_be_left_out() -> None:
    recorded = Recorded()
    rounds = [measure_round(seed, recorded, Jobs.of("01234567", evaluation=False)) for seed in range(2)]
    assert [side for _, side, _ in recorded.jobs] == [*SIDES] * 3 + [*SIDES[::-1]] * 3
    assert [list(one) for one in rounds] == [["learn 5", "learn 3", "forget 2"]] * 2


def forget(before: float, now: float, accuracy: float) -> Round:
    scores = {"accuracy": 0.98, "coverage": 0.9, "forgotten": 0.01}
    pair: dict[Side, Done] = {
        "before": Done(before, Path(), scores),
        "now": Done(now, Path(), scores | {"accuracy": accuracy}),
    }
    return {"forget 2": pair, "evaluate": {side: Done(80.0, Path(), {}) for side in SIDES}}


def test_a_ratio_is_that_of_one_round_and_quality_is_a_mean_of_all() -> None:
    rounds = [forget(10, 5, 0.97), forget(20, 8, 0.98), forget(10, 9, 0.96)]
    figures = summarise(rounds)
    assert figures["cpu_seconds"]["forget 2"] == {
        "before": 10,
        "now": 8,
        "ratio": 0.5,
        "lowest_ratio": 0.4,
        "highest_ratio": 0.9,
        "of_each_round": {"before": [10, 20, 10], "now": [5, 8, 9]},
    }
    assert figures["quality"].keys() == {"forget 2"}
    assert figures["quality"]["forget 2"]["points"] == {"accuracy": -1, "coverage": 0, "forgotten": 0}
    lines = table({"commit": "0" * 40, "precision": dict.fromkeys(SIDES, "float32"), **figures}).splitlines()
    assert lines[1].split() == [
        "forget",
        "2,",
        "CPU",
        "seconds",
        "10.0",
        "8.0",
        "0.50",
        "(0.40",
        "to",
        "0.90)",
    ]
    assert lines[3].split() == ["forget", "2,", "accuracy", "98.0%", "97.0%", "-1.00", "points"]


def test_a_job_leaves_its_cost_a_checkpoint_and_draws_that_are_scored(tmp_path: Path) -> None:
    images = {name: stripes(name) for name in ("rows", "columns")}
    dataset = Dataset("stripes", tuple(images), (8, 8), train=images, test=images)
    scored: list[tuple[str, tuple[int, ...]]] = []

    def score_images(drawn: Tensor, label: str) -> LabelScores:
        scored.append((label, tuple(drawn.shape)))
        return LabelScores(0.0, 0.9 if label == "rows" else 0.1, 0.5, 0.5)

    def do(operation: str, strategy: str, labels: Sequence[str], base: Path | None = None) -> Path:
        job = OneJob(
            operation=operation,
            labels=tuple(labels),
            base=None if base is None else str(base / one_job.CHECKPOINT),
            seed=0,
            precision="float32",
            dataset="",
            data="",
            folder=str(tmp_path / operation),
            draws=20,
            network=TINY,
            params=brief(find(operation, strategy)),
        )
        folder = Path(job.folder)
        folder.mkdir()
        run_job(job, dataset)
        assert json.loads((folder / one_job.COST).read_text()) > 0
        return folder

    learned = do("learn", "replay_ewc", list(images))
    forgot = do("forget", "surrogate", ["columns"], learned)
    scores = [
        score(folder / one_job.CHECKPOINT, folder / one_job.DRAWS, score_images)
        for folder in (learned, forgot)
    ]
    assert scores == [
        {"accuracy": 0.5, "coverage": 0.5},
        {"accuracy": 0.9, "coverage": 0.5, "forgotten": 0.1},
    ]
    assert sorted(scored) == [(name, (20, 64)) for name in ("columns", "columns", "rows", "rows")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project of one package, `worker`."""
    tree = tmp_path / "tree"
    (tree / "worker").mkdir(parents=True)
    (tree / "worker/__init__.py").write_text("NAME = 'of the tree'")
    (tree / "pyproject.toml").write_text("[project]\nname = 'palimpsest'\n")
    return tree


def test_a_script_runs_with_the_packages_of_the_tree(tree: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, worker; open(sys.argv[1], 'w').write(worker.NAME)")
    run_script(tree, tmp_path / "process", script, str(tmp_path / "found"))
    assert (tmp_path / "found").read_text() == "of the tree"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import worker, elsewhere", "imported from outside"),
        ("import worker; raise ValueError('no images')", "no images"),
        ("", "only 0 of 1"),
    ],
)
def test_a_script_that_fails_or_imports_from_elsewhere_is_an_error(
    source: str, error: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "script.py"
    script.write_text(source)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/elsewhere.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    with pytest.raises(TreeFailed, match=error):
        run_script(tree, tmp_path / "process", script, other_packages={"elsewhere"})
