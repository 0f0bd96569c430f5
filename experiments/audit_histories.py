"""The networks that `experiments.audit` starts from: what they learned, in which jobs, from which images."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path

from experiments.running import Cache
from experiments.training_setup import CPU, LEARN_STRATEGIES, DatasetArchive
from worker.jobs.classifiers import JUDGES
from worker.learning import datasets
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.classifiers import (
    C,
    ClassifierKind,
    is_committed,
    load_committed,
    read_classifier,
)
from worker.learning.judging.feature_network import (
    FEATURE_NETWORK,
    TRAINING,
    FeatureNetwork,
    train_feature_network,
)
from worker.learning.judging.judge import JUDGE, Judge
from worker.learning.judging.matched_references import Job, StandInArchive, run_job
from worker.learning.judging.train import train_judge
from worker.learning.networks import blank
from worker.learning.strategy import Archive, TrainingContext


@dataclass(frozen=True)
class StandIn:
    """A label whose images a matched reference learns in place of another label's."""

    label: str
    """The label that the reference never sees. The stand-in has its name and its slot in the network."""
    name: str
    """The stand-in's own name in the dataset."""


@dataclass(frozen=True)
class History:
    """What a network learned before it forgets a label."""

    jobs: tuple[tuple[str, ...], ...]
    """The labels that each job learns."""
    stand_ins: tuple[str, ...]
    """The labels of the dataset that no job learns."""

    def stand_in(self, label: str, number: int) -> StandIn:
        """Return the stand-in for a label in the matched reference of that number."""
        return StandIn(label, self.stand_ins[number % len(self.stand_ins)])


def history_of(label: str, labels: Sequence[str]) -> History:
    """Return the history of the network that is to forget the label: five labels, then three more.

    labels: those of the dataset, at least ten. Two of the first ten are left as stand-ins. The labels that
    are stand-ins in the first history are learned in another one, so that they can be forgotten, too.
    """
    if label not in labels[8:10]:
        return History((tuple(labels[:5]), tuple(labels[5:8])), tuple(labels[8:10]))
    return History((tuple(labels[5:10]), tuple(labels[:3])), tuple(labels[3:5]))


@dataclass(frozen=True)
class Setting:
    """What an audit is about: the dataset, the folder of the datasets, and the networks' architecture."""

    dataset: str
    data: Path
    architecture: str = "mlp"

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.architecture}"

    def load(self) -> datasets.Dataset:
        return _load(self.dataset, self.data)

    def load_auxiliary(self) -> datasets.Dataset:
        """Load another dataset: networks are trained on it to see whether a forgotten label comes back."""
        return _load("mnist" if self.dataset == "fashion_mnist" else "fashion_mnist", self.data)

    def context(self, seed: int, stand_in: StandIn | None = None) -> TrainingContext:
        """Return the context of a job. With a stand-in, nothing can read the images of its label."""
        archive: Archive = DatasetArchive(self.load(), self.blank(seed))
        if stand_in is not None:
            archive = StandInArchive(archive, stand_in.label, Label(stand_in.name, 0, self.dataset))
        return TrainingContext(CPU, seed, archive)

    def blank(self, seed: int) -> Checkpoint:
        """Return a network with random weights and no labels."""
        return blank({"architecture": self.architecture}, seed=seed)

    def judge(self, cache: Cache) -> Judge:
        """Return the dataset's committed judge; if it has none, one that is trained once for each cache.

        It is trained as a worker trains it.
        """
        return _classifier(
            JUDGE, self, lambda dataset: train_judge(dataset, JUDGES.training_for(dataset)), cache
        )

    def feature_network(self, cache: Cache) -> FeatureNetwork:
        """Return the dataset's committed feature network, or one that is trained once for each cache."""
        train = partial(train_feature_network, training=TRAINING)
        return _classifier(FEATURE_NETWORK, self, train, cache)


def learn_history(
    history: History, setting: Setting, seed: int, cache: Cache, stand_in: StandIn | None = None
) -> Checkpoint:
    """Run the learn jobs of a history. What a job made of the same history before is read from the cache.

    stand_in: the label that is not learned, and what is learned in its place; None if all are learned.
    """
    checkpoint = setting.blank(seed)
    learned: list[tuple[tuple[str, ...], str]] = []
    for labels in history.jobs:
        replaces = stand_in is not None and stand_in.label in labels
        learned.append((labels, f"{stand_in.label} is {stand_in.name}" if stand_in and replaces else ""))
        key = sha256(json.dumps([setting.name, seed, learned]).encode()).hexdigest()[:12]
        learn = partial(_learn, checkpoint, labels, setting, seed + 1000 * len(learned), stand_in)
        checkpoint = Checkpoint.from_bytes(cache.file(f"learned-{key}.network", learn).read_bytes())
    return checkpoint


def _learn(
    checkpoint: Checkpoint, labels: tuple[str, ...], setting: Setting, seed: int, stand_in: StandIn | None
) -> bytes:
    train = dict(setting.load().train)
    if stand_in is not None:
        train[stand_in.label] = train[stand_in.name]
    job = Job("learn", labels, LEARN_STRATEGIES[setting.architecture])
    return run_job(checkpoint, job, setting.dataset, train, setting.context(seed, stand_in)).to_bytes()


@lru_cache
def _load(name: str, data: Path) -> datasets.Dataset:
    return datasets.load(name, data)


def _classifier(
    kind: ClassifierKind[C],
    setting: Setting,
    train: Callable[[datasets.Dataset], dict[str, bytes]],
    cache: Cache,
) -> C:
    if is_committed(kind, setting.dataset):
        return load_committed(kind, setting.dataset)
    if not (cache.folder / kind.recipe_file(setting.dataset)).is_file():
        for name, content in train(setting.load()).items():  # the recipe comes last
            cache.file(name, partial(bytes, content))
    return read_classifier(kind, setting.dataset, cache.folder)
