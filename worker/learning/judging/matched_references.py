"""Train references that are matched in procedure: they went through the history of a network, label apart.

A network that is retrained on the retained labels in one job never saw the label either. But it is also less
trained than one that learned more labels in more jobs and forgot one, and attacks find such differences, too.
A matched reference repeats the whole history with the images of another label, a stand-in, in place of the
label's, and then forgets this stand-in (docs/decisions/0154).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.strategy import Archive, Examples, TrainingContext, find


@dataclass(frozen=True)
class Job:
    """One job of a history, as it was requested."""

    operation: Literal["learn", "forget"]
    labels: tuple[str, ...]
    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict)
    """Those that are not the strategy's defaults."""


@dataclass(frozen=True)
class StandInArchive:
    """An archive in which one label has the images of its stand-in, so that no strategy can read its own."""

    archive: Archive
    label: str
    stand_in: Label
    """The label whose images are given for it."""

    def images(self, label: Label) -> Tensor:
        return self.archive.images(self._instead_of(label))

    def held_out(self, label: Label) -> Tensor:
        return self.archive.held_out(self._instead_of(label))

    def newest_without(self, names: Collection[str]) -> Checkpoint:
        return self.archive.newest_without(names)

    def widths_without(self, names: Collection[str]) -> dict[str, list[int]]:
        return self.archive.widths_without(names)

    def _instead_of(self, label: Label) -> Label:
        return self.stand_in if label.name == self.label else label


def run_job(
    checkpoint: Checkpoint,
    job: Job,
    dataset: str,
    images: Mapping[str, Tensor],
    context: TrainingContext,
) -> Checkpoint:
    """Return what the strategy of one job makes of the checkpoint.

    images: label -> uint8 [n, pixels], of every label that the job learns. For a matched reference, give the
    stand-in's images under the label's name, so that it has the label's slot, and a `StandInArchive` in the
    context.
    A worker also checks new labels after a learn, and may learn again (docs/decisions/0164). This does not.
    """
    strategy = find(job.operation, job.strategy)
    given = {name: images[name] for name in job.labels} if strategy.needs_examples else {}
    request = Examples(job.labels, dataset, given)
    return strategy.run(checkpoint, request, strategy.Params.model_validate(dict(job.params)), context)
