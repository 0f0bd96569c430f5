"""A dataset without a committed judge or feature network gets one: trained once, kept; no judge that is dishonest."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from worker.jobs.feature_networks import feature_networks_of, kept_feature_network
from worker.jobs.judges import judges_of, kept_judge
from worker.learning.datasets import Dataset, DatasetUnavailable, load
from worker.learning.judging import feature_network, judge
from worker.learning.judging.feature_network import load_feature_network
from worker.learning.judging.judge import REJECT, JudgeUnavailable, load_judge
from worker.learning.judging.quality_gate import LEAST_TEST, LEAST_TRAIN, balanced
from worker.learning.judging.train import FIGURES
from worker.learning.judging.training_batches import Training
from worker.learning.strategy import Progress, Stopped, TrainingContext, Unavailable

BRIEF = Training(steps=60)


@lru_cache
def doodles() -> Dataset:
    """Zeros and ones under other names: easily told apart."""
    digits = load("digits", Path())
    train, test = ({"ring": one["0"], "bar": one["1"]} for one in (digits.train, digits.test))
    return Dataset("doodles", ("ring", "bar"), digits.image_shape, train, test)


def cut(dataset: Dataset, train: int, test: int) -> Dataset:
    """With so many images of its last label."""
    last = dataset.labels[-1]
    return replace(
        dataset,
        train={**dataset.train, last: dataset.train[last][:train]},
        test={**dataset.test, last: dataset.test[last][:test]},
    )


class Steps(list[tuple[str, int, int]]):
    def told(self, phase: str, step: int, total: int) -> None:
        self.append((phase, step, total))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the judge of the doodles is kept already."""
    folder = tmp_path_factory.mktemp("judges")
    kept_judge(doodles(), folder, BRIEF)
    return folder


def test_it_names_what_it_was_trained_on_and_rejects_what_is_none_of_it(folder: Path) -> None:
    judge = kept_judge(doodles(), folder, BRIEF)
    images = doodles().test["bar"].float() / 255
    assert (judge.dataset, judge.labels) == ("doodles", ("ring", "bar"))
    assert judge.test_accuracy > 0.9
    assert (judge.classify(images) == 1).float().mean() > 0.8
    assert (judge.classify(torch.rand(100, 784)) == REJECT).float().mean() > 0.9


def test_it_is_trained_once(folder: Path) -> None:
    steps = Steps()
    kept_judge(doodles(), folder, BRIEF, steps.told)
    assert steps == []


