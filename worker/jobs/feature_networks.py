"""Which feature network a dataset is measured with: the committed one, else one trained here once and kept."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from hashlib import sha256
from pathlib import Path

from service import durable
from worker.learning.datasets import Dataset, DatasetUnavailable
from worker.learning.judging.feature_network import (
    BRIEF,
    REVISION,
    FeatureNetwork,
    FeatureNetworkUnavailable,
    files_of,
    is_committed,
    load_feature_network,
    read_feature_network,
)
from worker.learning.judging.full import FeatureNetworks
from worker.learning.judging.quality_gate import balanced, refuse_wrong_feature_network
from worker.learning.judging.training_batches import Step, Training, unwatched
from worker.learning.strategy import TrainingContext, Unavailable


def feature_networks_of(
    read: Callable[[str], Dataset], folder: Path, context: TrainingContext
) -> FeatureNetworks:
    """Finds the feature network of a dataset by its name, once; one that is trained on the way reports to the context.

    `read` gives the dataset of a name, `folder` is where trained feature networks are kept. What is found raises
    Unavailable, as FeatureNetworks do, and Stopped.
    """

    @cache
    def found(name: str) -> FeatureNetwork:
        if is_committed(name):
            return load_feature_network(name)
        try:
            return kept_feature_network(read(name), folder, BRIEF, context.step)
        except DatasetUnavailable as error:
            raise Unavailable(f"there is no feature network for {name!r}: {error}") from error

    return found


def kept_feature_network(
    dataset: Dataset, folder: Path, training: Training, step: Step = unwatched
) -> FeatureNetwork:
    """The feature network of exactly these images and this recipe: the one in `folder`, else trained now and kept.

    Raises Unavailable where it errs too often, and whatever `step` raises, which leaves nothing behind.
    Several processes may share the folder.
    """
    key = f"feature_network {REVISION} {dataset.sha256()} {asdict(training)}"
    place = folder / sha256(key.encode()).hexdigest()
    try:
        feature_network = read_feature_network(dataset.name, place)
    except FeatureNetworkUnavailable:  # there is none yet, or it is damaged
        shutil.rmtree(place, ignore_errors=True)
        durable.create_folder(place, files_of(balanced(dataset), training, step))
        feature_network = read_feature_network(dataset.name, place)
    assert feature_network.test_accuracy is not None
    refuse_wrong_feature_network(dataset.name, feature_network.test_accuracy)
    return feature_network
