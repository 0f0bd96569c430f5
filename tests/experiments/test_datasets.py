"""The default strategies on every dataset: which jobs, on which images, and the page of the figures."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.dataset_cases import CaseImages, all_cases, turn, upload_case
from experiments.datasets import Scorer, Step, main, steps_of, summarize
from experiments.datasets_page import page, read_result
from experiments.independent_classifier import restore_classifier, train_classifier
from experiments.running import Result
from tests.datasets.real_mnist import real_mnist
from tests.learning.tiny import TINY
from worker.learning.networks import blank
from worker.learning.slots import with_slots

DOCS = Path(__file__).parents[2] / "docs"
TEN = tuple("0123456789")


def test_of_ten_labels_five_are_learned_then_three_and_one_of_each_is_forgotten() -> None:
    assert steps_of(TEN) == [
        Step("learn", ("0", "1", "2", "3", "4")),
        Step("learn", ("5", "6", "7")),
        Step("forget", ("2", "6")),
        Step("resize"),
    ]


def test_of_many_labels_three_times_eighteen_are_learned_and_three_forgotten() -> None:
    steps = steps_of([f"{number:02}" for number in range(54)])
    assert [(one.operation, len(one.labels)) for one in steps] == [("learn", 18)] * 3 + [("forget", 3)]
    assert len({label for one in steps[:3] for label in one.labels}) == 54
    assert all(set(one.labels) & set(steps[3].labels) for one in steps[:3])


@pytest.mark.parametrize("count", [2, 3, 5, 8, 12])
def test_of_few_labels_some_are_held_after_the_forget(count: int) -> None:
    first, second, forget, prune = steps_of(TEN[:count] + ("ten", "eleven")[: max(0, count - 10)])
    learned = {*first.labels, *second.labels}
    assert all((first.labels, second.labels, forget.labels)), "a job about no label fails"
    assert set(forget.labels) < learned
    assert len(learned) == min(count, 8)
    assert (prune.strategy.policy, first.strategy.retention) == ("prune", "permanent")


@pytest.mark.parametrize("labels", [(), ("0",)])
def test_a_sequence_of_fewer_than_two_labels_is_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="needs two labels"):
        steps_of(labels)


def test_turned_digits_are_54_labels_that_look_different() -> None:
    images = all_cases()["turned_digits"].load(_data())
    assert len(images.dataset.labels) == 54
    assert {len(one) for one in images.dataset.train.values()} == {400}
    assert images.seen.keys() == images.unseen.keys() == set(images.dataset.labels)
    four = torch.arange(784, dtype=torch.uint8).view(1, 784)
    ways = [turn(four, way) for way in range(8)]
    assert len({one.numpy().tobytes() for one in ways}) == 8
    assert torch.equal(ways[0], four)
    assert torch.equal(turn(turn(four, 1), 3), four)


@pytest.mark.parametrize("name", ["mnist", "digits", "mnist_20", "turned_digits"])
def test_what_a_model_is_measured_with_neither_it_nor_the_classifier_has_seen(name: str) -> None:
    images = all_cases()[name].load(_data())
    for label in ("3", "4"):
        unseen = _digests(images.unseen[label])
        assert not unseen & _digests(images.dataset.train[label])
        assert not unseen & _digests(images.seen[label])


def test_the_sizes_of_the_uploads_are_those_of_their_names() -> None:
    for size in (20, 100):
        images = all_cases()[f"mnist_{size}"].load(_data())
        sizes = {len(images.dataset.train[label]) + len(images.dataset.test[label]) for label in TEN}
        assert (sizes, images.classifier) == ({size}, "mnist")


def test_a_file_is_measured_as_the_api_would_split_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "letters.npz", images=pixels, labels=np.repeat(["a", "b"], 20))
    case = upload_case(tmp_path / "letters.npz")
    images = case.load(Path())
    assert (case.name, images.dataset.labels) == ("letters", ("a", "b"))
    assert [len(split["a"]) for split in (images.seen, images.unseen)] == [16, 4]


def test_a_file_that_is_no_upload_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "letters.npz"
    np.savez(file, images=np.zeros((4, 28, 28), np.uint8), labels=np.arange(3))
    monkeypatch.setattr("sys.argv", ["datasets", "--upload", str(file)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"error: {file}: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def scored() -> Result:
    """A small untrained network with slots of three digits, one of them forgotten in name."""
    digits = all_cases()["digits"].load(Path())
    names = ("0", "1", "7")
    few = {name: digits.seen[name][:40] for name in names}
    images = CaseImages(digits.dataset.only(names), "few", few, {name: digits.unseen[name] for name in names})
    untrained = with_slots(blank(TINY, seed=0), names, "digits", "permanent")
    classifier = restore_classifier(names, train_classifier(images.seen, steps=3))
    return Scorer(images, classifier, draws=40).score(untrained.with_status(["7"], "forgotten"))


def test_a_score_is_the_mean_over_the_labels_held_beside_its_limits(scored: Result) -> None:
    by_label = scored["by_label"]
    assert set(by_label) == {"0", "1"}
    assert scored["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in by_label.values()]))
    assert scored["worst_label"] == min(one["accuracy"] for one in by_label.values())
    assert scored["forgotten"] == max(scored["forgotten_by_label"].values())
    assert set(scored["forgotten_by_label"]) == {"7"}
    assert scored["relative_coverage"] >= 0


def row(ratio: float, forgotten: float | None, labels: list[str]) -> dict[str, Any]:
    figures = {"accuracy": 0.9, "relative": 0.95, "posterior": 0.92, "worst_label": 0.8, "seconds": 9.0}
    sizes = {"operation": "learn" if labels else "resize", "labels": labels, "parameters": 1_000_000}
    return (
        figures
        | sizes
        | {
            "ratio": ratio,
            "forgotten": forgotten,
            "relative_coverage": None,
            "posterior_relative_coverage": 0.9,
        }
    )


def invented() -> Result:
    classifier = {"name": "letters", "images": 100, "steps": 10, "accuracy": 0.97}
    rows = [row(0.95, None, ["a", "b"]), row(0.99, 0.03, [])]
    dataset = {"name": "letters", "title": "Letters", "draws": 50, "classifier": classifier, "rows": rows}
    provenance = {
        "quick": False,
        "command": "python -m experiments.datasets",
        "minutes": 3.4,
        "code": "c" * 64,
    }
    return provenance | {"datasets": [dataset]}


def test_the_page_names_the_jobs_that_miss_a_bar() -> None:
    text = page(invented())
    assert "at least 0.96: after 1 of 2 jobs; not after learn 2 on letters (0.950)." in text
    assert "at most 2.0 %: after 0 of 1 jobs; not after prune on letters (3.0 %)." in text
    assert (
        "| Letters | learn 2 | 90.0 % | 95.0 % | 92.0 % | 0.950 | 80.0 % | - | 0.900 | - | 9.0 | 1,000,000 |"
        in text
    )
    assert "(one seed, 3 minutes on one core, code cccccccccccc)" in text


def test_the_summary_has_the_worst_figure_of_each_bar() -> None:
    found = summarize(invented()["datasets"])
    assert found["lowest_ratio"] == {"dataset": "letters", "value": 0.95}
    assert found["highest_forgotten"] == {"dataset": "letters", "value": 0.03}


def test_the_page_in_the_repository_is_written_from_the_results_beside_it() -> None:
    result = read_result(DOCS / "results" / "datasets.json")
    assert (DOCS / "datasets.md").read_text() == page(result)
    assert result is None or not result["quick"]


def test_without_results_the_page_names_the_command(tmp_path: Path) -> None:
    text = page(read_result(tmp_path / "datasets.json"))
    assert "Not run in full yet: `python -m experiments.datasets`." in text


def _data() -> Path:
    """The folder of the real MNIST; without it the test is skipped."""
    real_mnist()
    return Path(os.environ["PALIMPSEST_DATA"])


def _digests(images: torch.Tensor) -> set[bytes]:
    return {one.numpy().tobytes() for one in images}