@pytest.fixture
def undemanding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a few steps teach is good enough."""
    monkeypatch.setattr("worker.learning.judging.quality_gate.LEAST_ACCURACY", 0.0)


@pytest.mark.usefixtures("undemanding")
def test_other_images_and_other_recipes_have_judges_of_their_own(folder: Path) -> None:
    altered = doodles().train["bar"].clone()
    altered[0, 0] ^= 1
    other = replace(doodles(), train={**doodles().train, "bar": altered})
    for dataset, training in ((other, Training(steps=2)), (doodles(), Training(steps=2, seed=1))):
        steps = Steps()
        kept_judge(dataset, folder, training, steps.told)
        assert len(steps) == 2 + FIGURES


@pytest.mark.usefixtures("undemanding")
def test_another_revision_of_what_a_judge_is_taught_has_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_judge(doodles(), tmp_path, Training(steps=2))
    monkeypatch.setattr("worker.jobs.judges.REVISION", 0)
    kept_judge(doodles(), tmp_path, Training(steps=2))
    assert len(list(tmp_path.iterdir())) == 2


def misshapen(weights: Path, recipe: Path) -> None:
    """Of another architecture, as their recipe says."""
    weights.write_bytes(save({"0.weight": torch.zeros(2, 3)}))
    told = json.loads(recipe.read_text()) | {"weights_sha256": sha256(weights.read_bytes()).hexdigest()}
    recipe.write_text(json.dumps(told))


def test_a_judge_says_which_of_its_bars_it_misses(folder: Path) -> None:
    judge = kept_judge(doodles(), folder, BRIEF)
    [place] = [one for one in folder.iterdir() if judge.version in (one / "doodles.json").read_text()]
    figures = json.loads((place / "doodles.json").read_text())["figures"]
    assert judge.missed == tuple(name for name, one in figures.items() if one["held"] is False) != ()
    assert load_judge("mnist").missed == ()


@pytest.mark.usefixtures("undemanding")
def test_whoever_waits_is_told_every_step(tmp_path: Path) -> None:
    steps = Steps()
    kept_judge(doodles(), tmp_path, Training(steps=3), steps.told)
    assert steps[:3] == [("training the judge of doodles", step, 3) for step in range(3)]
    assert steps[3:] == [("measuring the judge of doodles", step, FIGURES) for step in range(FIGURES)]


def test_a_judge_that_errs_too_often_is_none_and_is_not_trained_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.learning.judging.quality_gate.LEAST_ACCURACY", 1.01)
    steps = Steps()
    with pytest.raises(
        JudgeUnavailable, match=r"names 100.0% of its real test images rightly, an honest one"
    ):
        kept_judge(doodles(), folder, BRIEF, steps.told)
    assert steps == []


@pytest.mark.parametrize("moment", ["training", "measuring"])
def test_a_training_that_is_stopped_leaves_nothing_behind(moment: str, tmp_path: Path) -> None:
    def stop(phase: str, step: int, total: int) -> None:
        if phase.startswith(moment) and step == 1:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        kept_judge(doodles(), tmp_path, Training(steps=3), stop)
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_it_is_written_leaves_no_half_a_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(descriptor: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", crash)
        with pytest.raises(OSError, match="no space"):
            kept_judge(doodles(), tmp_path, Training(steps=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("undemanding")
@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "doodles.safetensors").write_bytes(b"half"),
        lambda place: (place / "doodles.json").write_bytes(b"{"),
        lambda place: (place / "doodles.json").unlink(),
        lambda place: misshapen(place / "doodles.safetensors", place / "doodles.json"),
    ],
)
def test_a_damaged_judge_is_trained_anew(damage: Callable[[Path], object], tmp_path: Path) -> None:
    training = Training(steps=2)
    first = kept_judge(doodles(), tmp_path, training)
    [place] = tmp_path.iterdir()
    damage(place)
    again = kept_judge(doodles(), tmp_path, training)
    assert again.version == first.version
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.usefixtures("undemanding")
def test_of_two_who_train_it_at_once_the_first_is_kept_and_serves_both(tmp_path: Path) -> None:
    nested = []

    def race(phase: str, step: int, total: int) -> None:
        if phase.startswith("measuring") and step == 0:
            nested.append(kept_judge(doodles(), tmp_path, Training(steps=2)).version)

    assert [kept_judge(doodles(), tmp_path, Training(steps=2), race).version] == nested
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (cut(doodles(), LEAST_TRAIN - 1, LEAST_TEST), "79 train and 20 test"),
        (cut(doodles(), LEAST_TRAIN, LEAST_TEST - 1), "80 train and 19 test"),
        (replace(doodles(), labels=("ring",)), "but one label"),
    ],
)
def test_a_dataset_too_small_has_none_with_the_reason(dataset: Dataset, reason: str, tmp_path: Path) -> None:
    with pytest.raises(JudgeUnavailable, match=reason):
        kept_judge(dataset, tmp_path, BRIEF)
    assert list(tmp_path.iterdir()) == []


def test_a_plentiful_label_does_not_drown_a_rare_one() -> None:
    images = torch.zeros(100_000, 784, dtype=torch.uint8)
    rare = {"plenty": images, "rare": images[:90]}
    evened = balanced(
        Dataset("x", ("plenty", "rare"), (28, 28), rare, {"plenty": images[:50], "rare": images[:30]})
    )
    assert [len(one) for one in evened.train.values()] == [360, 90]
    assert [len(one) for one in evened.test.values()] == [50, 30]


def context(told: list[Progress]) -> TrainingContext:
    return TrainingContext(torch.device("cpu"), 0, on_progress=told.append)


def refusing(name: str) -> Dataset:
    raise DatasetUnavailable(f"no images of {name} here")


def test_a_committed_judge_goes_before_and_needs_no_images(tmp_path: Path) -> None:
    assert judges_of(refusing, tmp_path, context([]))("digits") is load_judge("digits")


@pytest.mark.usefixtures("undemanding")
def test_an_upload_may_be_called_what_a_committed_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mnist.features.json` is a recipe, and no judge's."""
    monkeypatch.setattr("worker.jobs.judges.TRAINING", Training(steps=2))
    found = judges_of(lambda name: replace(doodles(), name=name), tmp_path, context([]))(
        "mnist.feature_network"
    )
    assert found.labels == ("ring", "bar")


def test_a_judge_or_witness_committed_under_the_name_of_an_upload_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (judge, feature_network):
        monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    for file in ("doodles.json", "doodles.features.json", "digits.json", "digits.features.json"):
        (tmp_path / file).write_text("{}")
    assert [judge.is_committed(name) for name in ("doodles", "digits")] == [False, True]
    assert [feature_network.is_committed(name) for name in ("doodles", "digits")] == [False, True]


