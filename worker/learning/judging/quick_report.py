"""Measure the quick report of a checkpoint: how often the judge recognises each label's draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reports import (
    Capacity,
    JudgeSummary,
    LabelFigure,
    LabelGroup,
    Report,
    at_most,
    combine_verdicts,
    join_reasons,
)
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.classifiers import ClassifierUnavailable
from worker.learning.judging.coverage import NEIGHBOURS, Neighbourhoods, RelativeCoverage, sample_images
from worker.learning.judging.estimates import wilson_interval
from worker.learning.judging.judge import REJECT, Judge
from worker.learning.resuming import State
from worker.learning.strategy import TrainingContext, Unavailable, derive_seed

Judges = Callable[[str], Judge]  # the judge of a dataset; raises ClassifierUnavailable
RealImages = Callable[[Label], Tensor]  # a label's real images, uint8 [n, pixels]; raises Unavailable
Draw = Callable[[Checkpoint, str, int, int], Tensor]  # (checkpoint, label, n, seed) -> [n, pixels] in [0, 1]

MIN_RECALL = 0.7
"""Share of a forgotten label's real test images that the judge must recognise to find the label in draws."""
RELAPSE_THRESHOLD = at_most(0.05)
"""Threshold of a forgotten label's accuracy, unless an acceptance criterion sets another."""


def no_images(label: Label) -> Tensor:
    """Raise Unavailable: the `RealImages` of a caller that has none."""
    raise Unavailable(f"the real images of {label.name!r} are not available here")


def measure_quick_report(
    checkpoint: Checkpoint,
    judges: Judges,
    *,
    n: int = 1000,
    seed: int,
    draw: Draw,
    held_out: RealImages = no_images,
    train_images: RealImages = no_images,
    context: TrainingContext | None = None,
) -> Report:
    """Judge n draws of every label that the checkpoint ever learned. Deterministic for equal arguments.

    A rejected draw counts as wrong. Intervals are Wilson's. Forgotten labels have the threshold
    `RELAPSE_THRESHOLD`. A label without a judge has a reason instead of an accuracy, and a label whose judge
    misses thresholds of its own has a reason instead of a verdict. Coverage and the judge's accuracy are
    measured where `held_out` has test images, and the relative coverage where `train_images` has the train
    images, too. context: of a job, which resumes with the label that it was interrupted at.
    """
    measurement = _Measurement(judges, n, seed, draw, held_out, train_images)

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
    held_out: RealImages
    train_images: RealImages

    def measure_label(self, checkpoint: Checkpoint, label: Label) -> LabelFigure:
        try:
            judge = self.judges(label.dataset)
        except ClassifierUnavailable as error:
            return LabelFigure.unmeasured(str(error))
        if label.source not in judge.labels:
            return LabelFigure.unmeasured(self.why_unknown(label))
        index, is_forgotten = judge.labels.index(label.source), label.status == "forgotten"
        real = self.embed(judge, self.held_out, label)
        recall = None if real is None else judge.classify_features(real).eq(index).float().mean().item()
        # A judge that does not recognise a label finds it in no draw, whether it was forgotten or not.
        if is_forgotten and recall is not None and recall < MIN_RECALL:
            return LabelFigure.unmeasured(
                f"the judge recognises only {recall:.0%} of the real test images of {label.name!r}"
            )
        # Each label has noise of its own, so that unlucky noise does not affect all labels alike.
        images = self.draw(checkpoint, label.name, self.n, derive_seed(self.seed, label.name))
        features = judge.embed(images)
        answers, closed_answers = judge.classify_features(features), judge.most_likely_labels(features)
        hits = int(torch.sum(answers == index))
        figure = LabelFigure(
            value=hits / self.n,
            n=self.n,
            interval=wilson_interval(hits, self.n),
            rejected=int(torch.sum(answers == REJECT)) / self.n,
            closed_accuracy=int(torch.sum(closed_answers == index)) / self.n,
            judge_accuracy=recall,
            reason=judge.why_no_verdict,
        )
        if is_forgotten:
            return figure.with_threshold(RELAPSE_THRESHOLD)
        coverage, relative_coverage = self.measure_coverage(judge, features, label, real)
        return figure.model_copy(
            update={
                "relative_accuracy": hits / self.n / recall if recall else None,
                "coverage": coverage,
                "relative_coverage": relative_coverage,
            }
        )

    def why_unknown(self, label: Label) -> str:
        """Return why the judge does not know the label, such as that its images were deleted."""
        unknown = f"the judge of {label.dataset!r} does not know the label {label.source!r}"
        try:
            self.held_out(label)
        except Unavailable as error:
            return f"{unknown}: {error}"
        return unknown

    def embed(self, judge: Judge, images: RealImages, label: Label) -> Tensor | None:
        """The features of the label's real images; None if there are none."""
        try:
            found = images(label)
        except Unavailable:
            return None
        return judge.embed(found.float() / 255) if len(found) else None

    def measure_coverage(
        self, judge: Judge, drawn: Tensor, label: Label, real: Tensor | None
    ) -> tuple[float | None, float | None]:
        """The coverage and the relative coverage, each None if it cannot be measured.

        drawn, real: features of draws and of real test images.
        """
        if real is None or len(real) <= NEIGHBOURS:
            return None, None
        around = Neighbourhoods.of(real)
        train = self.embed(judge, lambda one: sample_images(self.train_images(one), self.n), label)
        relative = None if train is None else RelativeCoverage.of(around, train, self.n)
        return around.coverage(drawn), None if relative is None else relative.of_draws(drawn)


