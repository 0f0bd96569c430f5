"""Which witness a dataset is measured with: the committed one, else one trained here once and kept."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path

from worker.keeping import keep
from worker.learning.datasets import Dataset, DatasetUnavailable
from worker.learning.judging.full import Witnesses
from worker.learning.judging.honest import balanced, refuse_wrong_witness
from worker.learning.judging.lessons import Step, Training, unwatched
from worker.learning.judging.witness import (
    BRIEF,
    REVISION,
    Witness,
    WitnessUnavailable,
    files_of,
    is_committed,
    load_witness,
    read_witness,
)
from worker.learning.strategy import Unavailable, Workbench


def witnesses_of(read: Callable[[str], Dataset], folder: Path, bench: Workbench) -> Witnesses:
    """Finds the witness of a dataset by its name, once; one that is trained on the way reports to the bench.

    `read` gives the dataset of a name, `folder` is where trained witnesses are kept. What is found raises
    Unavailable, as Witnesses do, and Stopped.
    """

    @cache
    def found(name: str) -> Witness:
        if is_committed(name):
            return load_witness(name)
        try:
            return kept_witness(read(name), folder, BRIEF, bench.step)
        except DatasetUnavailable as error:
            raise Unavailable(f"there is no witness for {name!r}: {error}") from error

    return found


def kept_witness(dataset: Dataset, folder: Path, training: Training, step: Step = unwatched) -> Witness:
    """The witness of exactly these images and this recipe: the one in `folder`, else trained now and kept.

    Raises Unavailable where it errs too often, and whatever `step` raises, which leaves nothing behind.
    Several processes may share the folder.
    """
    key = f"witness {REVISION} {dataset.sha256()} {asdict(training)}"
    place = folder / sha256(key.encode()).hexdigest()
    try:
        witness = read_witness(dataset.name, place)
    except WitnessUnavailable:  # there is none yet, or it is damaged
        shutil.rmtree(place, ignore_errors=True)
        keep(files_of(balanced(dataset), training, step), place)
        witness = read_witness(dataset.name, place)
    assert witness.test_accuracy is not None
    refuse_wrong_witness(dataset.name, witness.test_accuracy)
    return witness