def test_without_its_images_a_dataset_has_no_judge(tmp_path: Path) -> None:
    with pytest.raises(JudgeUnavailable, match="no images of doodles here"):
        judges_of(refusing, tmp_path, context([]))("doodles")


def test_a_job_reads_a_dataset_once_for_all_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.jobs.judges.TRAINING", Training(steps=2))
    monkeypatch.setattr("worker.learning.judging.quality_gate.LEAST_ACCURACY", 1.01)
    asked: list[str] = []
    told: list[Progress] = []

    def read(name: str) -> Dataset:
        asked.append(name)
        return doodles()

    judges = judges_of(read, tmp_path, context(told))
    for _ in range(3):
        with pytest.raises(JudgeUnavailable, match="an honest one"):
            judges("doodles")
    assert asked == ["doodles"]
    assert [one.phase for one in told[:2]] == ["training the judge of doodles"] * 2


def test_a_cancelled_job_stops_within_one_step_of_the_training(tmp_path: Path) -> None:
    steps: list[Progress] = []
    context = TrainingContext(
        torch.device("cpu"), 0, on_progress=steps.append, should_stop=lambda: len(steps) == 2
    )
    with pytest.raises(Stopped, match="training the judge of doodles at step 2 of 800"):
        judges_of(lambda _: doodles(), tmp_path, context)("doodles")


HASTY = Training(seed=101, steps=2)


@pytest.mark.usefixtures("undemanding")
def test_a_witness_is_trained_once_on_every_label_of_its_dataset(tmp_path: Path) -> None:
    steps = Steps()
    first = kept_feature_network(doodles(), tmp_path, HASTY, steps.told)
    assert steps == [("training the feature network", step, 2) for step in range(2)]
    again = kept_feature_network(doodles(), tmp_path, HASTY, steps.told)
    assert len(steps) == 2
    assert (again.version, again.labels) == (first.version, ("ring", "bar"))


@pytest.mark.usefixtures("undemanding")
def test_other_images_recipes_and_revisions_have_witnesses_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_feature_network(doodles(), tmp_path, HASTY)
    kept_feature_network(cut(doodles(), 100, 30), tmp_path, HASTY)
    kept_feature_network(doodles(), tmp_path, replace(HASTY, seed=1))
    monkeypatch.setattr("worker.jobs.feature_networks.REVISION", 0)
    kept_feature_network(doodles(), tmp_path, HASTY)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.usefixtures("undemanding")
@pytest.mark.parametrize(
    "damage",
    [
        lambda weights, recipe: weights.write_bytes(b"half"),
        lambda weights, recipe: recipe.write_bytes(b"{"),
        misshapen,
    ],
)
def test_a_damaged_witness_is_trained_anew(damage: Callable[[Path, Path], object], tmp_path: Path) -> None:
    first = kept_feature_network(doodles(), tmp_path, HASTY)
    [place] = tmp_path.iterdir()
    damage(place / "doodles.features.safetensors", place / "doodles.features.json")
    assert kept_feature_network(doodles(), tmp_path, HASTY).version == first.version
    assert list(tmp_path.iterdir()) == [place]


def test_a_witness_that_errs_too_often_is_none_and_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps()
    monkeypatch.setattr("worker.learning.judging.quality_gate.LEAST_ACCURACY", 1.01)
    for _ in range(2):
        with pytest.raises(
            Unavailable, match=r"the feature network trained on 'doodles' names [0-9.]+% of its real"
        ):
            kept_feature_network(doodles(), tmp_path, HASTY, steps.told)
    assert len(steps) == 2


def test_a_witness_whose_training_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    steps: list[Progress] = []
    context = TrainingContext(
        torch.device("cpu"), 0, on_progress=steps.append, should_stop=lambda: len(steps) == 2
    )
    with pytest.raises(Stopped, match="training the feature network at step 2 of 300"):
        feature_networks_of(lambda _: doodles(), tmp_path, context)("doodles")
    assert list(tmp_path.iterdir()) == []


def test_a_committed_witness_goes_before_and_without_images_there_is_none(tmp_path: Path) -> None:
    feature_networks = feature_networks_of(refusing, tmp_path, context([]))
    assert feature_networks("mnist") is load_feature_network("mnist")
    with pytest.raises(Unavailable, match="no images of doodles here"):
        feature_networks("doodles")
