"""What a network, candidate or reference, shows of a label it should not know: all are asked the same."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.feature_network import FeatureNetwork
from worker.learning.judging.judge import Judge
from worker.learning.judging.membership import membership
from worker.learning.judging.recovery import Search, recovered
from worker.learning.judging.relearning import Curve, Lesson, relearned
from worker.learning.judging.report import Draw
from worker.learning.networks import frozen
from worker.learning.strategy import TrainingContext

CPU = torch.device("cpu")
SHOWN = 64  # recovered images that are kept for people to look at


@dataclass(frozen=True)
class Exam:
    """What a network is examined with on one label: the same for the candidate and every reference."""

    label: Label
    judge: Judge
    feature_network: FeatureNetwork
    members: Tensor  # the label's real train images, uint8 [n, pixels]
    others: Tensor  # its real test images
    draws: int
    search: Search
    lesson: Lesson


@dataclass(frozen=True)
class Traces:
    """The raw counts and curves. JSON-ready by `asdict`; images, uint8 [SHOWN, pixels], lie beside them."""

    drawn: int  # of `draws`, that the judge takes for the label
    draws: int
    found: int  # by the recovery attack, of `starts`
    starts: int
    curve: Curve  # of learning it again
    unseen_curve: Curve  # of learning what no network ever saw: the label's images, rows for columns
    auc: dict[str, float]  # of each membership attack

    @property
    def accuracy(self) -> float:
        return self.drawn / self.draws

    @property
    def recovery(self) -> float:
        return self.found / self.starts

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def traces(checkpoint: Checkpoint, exam: Exam, draw: Draw, context: TrainingContext) -> tuple[Traces, Tensor]:
    """The network's traces, and images the attack ended with: a function of the context's seed."""
    name, network = exam.label.name, frozen(checkpoint, CPU)
    slot, kept = checkpoint.label(name).slot, sorted(checkpoint.retained.values())
    found = recovered(
        network,
        slot,
        kept,
        label=exam.label.source,
        feature_network=exam.feature_network,
        search=exam.search,
        context=context,
    ).images
    drawn = draw(checkpoint, name, exam.draws, context.with_seed_for(f"draws of {name}").seed)
    curve, unseen = (
        relearned(checkpoint, name, images, partial(_accuracy, exam, back), exam.lesson, context)
        for images, back in ((exam.members, _same), (turned(exam.members), turned))
    )
    auc = membership(
        network, slot, exam.members, exam.others, context.generator("sets of the membership attack")
    )
    counts = hits(exam, drawn), exam.draws, hits(exam, found), exam.search.starts
    return Traces(*counts, curve, unseen, auc), _spread(found).mul(255).round().to(torch.uint8)


def _spread(found: Tensor) -> Tensor:
    """SHOWN of the images, of every kind of start."""
    return found[torch.linspace(0, len(found) - 1, min(SHOWN, len(found))).long()]


def hits(exam: Exam, images: Tensor) -> int:
    """How many images the judge takes for the label."""
    return int(torch.sum(exam.judge.classify(images) == exam.judge.labels.index(exam.label.source)))


def turned(images: Tensor) -> Tensor:
    """Square images [n, pixels], rows for columns: a figure that nobody was taught. Twice is nothing.

    A label that is its own mirror image, as 0 nearly is, stays itself: there the comparison says less.
    """
    side = math.isqrt(images.shape[1])
    return images.view(-1, side, side).transpose(1, 2).flatten(1)


def _same(images: Tensor) -> Tensor:
    return images


def _accuracy(exam: Exam, back: Callable[[Tensor], Tensor], images: Tensor) -> float:
    return hits(exam, back(images)) / len(images)
