"""Which judge measures a dataset: the committed one, else one trained here once and kept."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path

from service import durable
from worker.learning.datasets import Dataset, DatasetUnavailable
from worker.learning.judging.judge import (
    REVISION,
    Judge,
    JudgeUnavailable,
    is_committed,
    load_judge,
    read_judge,
)
from worker.learning.judging.quality_gate import balanced, refuse_too_small, refuse_too_wrong
from worker.learning.judging.report import Judges
from worker.learning.judging.train import recipe_of, trained
from worker.learning.judging.training_batches import Step, Training, unwatched
from worker.learning.strategy import TrainingContext

TRAINING = Training()


def judges_of(read: Callable[[str], Dataset], folder: Path, context: TrainingContext) -> Judges:
    """Finds the judge of a dataset by its name, once; one that is trained on the way reports to the context.

    `read` gives the dataset of a name, `folder` is where trained judges are kept. What is found raises
    JudgeUnavailable, as Judges do, and Stopped.
    """

    @cache
    def found(name: str) -> Judge | JudgeUnavailable:
        try:
            return (
                load_judge(name)
                if is_committed(name)
                else kept_judge(read(name), folder, TRAINING, context.step)
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
    place = folder / sha256(f"judge {REVISION} {dataset.sha256()} {asdict(training)}".encode()).hexdigest()
    try:
        judge = read_judge(dataset.name, place)
    except JudgeUnavailable:  # there is none yet, or it is damaged
        shutil.rmtree(place, ignore_errors=True)
        durable.create_folder(place, _files_of(balanced(dataset), training, step))
        judge = read_judge(dataset.name, place)
    refuse_too_wrong(judge)
    return judge


def _files_of(dataset: Dataset, training: Training, step: Step) -> dict[str, bytes]:
    """A judge trained now, by file name: its weights, and its recipe."""
    data = trained(dataset, training, step)
    recipe = json.dumps(recipe_of(data, dataset, training, step), indent=1) + "\n"
    return {f"{dataset.name}.safetensors": data, f"{dataset.name}.json": recipe.encode()}
