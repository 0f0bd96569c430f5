"""Find the judge or the feature network of a dataset: load a committed one, or train it once and store it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Generic

from service.registry.classifier_files import ClassifierFiles
from worker.learning.datasets import Dataset, DatasetUnavailable, WrongFiles
from worker.learning.judging.classifier_training import NOT_RESUMED
from worker.learning.judging.classifiers import (
    C,
    ClassifierKind,
    ClassifierUnavailable,
    committed_data,
    is_committed,
    load_committed,
    read_classifier,
)
from worker.learning.judging.feature_network import (
    FEATURE_NETWORK,
    SHORT_TRAINING,
    FeatureNetwork,
    train_feature_network,
)
from worker.learning.judging.judge import JUDGE, Judge
from worker.learning.judging.quality_gate import QualityGate, balanced
from worker.learning.judging.train import train_judge
from worker.learning.judging.training_batches import Training
from worker.learning.strategy import TrainingContext

NAMES_IN_RELEASE_0_1 = {"judge": "judge", "feature network": "witness"}  # plain-words: allow
"""{kind of classifier: what release 0.1.0 called it in the names of folders and files}."""

MANY_IMAGES = 2000
"""So many train images of a label show by themselves what augmentations add where there are fewer."""


@dataclass(frozen=True)
class ClassifierSource(Generic[C]):
    """How a classifier of one kind is trained and checked for a dataset that has no committed one."""

    kind: ClassifierKind[C]
    train: Callable[[Dataset, Training, TrainingContext], dict[str, bytes]]
    training: Training
    gate: QualityGate = field(default_factory=QualityGate)
    training_on_many: Training | None = None
    """How one is trained on MANY_IMAGES or more of each label; None: as on fewer."""

    def training_for(self, dataset: Dataset) -> Training:
        """Return how a classifier of this dataset is trained."""
        fewest = min(map(len, dataset.train.values()))
        return self.training_on_many if self.training_on_many and fewest >= MANY_IMAGES else self.training


JUDGES: ClassifierSource[Judge] = ClassifierSource(
    JUDGE, train_judge, Training(), training_on_many=Training(steps=1200, only_blurred=True)
)
FEATURE_NETWORKS: ClassifierSource[FeatureNetwork] = ClassifierSource(
    FEATURE_NETWORK, train_feature_network, SHORT_TRAINING
)


def classifier_finder(
    source: ClassifierSource[C],
    read_dataset: Callable[[str], Dataset],
    trained: ClassifierFiles,
    context: TrainingContext,
) -> Callable[[str], C]:
    """Return a function that finds the classifier of a dataset by the dataset's name.

    It looks up a dataset only once, and raises ClassifierUnavailable for one that has no classifier. The
    committed classifier of a dataset serves the images it was trained on, and serves where there are none;
    for others under the same name, one is trained. Where the dataset has the files of another one, or damaged
    ones, none serves.
    A training reports its steps to the context, and raises Stopped if the context has to stop.

    read_dataset: reads a dataset by its name; raises DatasetUnavailable.
    trained: the classifiers that were trained here.
    """

    @cache
    def find_once(name: str) -> C | ClassifierUnavailable:
        try:
            if not is_committed(source.kind, name):
                return find_or_train(source, read_dataset(name), trained, context)
            committed = load_committed(source.kind, name)
            try:
                dataset = read_dataset(name)
            except WrongFiles:  # it would measure what was learned from images of another dataset
                raise
            except DatasetUnavailable:  # there are no images that it could be the wrong one for
                return committed
            if dataset.sha256() == committed_data(source.kind, name):
                return committed
            return find_or_train(source, dataset, trained, context)
        except ClassifierUnavailable as error:
            return error
        except DatasetUnavailable as error:
            return ClassifierUnavailable(f"there is no {source.kind.name} for {name!r}: {error}")

    def find(name: str) -> C:
        found = find_once(name)
        if isinstance(found, ClassifierUnavailable):
            raise found
        return found

    return find


def find_or_train(
    source: ClassifierSource[C],
    dataset: Dataset,
    trained: ClassifierFiles,
    context: TrainingContext = NOT_RESUMED,
) -> C:
    """Read the classifier of exactly these images and this training, or train it.

    Raises ClassifierUnavailable, with the reason, if the dataset or the classifier fails the quality gate.
    A newly trained one is stored, for other processes too. A training reports its steps to the context and
    resumes from its snapshots. If it raises Stopped, nothing is stored.
    """
    source.gate.check_dataset(dataset)
    name = _name(source, dataset)
    place = trained.find(name)
    if isinstance(place, Path):
        _rename_files_of_release_0_1(source.kind, dataset.name, place)
    try:
        classifier = read_classifier(source.kind, dataset.name, place)
    except ClassifierUnavailable:  # it was never trained, or it is damaged
        trained.remove(name)
        files = context.aside(
            f"training {source.kind.name} of {dataset.name}",
            lambda: source.train(balanced(dataset), source.training_for(dataset), context),
        )
        trained.add(name, files)
        classifier = read_classifier(source.kind, dataset.name, trained.find(name))
    source.gate.check_accuracy(source.kind.name, dataset.name, classifier.test_accuracy)
    return classifier


def _rename_files_of_release_0_1(kind: ClassifierKind[C], dataset: str, place: Path) -> None:
    """Rename the files of a classifier that release 0.1.0 stored in the folder to the current names."""
    old = f"{dataset}.{NAMES_IN_RELEASE_0_1[kind.name]}"
    for suffix, name in ((".safetensors", kind.weights_file(dataset)), (".json", kind.recipe_file(dataset))):
        with suppress(FileNotFoundError):  # it has the current names, or another process renamed it
            (place / f"{old}{suffix}").rename(place / name)


def _name(source: ClassifierSource[C], dataset: Dataset) -> str:
    """Return a hash of everything that the classifier depends on.

    The keys are those of release 0.1.0, so that classifiers which it trained are still found.
    """
    used = source.training_for(dataset)
    training: dict[str, float] = {
        "seed": used.seed,
        "steps": used.steps,
        "real": used.real,
        "impostors": used.negatives,  # plain-words: allow
        "untouched": used.unaugmented,
        "veiled": used.noisy_background,
        "rate": used.learning_rate,
        "decay": used.weight_decay,
    }
    if used.only_blurred:
        training["only_blurred"] = True
    key = f"{NAMES_IN_RELEASE_0_1[source.kind.name]} {source.kind.revision} {dataset.sha256()} {training}"
    return sha256(key.encode()).hexdigest()
