"""Audit a network for a label that it should not know, candidate and references in the same way."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.judge import Judge
from worker.learning.judging.membership import measure_membership
from worker.learning.judging.quick_report import Draw
from worker.learning.judging.recovery import Search, recover
from worker.learning.judging.relearning import Curve, RelearningSetup, relearn
from worker.learning.networks import frozen
from worker.learning.resuming import State
from worker.learning.strategy import TrainingContext

CPU = torch.device("cpu")
KEPT_IMAGES = 64
"""How many recovered images are kept for people to look at."""


@dataclass(frozen=True)
class AuditSetup:
    """The settings of the audit for one label: the same for the candidate and every reference."""

    label: Label
    judge: Judge
    feature_network: FeatureNetwork
    members: Tensor  # the label's real train images, uint8 [n, pixels]
    others: Tensor  # its real test images, uint8 [n, pixels]
    draws: int
    search: Search
    relearning: RelearningSetup

    def hits(self, images: Tensor) -> int:
        """Count the images [n, pixels] that the judge recognises as the label."""
        return int(torch.sum(self.judge.classify(images) == self.judge.labels.index(self.label.source)))


@dataclass(frozen=True)
class AuditMeasurements:
    """The counts, curves and AUCs measured on one network."""

    drawn: int  # how many of `draws` the judge recognises as the label
    draws: int
    found: int  # how many of `starts` of the recovery attack ended with images of the label
    starts: int
    curve: Curve  # of learning the label again
    unseen_curve: Curve  # of learning a shape no network ever saw: the label's images, transposed
    auc: dict[str, float]  # of each membership attack

    @property
    def accuracy(self) -> float:
        return self.drawn / self.draws

    @property
    def recovery(self) -> float:
        return self.found / self.starts

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "AuditMeasurements":
        """Read what `as_json` returned, also when its tuples have become lists."""
        curves = {name: [(step, one) for step, one in fields[name]] for name in ("curve", "unseen_curve")}
        return cls(**{**fields, **curves})


def audit_network(
    checkpoint: Checkpoint, setup: AuditSetup, draw: Draw, context: TrainingContext
) -> tuple[AuditMeasurements, Tensor]:
    """Attack the network, let it draw the label and learn it again. Deterministic for the context's seed.

    Returns the measurements, and at most KEPT_IMAGES images that the recovery attack ended with, uint8 [n,
    pixels].
    """

    def audit() -> State:
        measurements, images = _audit(checkpoint, setup, draw, context)
        return {"measurements": measurements.as_json(), "images": images}

    found = context.once(f"audit of {setup.label.name}", audit)
    return AuditMeasurements.from_json(found["measurements"]), found["images"]


def _audit(
    checkpoint: Checkpoint, setup: AuditSetup, draw: Draw, context: TrainingContext
) -> tuple[AuditMeasurements, Tensor]:
    name, network = setup.label.name, frozen(checkpoint, CPU)
    slot, held_slots = checkpoint.label(name).slot, sorted(checkpoint.retained.values())
    found = recover(
        network,
        slot,
        held_slots,
        label=setup.label.source,
        feature_network=setup.feature_network,
        search=setup.search,
        context=context,
    ).images
    drawn = draw(checkpoint, name, setup.draws, context.with_seed_for(f"draws of {name}").seed)
    measurements = AuditMeasurements(
        drawn=setup.hits(drawn),
        draws=setup.draws,
        found=setup.hits(found),
        starts=setup.search.starts,
        curve=_relearning_curve(checkpoint, setup, _unchanged, context),
        unseen_curve=_relearning_curve(checkpoint, setup, transposed, context),
        auc=measure_membership(
            network, slot, setup.members, setup.others, context.generator("sets of the membership attack")
        ),
    )
    return measurements, _some_of(found).mul(255).round().to(torch.uint8)


def transposed(images: Tensor) -> Tensor:
    """Transpose square images [n, pixels]: they then show a shape that no network was trained on.

    Transposing twice gives the images back. A label that is nearly symmetric, such as 0, hardly changes, so
    for it the unseen shape says less.
    """
    side = math.isqrt(images.shape[1])
    return images.view(-1, side, side).transpose(1, 2).flatten(1)


def _relearning_curve(
    checkpoint: Checkpoint, setup: AuditSetup, change: Callable[[Tensor], Tensor], context: TrainingContext
) -> Curve:
    """The curve of learning the changed images. Draws are changed back before the judge sees them."""
    accuracy = partial(_accuracy, setup, change)
    images = change(setup.members)
    return relearn(checkpoint, setup.label.name, images, accuracy, setup.relearning, context)


def _accuracy(setup: AuditSetup, change_back: Callable[[Tensor], Tensor], images: Tensor) -> float:
    return setup.hits(change_back(images)) / len(images)


def _unchanged(images: Tensor) -> Tensor:
    return images


def _some_of(found: Tensor) -> Tensor:
    """KEPT_IMAGES of the images, from every kind of start."""
    return found[torch.linspace(0, len(found) - 1, min(KEPT_IMAGES, len(found))).long()]
