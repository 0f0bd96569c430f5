"""Which judge measures a dataset: the committed one, else one trained here once and kept."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from worker.learning.datasets import Dataset, DatasetUnavailable
from worker.learning.judging.judge import Judge, JudgeUnavailable, is_committed, load_judge
from worker.learning.judging.kept import kept_judge
from worker.learning.judging.lessons import Training
from worker.learning.judging.report import Judges
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
