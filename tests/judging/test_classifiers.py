"""A dataset without a committed judge or feature network gets one that is trained once and kept."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from service.registry.classifier_files import ClassifierFolder
from worker.jobs import classifiers
from worker.jobs.classifiers import (
    FEATURE_NETWORKS,
    JUDGES,
    MANY_IMAGES,
    ClassifierSource,
)
from worker.learning.datasets import Dataset, DatasetUnavailable, WrongFiles, load
from worker.learning.judging.classifiers import (
    WEIGHTS,
    C,
    ClassifierKind,
    ClassifierUnavailable,
    is_committed,
    load_committed,
    read_classifier,
)
from worker.learning.judging.feature_network import FEATURE_NETWORK, FeatureNetwork, load_feature_network
from worker.learning.judging.judge import JUDGE, REJECT, Judge, load_judge
from worker.learning.judging.quality_gate import LARGEST_IMBALANCE, QualityGate, balanced
from worker.learning.judging.train import MEASUREMENTS
from worker.learning.judging.training_batches import Training
from worker.learning.strategy import Progress, Stopped, TrainingContext

SHORT = Training(steps=60)
TWO_STEPS = Training(steps=2)
ANY_ACCURACY = QualityGate(test_accuracy=0.0)
PERFECT_AND_MORE = QualityGate(test_accuracy=1.01)

TRAINED_JUDGE: ClassifierSource[Judge] = replace(JUDGES, training=SHORT)
QUICK_JUDGE: ClassifierSource[Judge] = replace(JUDGES, training=TWO_STEPS, gate=ANY_ACCURACY)
QUICK_FEATURE_NETWORK: ClassifierSource[FeatureNetwork] = replace(
    FEATURE_NETWORKS, training=TWO_STEPS, gate=ANY_ACCURACY
)
QUICK: list[ClassifierSource[Any]] = [QUICK_JUDGE, QUICK_FEATURE_NETWORK]
KINDS: list[ClassifierKind[Any]] = [JUDGE, FEATURE_NETWORK]

each_source = pytest.mark.parametrize("source", QUICK, ids=lambda source: source.kind.name)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def find_or_train(
    source: ClassifierSource[C], dataset: Dataset, folder: Path, *context: TrainingContext
) -> C:
    return classifiers.find_or_train(source, dataset, ClassifierFolder(folder), *context)


def classifier_finder(
    source: ClassifierSource[C], read: Callable[[str], Dataset], folder: Path, context: TrainingContext
) -> Callable[[str], C]:
    return classifiers.classifier_finder(source, read, ClassifierFolder(folder), context)


@lru_cache
def doodles() -> Dataset:
    """Zeros and ones under other names: easily told apart."""
    digits = load("digits", Path())
    train, test = ({"ring": split["0"], "bar": split["1"]} for split in (digits.train, digits.test))
    return Dataset("doodles", ("ring", "bar"), digits.image_shape, train, test)


def with_last_label_cut(train: int, test: int) -> Dataset:
    dataset, last = doodles(), doodles().labels[-1]
    return replace(
        dataset,
        train={**dataset.train, last: dataset.train[last][:train]},
        test={**dataset.test, last: dataset.test[last][:test]},
    )


def with_one_label() -> Dataset:
    dataset = doodles()
    return replace(
        dataset, labels=("ring",), train={"ring": dataset.train["ring"]}, test={"ring": dataset.test["ring"]}
    )


def with_one_pixel_changed() -> Dataset:
    changed = doodles().train["bar"].clone()
    changed[0, 0] ^= 1
    return replace(doodles(), train={**doodles().train, "bar": changed})


class Steps(list[tuple[str, int, int]]):
    """The steps that a training reported."""

    @property
    def context(self) -> TrainingContext:
        """A context that reports to this list."""
        return reporting_to(lambda phase, step, total: self.append((phase, step, total)))


def reporting_to(report: Callable[[str, int, int], None]) -> TrainingContext:
    """A context that reports (phase, step, total)."""
    return TrainingContext(
        torch.device("cpu"), 0, on_progress=lambda one: report(one.phase, one.step, one.total)
    )


def context(progress: list[Progress]) -> TrainingContext:
    return TrainingContext(torch.device("cpu"), 0, on_progress=progress.append)


def without_images(name: str) -> Dataset:
    raise DatasetUnavailable(f"no images of {name} here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the trained judge of the doodles."""
    folder = tmp_path_factory.mktemp("classifiers")
    find_or_train(TRAINED_JUDGE, doodles(), folder)
    return folder


