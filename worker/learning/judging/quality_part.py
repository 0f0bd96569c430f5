"""Measure the quality part of a full report: draws by dataset, and their coverage beside references."""

from collections.abc import Sequence
from functools import cache
from statistics import mean

from torch import Tensor

from reports import QualityPart, ReferenceFigure, at_least
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.coverage import Neighbourhoods
from worker.learning.judging.estimates import interval_of_mean
from worker.learning.judging.evaluation import CPU, Evaluation
from worker.learning.judging.quality import LabelImages, measure_quality, unmeasured_quality
from worker.learning.judging.reference_networks import ReferenceNetworks
from worker.learning.networks import frozen
from worker.learning.resuming import State
from worker.learning.strategy import Unavailable

COVERAGE_RATIO = at_least(0.95)
MIN_COVERAGE = 0.01
"""Smallest coverage of the references that the interval of the ratio assumes, so that it has an upper end."""


def measure_quality_by_dataset(
    evaluation: Evaluation, references: ReferenceNetworks
) -> dict[str, QualityPart]:
    """Measure the draws of the labels that the main network holds, dataset by dataset."""
    datasets = sorted({one.dataset for one in evaluation.retained})
    return {dataset: _quality_of(dataset, evaluation, references) for dataset in datasets}


def compare_coverage(coverage: float, of_references: Sequence[float]) -> ReferenceFigure:
    """Divide the coverage by the mean coverage of at least two references, all of sets of the same sizes."""
    if not any(of_references):
        return ReferenceFigure.unmeasured(
            "the coverage of the references is 0, so there is no ratio to it", COVERAGE_RATIO
        )
    low, high = interval_of_mean(of_references)
    ratio = coverage / mean(of_references)
    return ReferenceFigure(
        value=ratio,
        n=len(of_references),
        interval=(coverage / high, coverage / max(low, MIN_COVERAGE)),
        threshold=COVERAGE_RATIO,
        verdict=COVERAGE_RATIO.verdict(ratio),
        references=tuple(of_references),
    )


def _quality_of(dataset: str, evaluation: Evaluation, references: ReferenceNetworks) -> QualityPart:
    context = evaluation.context
    labels = [one for one in evaluation.retained if one.dataset == dataset]
    try:
        judge, feature_network = evaluation.judges(dataset), evaluation.feature_networks(dataset)
        real = {one.name: (evaluation.train_images(one), evaluation.test_images(one)) for one in labels}
    except Unavailable as error:
        return unmeasured_quality(str(error), _without_ratio(evaluation, str(error)))

    def draws_of(checkpoint: Checkpoint, label: Label) -> Tensor:
        seed = context.with_seed_for(label.name).seed
        return evaluation.draw(checkpoint, label.name, evaluation.params.draws, seed)

    def images_of(label: Label) -> LabelImages:
        train, test = (split.float() / 255 for split in real[label.name])
        return LabelImages(label.source, draws_of(evaluation.checkpoint, label), train, test)

    def quality() -> State:
        measured = measure_quality(
            frozen(evaluation.checkpoint, CPU),
            evaluation.checkpoint.retained,
            {one.name: images_of(one) for one in labels},
            judge,
            feature_network,
            context.generator("elbo"),
            once=context.once,
        )
        return {"quality": measured.model_dump(mode="json")}

    @cache
    def neighbourhoods(label: Label) -> Neighbourhoods:
        test = real[label.name][1]
        return Neighbourhoods.of(feature_network.embed(test.float() / 255))

    def coverage_of(checkpoint: Checkpoint) -> float:
        def coverage() -> State:
            by_label = [
                neighbourhoods(one).coverage_by_sets(feature_network.embed(draws_of(checkpoint, one)))
                for one in labels
            ]
            return {"coverage": mean(by_label)}

        return float(context.once(f"coverage by sets on {dataset}", coverage)["coverage"])

    context.step(f"quality of {dataset}", 0, 1)
    found = QualityPart.model_validate(context.once(f"quality of {dataset}", quality)["quality"])
    if not references.networks:
        return found.model_copy(update={"coverage_ratio": _without_ratio(evaluation, references.reason)})
    others = [coverage_of(one) for one in references.networks]
    ratio = compare_coverage(coverage_of(evaluation.checkpoint), others)
    return found.model_copy(update={"coverage_ratio": ratio})


def _without_ratio(evaluation: Evaluation, reason: str) -> ReferenceFigure | None:
    """An unmeasured ratio with the reason; None if nothing was forgotten, because then there is no ratio."""
    return ReferenceFigure.unmeasured(reason, COVERAGE_RATIO) if evaluation.checkpoint.forgotten else None
