"""What the judge says of a checkpoint's draws, label by label, with how much variety they have."""

import statistics
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worker.learning import datasets
from worker.learning.checkpoint import Checkpoint
from worker.learning.drawing import draw
from worker.learning.judging.coverage import Neighbourhoods, embedded
from worker.learning.judging.judge import Judge, load_judge

DRAWS = 1000


class Shares(NamedTuple):
    """Of one label's draws; each in [0, 1]."""

    closed: float  # the likeliest label is the right one
    open: float  # and the judge does not reject the draw
    coverage: float


@dataclass(frozen=True)
class Critic:
    """The judge, and what the real test images of each label look like to it."""

    judge: Judge
    real: dict[str, Neighbourhoods]

    @classmethod
    def of(cls, dataset: datasets.Dataset) -> "Critic":
        judge = load_judge(dataset.name)
        test = {name: images.float() / 255 for name, images in dataset.test.items()}
        return cls(judge, {name: Neighbourhoods.of(embedded(judge, images)) for name, images in test.items()})

    def shares(self, checkpoint: Checkpoint, label: str, seed: int) -> Shares:
        """Of 1,000 draws of a label, held, temporary or forgotten."""
        drawn, logits = self._seen(checkpoint, label, seed)
        right = self.judge.labels.index(label)
        closed, opened = (
            answers.argmax(dim=1).eq(right).float().mean().item() for answers in (logits[:, :-1], logits)
        )
        return Shares(closed, opened, self.real[label].coverage(drawn))

    def answers(self, checkpoint: Checkpoint, label: str, seed: int) -> list[float]:
        """How often the judge gives each of its answers to 1,000 draws; the last is "none of these"."""
        _, logits = self._seen(checkpoint, label, seed)
        counts = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1])
        shares: list[float] = (counts / len(logits)).tolist()
        return shares

    @torch.no_grad()
    def _seen(self, checkpoint: Checkpoint, label: str, seed: int) -> tuple[Tensor, Tensor]:
        """Draws in the judge's last hidden layer, and its logits."""
        drawn = embedded(self.judge, draw(checkpoint, label, DRAWS, seed))
        return drawn, list(self.judge.network.children())[-1](drawn)


def judged(checkpoint: Checkpoint, critic: Critic, *, seed: int) -> dict[str, Any]:
    """Means over the labels held, the worst label's accuracy, relapse of the forgotten, and the size.

    `by_label` holds the shares of each label held, `gone` the open-set accuracy of each that is forgotten.
    """
    shares = {name: critic.shares(checkpoint, name, seed) for name in checkpoint.held}
    gone = {name: critic.shares(checkpoint, name, seed).open for name in checkpoint.forgotten}
    return {
        "closed": statistics.mean(one.closed for one in shares.values()),
        "open": statistics.mean(one.open for one in shares.values()),
        "coverage": statistics.mean(one.coverage for one in shares.values()),
        "worst_label": min(one.closed for one in shares.values()),
        "relapse": max(gone.values(), default=None),
        "held": len(shares),
        "parameters": checkpoint.parameters,
        "units": sum(map(sum, checkpoint.widths.values())),
        "widths": checkpoint.widths,
        "by_label": {name: one._asdict() for name, one in sorted(shares.items())},
        "gone": dict(sorted(gone.items())),
    }