def test_a_trained_judge_names_its_labels_and_rejects_noise(folder: Path) -> None:
    judge = find_or_train(TRAINED_JUDGE, doodles(), folder)
    images = doodles().test["bar"].float() / 255
    assert judge.labels == ("ring", "bar")
    assert judge.test_accuracy > 0.9
    assert (judge.classify(images) == 1).float().mean() > 0.8
    assert (judge.classify(torch.rand(100, 784)) == REJECT).float().mean() > 0.9


def test_a_trained_judge_says_which_figures_miss_their_threshold(folder: Path) -> None:
    judge = find_or_train(TRAINED_JUDGE, doodles(), folder)
    [place] = folder.iterdir()
    figures = json.loads((place / "doodles.json").read_text())["figures"]
    assert judge.missed == tuple(name for name, one in figures.items() if one["verdict"] == "missed") != ()
    assert load_judge("mnist").missed == ()


@each_source
def test_a_classifier_is_trained_once(source: ClassifierSource[Any], tmp_path: Path) -> None:
    first = find_or_train(source, doodles(), tmp_path)
    steps = Steps()
    second = find_or_train(source, doodles(), tmp_path, steps.context)
    assert steps == []
    assert (second.version, second.labels) == (first.version, ("ring", "bar"))


@each_source
def test_other_images_other_trainings_and_other_revisions_have_classifiers_of_their_own(
    source: ClassifierSource[Any], tmp_path: Path
) -> None:
    find_or_train(source, doodles(), tmp_path)
    find_or_train(source, with_one_pixel_changed(), tmp_path)
    find_or_train(replace(source, training=replace(source.training, seed=1)), doodles(), tmp_path)
    find_or_train(replace(source, kind=replace(source.kind, revision=0)), doodles(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_judge_of_thousands_of_images_a_label_is_trained_longer_and_with_blur_as_only_augmentation() -> (
    None
):
    images = doodles().train["ring"]
    many = {label: images[:1].expand(MANY_IMAGES, -1) for label in doodles().labels}
    less = many | {"bar": images[:1].expand(MANY_IMAGES - 1, -1)}
    assert JUDGES.training_for(replace(doodles(), train=less)) == JUDGES.training == Training()
    training = JUDGES.training_for(replace(doodles(), train=many))
    assert training.only_blurred
    assert training.steps > Training().steps
    assert FEATURE_NETWORKS.training_for(replace(doodles(), train=many)) == FEATURE_NETWORKS.training


def test_trainings_with_other_augmentations_have_classifiers_of_their_own(tmp_path: Path) -> None:
    find_or_train(QUICK_JUDGE, doodles(), tmp_path)
    blurred = replace(QUICK_JUDGE, training=replace(TWO_STEPS, only_blurred=True))
    find_or_train(blurred, doodles(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("source", "kind", "file"),
    [
        (QUICK_JUDGE, "judge", "doodles"),
        (QUICK_FEATURE_NETWORK, "witness", "doodles.witness"),  # plain-words: allow
    ],
)
def test_a_classifier_kept_by_release_0_1_0_is_not_trained_again(
    source: ClassifierSource[Any], kind: str, file: str, tmp_path: Path
) -> None:
    """The name of its folder is a hash of what that release wrote, and so are the names of its files."""
    expected = find_or_train(source, doodles(), tmp_path)
    [place] = tmp_path.iterdir()
    one = source.training
    training = (
        f"{{'seed': {one.seed}, 'steps': 2, 'real': 216, 'impostors': 72, "  # plain-words: allow
        "'untouched': 0.2, 'veiled': 0.15, 'rate': 0.004, 'decay': 0.02}"
    )
    assert place.name == sha256(f"{kind} 1 {doodles().sha256()} {training}".encode()).hexdigest()
    for path in list(place.iterdir()):
        path.rename(place / f"{file}{path.suffix}")
    steps = Steps()
    assert find_or_train(source, doodles(), tmp_path, steps.context).version == expected.version
    assert steps == []


def test_every_step_of_training_and_measuring_a_judge_is_reported(tmp_path: Path) -> None:
    steps = Steps()
    find_or_train(QUICK_JUDGE, doodles(), tmp_path, steps.context)
    assert steps[:2] == [("training judge", step, 2) for step in range(2)]
    assert steps[2:] == [("measuring judge", step, MEASUREMENTS) for step in range(MEASUREMENTS)]


def test_every_step_of_training_a_feature_network_is_reported(tmp_path: Path) -> None:
    steps = Steps()
    find_or_train(QUICK_FEATURE_NETWORK, doodles(), tmp_path, steps.context)
    assert steps == [("training feature network", step, 2) for step in range(2)]


@each_source
def test_a_classifier_that_errs_too_often_is_refused_and_not_trained_again(
    source: ClassifierSource[Any], tmp_path: Path
) -> None:
    steps, demanding = Steps(), replace(source, gate=PERFECT_AND_MORE)
    message = rf"the {source.kind.name} trained on 'doodles' classifies [0-9.]+% of its real test images"
    with pytest.raises(ClassifierUnavailable, match=message):
        find_or_train(demanding, doodles(), tmp_path)
    with pytest.raises(ClassifierUnavailable, match=message):
        find_or_train(demanding, doodles(), tmp_path, steps.context)
    assert steps == []


@each_source
def test_a_training_that_is_stopped_leaves_nothing_behind(
    source: ClassifierSource[Any], tmp_path: Path
) -> None:
    def stop(phase: str, step: int, total: int) -> None:
        if phase.startswith("training") and step == 1:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        find_or_train(source, doodles(), tmp_path, reporting_to(stop))
    assert list(tmp_path.iterdir()) == []


def test_a_judge_stopped_while_it_is_measured_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(phase: str, step: int, total: int) -> None:
        if phase.startswith("measuring") and step == 1:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        find_or_train(QUICK_JUDGE, doodles(), tmp_path, reporting_to(stop))
    assert list(tmp_path.iterdir()) == []


@each_source
def test_a_crash_while_it_is_written_leaves_no_half_a_classifier(
    source: ClassifierSource[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(descriptor: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="no space"):
            find_or_train(source, doodles(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def replace_weights_by_another_architecture(weights: Path, recipe: Path) -> None:
    weights.write_bytes(save({"0.weight": torch.zeros(2, 3)}))
    fields = json.loads(recipe.read_text()) | {"weights_sha256": sha256(weights.read_bytes()).hexdigest()}
    recipe.write_text(json.dumps(fields))


DAMAGES: list[Callable[[Path, Path], object]] = [
    lambda weights, recipe: weights.write_bytes(b"half"),
    lambda weights, recipe: recipe.write_bytes(b"{"),
    lambda weights, recipe: recipe.write_bytes(b"{}"),
    lambda weights, recipe: recipe.unlink(),
    replace_weights_by_another_architecture,
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ClassifierSource[Any]], tuple[Path, str]]:
    """A function that returns the folder of a classifier of doodles, and its version. It is trained once."""

    @lru_cache
    def train(kind: str) -> tuple[Path, str]:
        (source,) = (one for one in QUICK if one.kind.name == kind)
        folder = tmp_path_factory.mktemp("trained")
        return folder, find_or_train(source, doodles(), folder).version

    return lambda source: train(source.kind.name)


@each_source
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_classifier_is_trained_anew(
    source: ClassifierSource[Any],
    damage: Callable[[Path, Path], object],
    trained: Callable[[ClassifierSource[Any]], tuple[Path, str]],
    tmp_path: Path,
) -> None:
    folder, version = trained(source)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    [place] = tmp_path.iterdir()
    damage(place / source.kind.weights_file("doodles"), place / source.kind.recipe_file("doodles"))
    assert find_or_train(source, doodles(), tmp_path).version == version
    assert list(tmp_path.iterdir()) == [place]


@each_source
def test_of_two_that_are_trained_at_once_the_first_is_kept_and_used_by_both(
    source: ClassifierSource[Any], tmp_path: Path
) -> None:
    versions: list[str] = []

    def race(phase: str, step: int, total: int) -> None:
        if not versions:
            versions.append("in training")
            versions[0] = find_or_train(source, doodles(), tmp_path).version

    assert [find_or_train(source, doodles(), tmp_path, reporting_to(race)).version] == versions
    assert len(list(tmp_path.iterdir())) == 1


@each_source
@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (with_last_label_cut(79, 20), "79 train and 20 test"),
        (with_last_label_cut(80, 19), "80 train and 19 test"),
        (with_one_label(), "only one label"),
    ],
)
def test_a_dataset_that_is_too_small_has_no_classifier(
    source: ClassifierSource[Any], dataset: Dataset, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ClassifierUnavailable, match=reason):
        find_or_train(source, dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_plentiful_label_does_not_drown_a_rare_one() -> None:
    images = torch.zeros(1000, 784, dtype=torch.uint8)
    train, test = {"plenty": images, "rare": images[:90]}, {"plenty": images[:50], "rare": images[:30]}
    dataset = balanced(Dataset("x", ("plenty", "rare"), (28, 28), train, test))
    assert [len(one) for one in dataset.train.values()] == [90 * LARGEST_IMBALANCE, 90]
    assert [len(one) for one in dataset.test.values()] == [50, 30]


def test_a_committed_classifier_goes_first_and_needs_no_images(tmp_path: Path) -> None:
    judges = classifier_finder(JUDGES, without_images, tmp_path, context([]))
    feature_networks = classifier_finder(FEATURE_NETWORKS, without_images, tmp_path, context([]))
    assert judges("digits") is load_judge("digits")
    assert feature_networks("mnist") is load_feature_network("mnist")


@each_source
def test_a_committed_classifier_does_not_serve_where_the_files_are_those_of_another_dataset(
    source: ClassifierSource[Any], tmp_path: Path
) -> None:
    def with_wrong_files(name: str) -> Dataset:
        raise WrongFiles(f"the files of {name} are others")

    find = classifier_finder(source, with_wrong_files, tmp_path, context([]))
    with pytest.raises(ClassifierUnavailable, match=r"no .* for 'mnist': the files of mnist are others"):
        find("mnist")


@each_source
def test_other_images_under_the_name_of_a_committed_dataset_get_a_classifier_of_their_own(
    source: ClassifierSource[Any], tmp_path: Path
) -> None:
    name = "digits" if source.kind is JUDGES.kind else "mnist"
    others = replace(doodles(), name=name)
    found = classifier_finder(source, lambda _: others, tmp_path, context([]))(name)
    assert found.labels == others.labels
    assert found.version != load_committed(source.kind, name).version


def test_the_images_that_a_committed_classifier_was_trained_on_are_served_by_it(tmp_path: Path) -> None:
    find = classifier_finder(JUDGES, lambda name: load(name, tmp_path), tmp_path, context([]))
    assert find("digits") is load_judge("digits")


@each_source
def test_without_images_a_dataset_has_no_classifier(source: ClassifierSource[Any], tmp_path: Path) -> None:
    find = classifier_finder(source, without_images, tmp_path, context([]))
    with pytest.raises(ClassifierUnavailable, match="no images of doodles here"):
        find("doodles")


def test_an_upload_may_have_a_name_that_a_committed_file_has(tmp_path: Path) -> None:
    """`mnist.features.json` is the recipe of a feature network, and no judge's."""
    assert (WEIGHTS / "mnist.features.json").exists()
    judges = classifier_finder(QUICK_JUDGE, lambda name: replace(doodles(), name=name), tmp_path, context([]))
    assert judges("mnist.features").labels == ("ring", "bar")


@each_kind
def test_what_is_committed_under_the_name_of_an_upload_is_not_its_classifier(
    kind: ClassifierKind[Any], tmp_path: Path
) -> None:
    for dataset in ("doodles", "digits"):
        (tmp_path / kind.recipe_file(dataset)).write_text("{}")
    assert [is_committed(kind, dataset, tmp_path) for dataset in ("doodles", "digits")] == [False, True]


@each_source
def test_a_job_reads_a_dataset_once_even_if_it_has_no_classifier(
    source: ClassifierSource[Any], tmp_path: Path
) -> None:
    names: list[str] = []
    progress: list[Progress] = []

    def read(name: str) -> Dataset:
        names.append(name)
        return doodles()

    find = classifier_finder(replace(source, gate=PERFECT_AND_MORE), read, tmp_path, context(progress))
    for _ in range(3):
        with pytest.raises(ClassifierUnavailable, match="of its real test images"):
            find("doodles")
    assert names == ["doodles"]
    assert [one.phase for one in progress[:2]] == [f"training {source.kind.name}"] * 2


@each_source
def test_a_cancelled_job_stops_within_one_step_of_the_training(
    source: ClassifierSource[Any], tmp_path: Path
) -> None:
    steps: list[Progress] = []
    context = TrainingContext(
        torch.device("cpu"), 0, on_progress=steps.append, should_stop=lambda: len(steps) == 2
    )
    long = replace(source, training=Training(steps=300))
    with pytest.raises(Stopped, match=rf"training {source.kind.name}.* at step 2 of 300"):
        classifier_finder(long, lambda _: doodles(), tmp_path, context)("doodles")
    assert list(tmp_path.iterdir()) == []


@each_kind
def test_a_dataset_without_a_classifier_says_which_command_trains_one(
    kind: ClassifierKind[Any], tmp_path: Path
) -> None:
    with pytest.raises(ClassifierUnavailable, match=f"python -m {kind.command} --dataset letters"):
        read_classifier(kind, "letters", tmp_path)


@pytest.mark.parametrize(("kind", "dataset"), [(JUDGE, "digits"), (FEATURE_NETWORK, "mnist")])
def test_one_altered_byte_of_the_weights_is_refused(
    kind: ClassifierKind[Any], dataset: str, tmp_path: Path
) -> None:
    for file in (kind.weights_file(dataset), kind.recipe_file(dataset)):
        shutil.copy(WEIGHTS / file, tmp_path)
    read_classifier(kind, dataset, tmp_path)
    weights = tmp_path / kind.weights_file(dataset)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ClassifierUnavailable, match="sha256"):
        read_classifier(kind, dataset, tmp_path)
