"""Measure the quick report of a checkpoint: how often the judge recognises each label's draws."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reports import Capacity, JudgeSummary, LabelFigure, LabelGroup, Report, at_most
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.classifiers import ClassifierUnavailable
from worker.learning.judging.coverage import NEIGHBOURS, Neighbourhoods
from worker.learning.judging.estimates import wilson_interval
from worker.learning.judging.judge import REJECT, Judge
from worker.learning.resuming import State
from worker.learning.strategy import TrainingContext, Unavailable, derive_seed

Judges = Callable[[str], Judge]  # the judge of a dataset; raises ClassifierUnavailable
HeldOut = Callable[[Label], Tensor]  # a label's real test images, uint8 [n, pixels]; raises Unavailable
Draw = Callable[[Checkpoint, str, int, int], Tensor]  # (checkpoint, label, n, seed) -> [n, pixels] in [0, 1]

MIN_RECALL = 0.7
"""Share of a forgotten label's real test images that the judge must recognise to find the label in draws."""
RELAPSE_THRESHOLD = at_most(0.05)
"""Threshold of a forgotten label's accuracy, unless an acceptance criterion sets another."""


def no_test_images(label: Label) -> Tensor:
    """Raise Unavailable: the `HeldOut` of a caller that has no test images."""
    raise Unavailable(f"the real test images of {label.name!r} are not available here")


def measure_quick_report(
    checkpoint: Checkpoint,
    judges: Judges,
    *,
    n: int = 1000,
    seed: int,
    draw: Draw,
    held_out: HeldOut = no_test_images,
    context: TrainingContext | None = None,
) -> Report:
    """Judge n draws of every label that the checkpoint ever learned. Deterministic for equal arguments.

    A rejected draw counts as wrong. Intervals are Wilson's. Forgotten labels have the threshold
    `RELAPSE_THRESHOLD`. A label without a judge has a reason instead of an accuracy. Coverage is measured
    where `held_out` has images. context: of a job, which resumes with the label that it was interrupted at.
    """
    measurement = _Measurement(judges, n, seed, draw, held_out)

    def measure(network: Checkpoint, label: Label) -> LabelFigure:
        def figure() -> State:
            return {"figure": measurement.measure_label(network, label).model_dump(mode="json")}

        found = figure() if context is None else context.once(f"judging {label.name}", figure)
        return LabelFigure.model_validate(found["figure"])

    figures = {
        label: measure(network, label)
        for network in (replace(checkpoint, isolated=()), *checkpoint.isolated)
        for label in network.labels
    }
    retained = {label.name: figure for label, figure in figures.items() if label.status != "forgotten"}
    forgotten = {label.name: figure for label, figure in figures.items() if label.status == "forgotten"}
    return Report(
        n=n,
        seed=seed,
        judge={name: _judge_summary(name, judges) for name in sorted({label.dataset for label in figures})},
        retained=_group(retained),
        forgotten=_with_worst_verdict(_group(forgotten)),
        capacity=Capacity(
            parameters=checkpoint.parameters,
            isolated_parameters={name: one.parameters for name, one in checkpoint.temporary.items()},
            encoder_widths=tuple(checkpoint.spec.encoder_widths),
            decoder_widths=tuple(checkpoint.spec.decoder_widths),
        ),
    )


