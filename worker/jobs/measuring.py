"""Measure the quick report on a candidate, and the full report on a published version."""

from collections.abc import Callable, Mapping
from importlib.resources.abc import Traversable
from itertools import count

from torch import Tensor

from reports import Evaluated, ExampleCounts, Report
from service.registry.version_files import MANIFEST
from worker.jobs.attempt import Attempt
from worker.jobs.classifiers import FEATURE_NETWORKS, JUDGES, ClassifierSource, classifier_finder
from worker.jobs.inputs import Work, load_dataset
from worker.learning import drawing
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.datasets import Dataset, DatasetUnavailable
from worker.learning.judging.classifiers import C
from worker.learning.judging.evaluation import FullParams
from worker.learning.judging.full_report import measure_full_report
from worker.learning.judging.quick_report import measure_quick_report
from worker.learning.strategy import Examples, TrainingContext, Unavailable

DRAWS_PER_LABEL = 1000
"""How many images of each label the quick report draws."""


def count_examples(examples: Examples) -> ExampleCounts:
    """Return how many real images of each label the job was given."""
    counts = {name: len(images) for name, images in examples.images.items()}
    return ExampleCounts(dataset=examples.dataset, labels=counts)


def measure_candidate(
    checkpoint: Checkpoint, work: Work, attempt: Attempt, context: TrainingContext
) -> Report:
    """Return the quick report on every label that the checkpoint knows, forgotten ones included."""
    drawn, labels_in_all = count(), sum(len(one.labels) for one in (checkpoint, *checkpoint.isolated))

    def draw(checkpoint: Checkpoint, label: str, n: int, seed: int) -> Tensor:
        context.step("judging", next(drawn), labels_in_all)
        return drawing.draw(checkpoint, label, n, seed)

    def read_train_images(label: Label) -> Tensor:  # not the archive's: these are no cost of the training
        try:
            dataset = attempt.with_retries(lambda: load_dataset(label.dataset, work, attempt.worker_context))
            return dataset.images("train", label.source)
        except DatasetUnavailable as error:
            raise Unavailable(str(error)) from error

    return measure_quick_report(
        checkpoint,
        _classifier_finder(JUDGES, work, attempt, context),
        n=DRAWS_PER_LABEL,
        seed=context.seed,
        draw=draw,
        held_out=context.archive.held_out,
        train_images=read_train_images,
        context=context,
    )


def measure_version(work: Work, attempt: Attempt, context: TrainingContext) -> Report:
    """Return the full report on the base version, which names the version by the hash of its manifest."""
    assert work.base is not None
    params = FullParams.model_validate(work.job.params)
    report = measure_full_report(
        work.checkpoint,
        _classifier_finder(JUDGES, work, attempt, context),
        _classifier_finder(FEATURE_NETWORKS, work, attempt, context),
        context,
        params,
        draw=drawing.draw,
    )
    evaluated = Evaluated(
        version=work.base.number,
        manifest_sha256=work.base.files[MANIFEST]["sha256"],
        params=work.job.params,
        seed=work.job.seed,
    )
    return report.model_copy(update={"evaluated": evaluated})


def _classifier_finder(
    source: ClassifierSource[C], work: Work, attempt: Attempt, context: TrainingContext
) -> Callable[[str], C]:
    """Return a function that finds the classifier of a dataset by its name, for this job."""

    def read_dataset(name: str) -> Dataset:
        return attempt.with_retries(lambda: load_dataset(name, work, attempt.worker_context))

    return classifier_finder(source, read_dataset, _RetriedFiles(attempt), context)


class _RetriedFiles:
    """The trained classifiers, waited for while the artifact store fails."""

    def __init__(self, attempt: Attempt) -> None:
        self._files, self._with_retries = attempt.worker_context.judges, attempt.with_retries

    def find(self, name: str) -> Traversable:
        return self._with_retries(lambda: self._files.find(name))

    def add(self, name: str, files: Mapping[str, bytes]) -> None:
        self._with_retries(lambda: self._files.add(name, files))

    def remove(self, name: str) -> None:
        self._with_retries(lambda: self._files.remove(name))
