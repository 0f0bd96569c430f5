"""Check a report against the acceptance criteria of its job, which were fixed when the job was accepted."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from reports import (
    Criterion,
    CriterionName,
    LabelFigure,
    Report,
    Threshold,
    at_least,
    at_most,
    combine_verdicts,
)
from service.registry.job_errors import ACCEPTANCE_FAILED
from worker.learning.judging.quick_report import RELAPSE_THRESHOLD

AnyLabelFigure = TypeVar("AnyLabelFigure", bound=LabelFigure)


class AcceptanceCriteria(BaseModel):
    """Limits that a candidate must keep to be published. Accuracies are open-set, 0 to 1."""

    model_config = ConfigDict(frozen=True)

    retained_accuracy_min: float | None = None
    """For the mean over all retained labels."""
    worst_retained_accuracy_min: float | None = None
    """For each retained label."""
    forgotten_accuracy_max: float | None = None
    """For each forgotten label, whichever job forgot it."""
    relapse_accuracy_max: Mapping[str, float] = {}
    """By label: the limit that earlier jobs set when they forgot it."""


def apply_criteria(
    report: Report, criteria: AcceptanceCriteria, *, unmeasurable: Collection[str] = ()
) -> Report:
    """Return the report with its criteria filled in, and with thresholds and verdicts at the accuracies.

    A criterion is missed if its figure could not be measured; the figure itself then has no verdict. It is
    applied to a figure that has a value but, because of its judge, no verdict: then it has the reason of the
    figure. A criterion about labels that do not exist is left out, and so is one about an `unmeasurable`
    label: one that was forgotten earlier, and whose images were deleted, so that no judge can know it any
    more.
    A forgotten label without a criterion gets the threshold RELAPSE_THRESHOLD: missing it is reported, but
    does not reject the candidate.
    """
    found = [one for one in _criteria(report, criteria) if one.label not in unmeasurable]
    by_label = {(one.criterion.endswith("_max"), one.label): one for one in found}
    retained = _with_verdict(report.retained, by_label.get((False, None)))
    retained_labels = {
        name: _with_verdict(figure, by_label.get((False, name)))
        for name, figure in report.retained.labels.items()
    }
    forgotten_labels = {
        name: _with_verdict(figure, by_label.get((True, name)), otherwise=RELAPSE_THRESHOLD)
        for name, figure in report.forgotten.labels.items()
    }
    thresholds = {one.threshold for one in forgotten_labels.values()}
    forgotten = report.forgotten.model_copy(
        update={
            "labels": forgotten_labels,
            "threshold": thresholds.pop() if len(thresholds) == 1 else None,
            "verdict": combine_verdicts(one.verdict for one in forgotten_labels.values()),
        }
    )
    return report.model_copy(
        update={
            "retained": retained.model_copy(update={"labels": retained_labels}),
            "forgotten": forgotten,
            "criteria": tuple(found),
        }
    )


def acceptance_error(report: Report) -> dict[str, Any] | None:
    """Return the job's error object if the report missed a criterion, None if it met all of them."""
    missed = [one for one in report.criteria if one.verdict == "missed"]
    if not missed:
        return None
    described = "; ".join(map(_describe, missed))
    error = ACCEPTANCE_FAILED.describe(
        f"The candidate was not published, because it missed criteria: {described}."
    )
    return {**error, "reasons": [one.as_json() for one in missed]}


def _criteria(report: Report, criteria: AcceptanceCriteria) -> Iterator[Criterion]:
    """Evaluate each criterion. If two are about the same forgotten label, only the tighter one counts."""
    retained = report.retained
    if (limit := criteria.retained_accuracy_min) is not None and retained.labels:
        yield _criterion("retained_accuracy_min", None, retained, at_least(limit))
    if (limit := criteria.worst_retained_accuracy_min) is not None:
        for label, figure in retained.labels.items():
            yield _criterion("worst_retained_accuracy_min", label, figure, at_least(limit))
    for label, figure in report.forgotten.labels.items():
        of_all, promised = criteria.forgotten_accuracy_max, criteria.relapse_accuracy_max.get(label)
        if of_all is not None and (promised is None or of_all <= promised):
            yield _criterion("forgotten_accuracy_max", label, figure, at_most(of_all))
        elif promised is not None:
            yield _criterion("relapse_accuracy_max", label, figure, at_most(promised))


def _criterion(
    name: CriterionName, label: str | None, figure: LabelFigure, threshold: Threshold
) -> Criterion:
    return Criterion(
        criterion=name,
        label=label,
        value=figure.value,
        n=figure.n,
        interval=figure.interval,
        threshold=threshold,
        verdict="missed" if figure.value is None else threshold.verdict(figure.value),
        reason=figure.reason,
    )


def _with_verdict(
    figure: AnyLabelFigure, criterion: Criterion | None, otherwise: Threshold | None = None
) -> AnyLabelFigure:
    """The figure with the threshold of its criterion, or with `otherwise` if no criterion is about it."""
    threshold = otherwise if criterion is None else criterion.threshold
    if threshold is None:
        return figure
    return figure.with_threshold(threshold)


def _describe(missed: Criterion) -> str:
    of_label = f" for {missed.label!r}" if missed.label is not None else ""
    measured = (
        "could not be measured"
        if missed.value is None
        else f"measured {missed.value:.4g} on {missed.n} draws"
    )
    return f"{missed.criterion} {missed.threshold.limit:g}{of_label} ({measured})"
