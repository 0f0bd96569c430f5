"""A judge for any dataset: trained once by the recipe of the committed ones, then kept in a folder."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

from torch import Tensor

from worker.learning.datasets import Dataset
from worker.learning.judging.judge import Judge, JudgeUnavailable, read_judge
from worker.learning.judging.lessons import Training
from worker.learning.judging.train import Step, recipe_of, trained, unwatched

LEAST_TRAIN, LEAST_TEST = 80, 20  # images a label; `digits`, whose judge is just good enough, has 139 and 34
LEAST_ACCURACY = 0.7  # a judge that errs more often says too much of itself and too little of what it judges
MOST_UNEQUAL = 4  # a label's images, in those of the rarest: else a batch may show but one label


def kept_judge(
    dataset: Dataset, folder: Path, training: Training | None = None, step: Step = unwatched
) -> Judge:
    """The judge of exactly these images and this recipe: the one in `folder`, else trained now and kept.

    Raises JudgeUnavailable, with the reason, where no honest judge can be had; and whatever `step` raises,
    which leaves nothing behind. Several processes may share the folder.
    """
    _refuse_too_small(dataset)
    training = training or Training()
    place = folder / sha256(f"{dataset.sha256()} {asdict(training)}".encode()).hexdigest()
    try:
        judge = read_judge(dataset.name, place)
    except JudgeUnavailable:  # there is none yet, or it is damaged
        shutil.rmtree(place, ignore_errors=True)
        _train(balanced(dataset), place, training, step)
        judge = read_judge(dataset.name, place)
    if judge.test_accuracy < LEAST_ACCURACY:
        raise JudgeUnavailable(
            f"the judge trained on {dataset.name!r} names {judge.test_accuracy:.1%} of its real test images "
            f"rightly, an honest one needs {LEAST_ACCURACY:.0%}"
        )
    return judge


def balanced(dataset: Dataset) -> Dataset:
    """The dataset without the surplus of labels that have many times the images of the rarest."""
    return replace(dataset, train=_evened(dataset.train), test=_evened(dataset.test))


def _evened(split: Mapping[str, Tensor]) -> dict[str, Tensor]:
    most = MOST_UNEQUAL * min(len(images) for images in split.values())
    return {label: images[:most] for label, images in split.items()}


def _refuse_too_small(dataset: Dataset) -> None:
    if len(dataset.labels) < 2:
        raise JudgeUnavailable(
            f"the dataset {dataset.name!r} has but one label, and a judge tells labels apart"
        )
    train, test = (min(len(images) for images in split.values()) for split in (dataset.train, dataset.test))
    if train < LEAST_TRAIN or test < LEAST_TEST:
        raise JudgeUnavailable(
            f"the dataset {dataset.name!r} is too small for an honest judge: a label has {train} train and "
            f"{test} test images, and needs {LEAST_TRAIN} and {LEAST_TEST}"
        )


def _train(dataset: Dataset, place: Path, training: Training, step: Step) -> None:
    """Both files of the judge appear together and durable, in a folder named last; or none does."""
    data = trained(dataset, training, step)
    recipe = json.dumps(recipe_of(data, dataset, training, step), indent=1) + "\n"
    place.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".judge-", dir=place.parent))
    making.chmod(0o755)  # workers may run as different users
    try:
        _write(making / f"{dataset.name}.safetensors", data)
        _write(making / f"{dataset.name}.json", recipe.encode())
        _fsync(making)
        os.rename(making, place)
        _fsync(place.parent)
    except OSError as error:
        if error.errno not in (
            errno.ENOTEMPTY,
            errno.EEXIST,
        ):  # another process was quicker: its judge is as good
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