def _group(labels: dict[str, LabelFigure]) -> LabelGroup:
    """The mean over the labels, each drawn equally often; unmeasured unless all of them were measured."""
    figures = list(labels.values())
    unmeasured = [figure for figure in figures if figure.value is None]
    if unmeasured or not labels:
        reason = join_reasons(unmeasured) or "there is no such label"
        return LabelGroup(value=None, n=0, reason=reason, labels=labels)
    n = sum(figure.n for figure in figures)
    hits = sum(_count(figure.value, figure.n) for figure in figures)
    judge_accuracy = _mean([figure.judge_accuracy for figure in figures])
    are_relative = all(figure.relative_accuracy is not None for figure in figures)
    return LabelGroup(
        value=hits / n,
        n=n,
        interval=wilson_interval(hits, n),
        reason=join_reasons(figures),
        rejected=sum(_count(figure.rejected, figure.n) for figure in figures) / n,
        closed_accuracy=sum(_count(figure.closed_accuracy, figure.n) for figure in figures) / n,
        coverage=_mean([figure.coverage for figure in figures]),
        judge_accuracy=judge_accuracy,
        relative_accuracy=hits / n / judge_accuracy if judge_accuracy and are_relative else None,
        relative_coverage=_mean([figure.relative_coverage for figure in figures]),
        labels=labels,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of values that were all measured; otherwise None."""
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if len(measured) == len(values) else None


def _count(share: float | None, n: int) -> int:
    """The number of draws that is this share of n; 0 if the share was not measured."""
    return round((share or 0.0) * n)


def _with_worst_verdict(forgotten: LabelGroup) -> LabelGroup:
    """Set the group's verdict by its worst label, so that one relapse among many is not averaged away."""
    if forgotten.value is None:
        return forgotten
    verdict = combine_verdicts(figure.verdict for figure in forgotten.labels.values())
    return forgotten.model_copy(update={"threshold": RELAPSE_THRESHOLD, "verdict": verdict})


def _judge_summary(dataset: str, judges: Judges) -> JudgeSummary:
    try:
        judge = judges(dataset)
    except ClassifierUnavailable as error:
        return JudgeSummary(version=None, test_accuracy=None, reason=str(error))
    return JudgeSummary(version=judge.version, test_accuracy=judge.test_accuracy, missed=judge.missed)
