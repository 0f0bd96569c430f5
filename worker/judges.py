"""Which judge measures a dataset: the committed one, else one trained here once and kept."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path

from service.registry.artifacts import fsync_folder
from worker.learning.datasets import Dataset, DatasetUnavailable
from worker.learning.judging.honest import balanced, refuse_too_small, refuse_too_wrong
from worker.learning.judging.judge import Judge, JudgeUnavailable, is_committed, load_judge, read_judge
from worker.learning.judging.lessons import Training
from worker.learning.judging.report import Judges
from worker.learning.judging.train import Step, recipe_of, trained, unwatched
from worker.learning.strategy import Workbench

TRAINING = Training()


def judges_of(read: Callable[[str], Dataset], folder: Path, bench: Workbench) -> Judges:
    """Finds the judge of a dataset by its name, once; one that is trained on the way reports to the bench.

    `read` gives the dataset of a name, `folder` is where trained judges are kept. What is found raises
    JudgeUnavailable, as Judges do, and Stopped.
    """

    @cache
    def found(name: str) -> Judge | JudgeUnavailable:
        try:
            return (
                load_judge(name)
                if is_committed(name)
                else kept_judge(read(name), folder, TRAINING, bench.step)
            )
        except JudgeUnavailable as error:
            return error
        except DatasetUnavailable as error:
            return JudgeUnavailable(f"there is no judge for {name!r}: {error}")

    def judge_of(name: str) -> Judge:
        judge = found(name)
        if isinstance(judge, JudgeUnavailable):
            raise judge
        return judge

    return judge_of


def kept_judge(dataset: Dataset, folder: Path, training: Training, step: Step = unwatched) -> Judge:
    """The judge of exactly these images and this recipe: the one in `folder`, else trained now and kept.

    Raises JudgeUnavailable, with the reason, where no honest judge can be had; and whatever `step` raises,
    which leaves nothing behind. Several processes may share the folder.
    """
    refuse_too_small(dataset)
    place = folder / sha256(f"{dataset.sha256()} {asdict(training)}".encode()).hexdigest()
    try:
        judge = read_judge(dataset.name, place)
    except JudgeUnavailable:  # there is none yet, or it is damaged
        shutil.rmtree(place, ignore_errors=True)
        _train(balanced(dataset), place, training, step)
        judge = read_judge(dataset.name, place)
    refuse_too_wrong(judge)
    return judge


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
        fsync_folder(making)
        os.rename(making, place)
        fsync_folder(place.parent)
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
