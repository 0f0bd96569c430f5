"""Score the draws of a checkpoint, label by label: accuracy by the judge, and coverage of real images."""

import statistics
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worker.learning import datasets
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.judging.coverage import Neighbourhoods, RelativeCoverage, sample_images
from worker.learning.judging.judge import Judge, load_judge

DRAWS = 1000


class LabelScores(NamedTuple):
    """Scores of one label's draws, each in [0, 1]."""

    closed: float
    """Closed-set accuracy: the share of draws for which the right label is the likeliest of all labels."""
    open: float
    """Open-set accuracy: the share for which it is also likelier than the judge's answer "none"."""
    coverage: float
    """The share of real test images with a draw among their nearest neighbours."""
    relative_coverage: float
    """Coverage divided by that of as many real train images; about 1 for perfect draws."""


@dataclass(frozen=True)
class Scorer:
    """The judge of a dataset, with the real images of each label as features of the judge."""

    judge: Judge
    real: dict[str, RelativeCoverage]
    draws: int = DRAWS
    """Number of draws that a label is scored on."""

    @classmethod
    def of(cls, dataset: datasets.Dataset, draws: int = DRAWS, *, judge: Judge | None = None) -> "Scorer":
        """Return the scorer of a dataset. judge: None for the one that is committed."""
        judge = judge or load_judge(dataset.name)

        def coverage_of(label: str) -> RelativeCoverage:
            test, train = dataset.test[label], sample_images(dataset.train[label], draws)
            around = Neighbourhoods.of(judge.embed(test.float() / 255))
            found = RelativeCoverage.of(around, judge.embed(train.float() / 255), draws)
            assert found is not None, "train images cover test images"
            return found

        return cls(judge, {label: coverage_of(label) for label in dataset.labels}, draws)

    def scores(self, checkpoint: Checkpoint, label: str, seed: int) -> LabelScores:
        """Score the draws of a label, which may be permanent, temporary or forgotten."""
        return self.score_images(draw(checkpoint, label, self.draws, seed), label)

    def score_images(self, images: Tensor, label: str) -> LabelScores:
        """Score images that were drawn of a label, float32 [draws, pixels] in [0, 1]."""
        features, logits = self._judge(images)
        index = self.judge.labels.index(label)
        closed, opened = (
            answers.argmax(dim=1).eq(index).float().mean().item() for answers in (logits[:, :-1], logits)
        )
        real = self.real[label]
        return LabelScores(closed, opened, real.around.coverage(features), real.of_draws(features))

    def answer_shares(self, checkpoint: Checkpoint, label: str, seed: int) -> list[float]:
        """Return the share of a label's draws for each answer of the judge; the last answer is "none"."""
        _, logits = self._judge(draw(checkpoint, label, self.draws, seed))
        counts = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])
        shares: list[float] = (counts / len(logits)).tolist()
        return shares

    @torch.no_grad()
    def _judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of the judge's last hidden layer for images, and its logits."""
        features = self.judge.embed(images)
        return features, list(self.judge.network.children())[-1](features)


def score_checkpoint(checkpoint: Checkpoint, scorer: Scorer, *, seed: int) -> dict[str, Any]:
    """Score every label of a checkpoint; return the scores as JSON-ready values, together with its size.

    `closed`, `open`, `coverage` and `relative_coverage` are means over the labels held. `worst_label` is the
    lowest closed-set accuracy of one of them. `forgotten_by_label` is the open-set accuracy of each forgotten
    label, and `relapse` the highest of these; null where none is forgotten.
    """
    held = {name: scorer.scores(checkpoint, name, seed) for name in checkpoint.retained}
    forgotten = {name: scorer.scores(checkpoint, name, seed).open for name in checkpoint.forgotten}
    return {
        "closed": statistics.mean(one.closed for one in held.values()),
        "open": statistics.mean(one.open for one in held.values()),
        "coverage": statistics.mean(one.coverage for one in held.values()),
        "relative_coverage": statistics.mean(one.relative_coverage for one in held.values()),
        "worst_label": min(one.closed for one in held.values()),
        "relapse": max(forgotten.values(), default=None),
        "held": len(held),
        "parameters": checkpoint.parameters,
        "units": sum(map(sum, checkpoint.widths.values())),
        "widths": checkpoint.widths,
        "by_label": {name: one._asdict() for name, one in sorted(held.items())},
        "forgotten_by_label": dict(sorted(forgotten.items())),
    }