@dataclass(frozen=True)
class _Measurement:
    """The arguments that are the same for every label, and the measurement of one label."""

    judges: Judges
    n: int
    seed: int
    draw: Draw
    held_out: HeldOut

    def measure_label(self, checkpoint: Checkpoint, label: Label) -> LabelFigure:
        try:
            judge = self.judges(label.dataset)
        except ClassifierUnavailable as error:
            return LabelFigure.unmeasured(str(error))
        if label.source not in judge.labels:
            return LabelFigure.unmeasured(self.why_unknown(label))
        index, is_forgotten = judge.labels.index(label.source), label.status == "forgotten"
        recall = self.measure_recall(judge, index, label) if is_forgotten else None
        if recall is not None and recall < MIN_RECALL:
            return LabelFigure.unmeasured(
                f"the judge recognises only {recall:.0%} of the real test images of {label.name!r}"
            )
        # Each label has noise of its own, so that unlucky noise does not affect all labels alike.
        images = self.draw(checkpoint, label.name, self.n, derive_seed(self.seed, label.name))
        features = judge.embed(images)
        answers, closed_answers = judge.classify_features(features), judge.most_likely_labels(features)
        hits = int(torch.sum(answers == index))
        return LabelFigure(
            value=hits / self.n,
            n=self.n,
            interval=wilson_interval(hits, self.n),
            threshold=RELAPSE_THRESHOLD if is_forgotten else None,
            verdict=RELAPSE_THRESHOLD.verdict(hits / self.n) if is_forgotten else None,
            rejected=int(torch.sum(answers == REJECT)) / self.n,
            closed_accuracy=int(torch.sum(closed_answers == index)) / self.n,
            coverage=None if is_forgotten else self.measure_coverage(judge, features, label),
        )

    def why_unknown(self, label: Label) -> str:
        """Return why the judge does not know the label, such as that its images were deleted."""
        unknown = f"the judge of {label.dataset!r} does not know the label {label.source!r}"
        try:
            self.held_out(label)
        except Unavailable as error:
            return f"{unknown}: {error}"
        return unknown

    def measure_recall(self, judge: Judge, index: int, label: Label) -> float | None:
        """The share of the label's real test images that the judge recognises; None if there are no images.

        A judge that does not recognise a label finds it in no draw, whether it was forgotten or not.
        """
        try:
            real = self.held_out(label)
        except Unavailable:
            return None
        return int(torch.sum(judge.classify(real.float() / 255) == index)) / len(real) if len(real) else None

    def measure_coverage(self, judge: Judge, features: Tensor, label: Label) -> float | None:
        try:
            real = self.held_out(label)
        except Unavailable:
            return None
        if len(real) <= NEIGHBOURS:
            return None
        return Neighbourhoods.of(judge.embed(real.float() / 255)).coverage(features)


def _group(labels: dict[str, LabelFigure]) -> LabelGroup:
    """The mean over the labels, each drawn equally often; unmeasured unless all of them were measured."""
    reasons = sorted({figure.reason for figure in labels.values() if figure.reason is not None})
    if reasons or not labels:
        reason = "; ".join(reasons) or "there is no such label"
        return LabelGroup(value=None, n=0, reason=reason, labels=labels)
    figures = list(labels.values())
    n = sum(figure.n for figure in figures)
    hits = sum(_count(figure.value, figure.n) for figure in figures)
    coverages = [figure.coverage for figure in figures if figure.coverage is not None]
    return LabelGroup(
        value=hits / n,
        n=n,
        interval=wilson_interval(hits, n),
        rejected=sum(_count(figure.rejected, figure.n) for figure in figures) / n,
        closed_accuracy=sum(_count(figure.closed_accuracy, figure.n) for figure in figures) / n,
        coverage=sum(coverages) / len(coverages) if len(coverages) == len(figures) else None,
        labels=labels,
    )


def _count(share: float | None, n: int) -> int:
    """The number of draws that is this share of n; 0 if the share was not measured."""
    return round((share or 0.0) * n)


def _with_worst_verdict(forgotten: LabelGroup) -> LabelGroup:
    """Set the group's verdict by its worst label, so that one relapse among many is not averaged away."""
    if forgotten.value is None:
        return forgotten
    worst = max(figure.value for figure in forgotten.labels.values() if figure.value is not None)
    return forgotten.model_copy(
        update={"threshold": RELAPSE_THRESHOLD, "verdict": RELAPSE_THRESHOLD.verdict(worst)}
    )


def _judge_summary(dataset: str, judges: Judges) -> JudgeSummary:
    try:
        judge = judges(dataset)
    except ClassifierUnavailable as error:
        return JudgeSummary(version=None, test_accuracy=None, reason=str(error))
    return JudgeSummary(version=judge.version, test_accuracy=judge.test_accuracy, missed=judge.missed)
