"""Compare the measurements of a candidate with those of references: networks retrained without the label.

Each figure has two thresholds. The fixed one does not depend on how far apart the references are. The other
one is the fixed one, widened to the range in which one more reference would lie in 95 of 100 cases. It
decides the verdict, with two exceptions: there is no verdict if the value meets it but misses the fixed one,
or if every possible value would meet it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from reports import (
    ComparedFigure,
    Curves,
    Figure,
    Margin,
    MembershipFigure,
    Range,
    RecoveryFigure,
    RelearningFigure,
    Threshold,
    Verdict,
    at_least,
    at_most,
    combine_verdicts,
)
from worker.learning.judging.audit_measurements import AuditMeasurements
from worker.learning.judging.estimates import interval_of_mean, prediction_interval, wilson_interval
from worker.learning.judging.relearning import LEARNED_ACCURACY, Curve, steps_to_reach

ACCURACY_MARGIN = Margin(op="<=", margin=0.02)
RECOVERY_MARGIN = Margin(op="within", margin=0.10)
RELEARNING_THRESHOLD = at_least(0.8)
MEMBERSHIP_THRESHOLD = at_most(0.02)
CONTROL_AUC_THRESHOLD = at_least(0.6)
"""AUC that the membership attack must reach on a network that memorised its members."""
ATTACKS_ON_SINGLE_IMAGES = ("elbo", "reconstruction")

SHARE_RANGE, RATIO_RANGE = (0.0, 1.0), (0.0, math.inf)
"""The smallest and the largest possible value of a figure."""


@dataclass(frozen=True)
class Comparison:
    """One label's figures, compared with those of the references."""

    accuracy: ComparedFigure
    recovery: RecoveryFigure
    relearning: RelearningFigure
    membership: MembershipFigure

    @property
    def figures(self) -> dict[str, ComparedFigure]:
        """The figures by name."""
        return {
            "accuracy": self.accuracy,
            "recovery": self.recovery,
            "relearning": self.relearning,
            "membership": self.membership,
        }

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON-ready dicts."""
        return {name: figure.as_json() for name, figure in self.figures.items()}


def compare(candidate: AuditMeasurements, references: Sequence[AuditMeasurements]) -> Comparison:
    """Compare the measurements of one label with those of at least two references."""
    return Comparison(
        accuracy=compare_accuracy(candidate, references),
        recovery=compare_recovery(candidate, references),
        relearning=compare_relearning(candidate, references),
        membership=compare_membership(candidate, references),
    )


def not_compared(reason: str) -> Comparison:
    """Return the figures of a label that could not be compared."""
    return Comparison(
        accuracy=ComparedFigure(
            value=None, n=0, threshold=ACCURACY_MARGIN, fixed_threshold=ACCURACY_MARGIN, reason=reason
        ),
        recovery=RecoveryFigure(
            value=None, n=0, threshold=RECOVERY_MARGIN, fixed_threshold=RECOVERY_MARGIN, reason=reason
        ),
        relearning=RelearningFigure(
            value=None,
            n=0,
            threshold=RELEARNING_THRESHOLD,
            fixed_threshold=RELEARNING_THRESHOLD,
            reason=reason,
        ),
        membership=MembershipFigure(
            value=None,
            n=0,
            threshold=MEMBERSHIP_THRESHOLD,
            fixed_threshold=MEMBERSHIP_THRESHOLD,
            reason=reason,
        ),
    )


def compare_accuracy(candidate: AuditMeasurements, references: Sequence[AuditMeasurements]) -> ComparedFigure:
    """Compare the share of draws that show the label: at most the references' mean + 0.02."""
    reference_values = [one.accuracy for one in references]
    fixed = at_most(mean(reference_values) + ACCURACY_MARGIN.margin)
    threshold = at_most(max(fixed.limit, prediction_interval(reference_values)[1]))
    value, fixed_verdict = candidate.accuracy, fixed.verdict(candidate.accuracy)
    verdict, reason = _decide(value, threshold, fixed_verdict, SHARE_RANGE)
    return ComparedFigure(
        value=value,
        n=candidate.draws,
        interval=wilson_interval(candidate.drawn, candidate.draws),
        threshold=threshold,
        verdict=verdict,
        reason=reason,
        references=tuple(reference_values),
        fixed_threshold=ACCURACY_MARGIN,
        fixed_verdict=fixed_verdict,
    )


def compare_recovery(candidate: AuditMeasurements, references: Sequence[AuditMeasurements]) -> RecoveryFigure:
    """Compare the share of recovery attacks that succeed: within 0.1 of the references' mean."""
    reference_values = [one.recovery for one in references]
    (low, high), usual = prediction_interval(reference_values), mean(reference_values)
    threshold = Range(
        low=min(low, usual - RECOVERY_MARGIN.margin), high=max(high, usual + RECOVERY_MARGIN.margin)
    )
    value, gap = candidate.recovery, candidate.recovery - usual
    fixed_verdict: Verdict = "met" if abs(gap) <= RECOVERY_MARGIN.margin else "missed"
    verdict, reason = _decide(value, threshold, fixed_verdict, SHARE_RANGE)
    return RecoveryFigure(
        value=value,
        n=candidate.starts,
        interval=wilson_interval(candidate.found, candidate.starts),
        threshold=threshold,
        verdict=verdict,
        reason=reason,
        references=tuple(reference_values),
        fixed_threshold=RECOVERY_MARGIN,
        fixed_verdict=fixed_verdict,
        gap=gap,
    )


def compare_relearning(
    candidate: AuditMeasurements, references: Sequence[AuditMeasurements]
) -> RelearningFigure:
    """Compare the steps until the label is learned again, divided by the references' mean: at least 0.8.

    The figure is unmeasured if a reference never reached LEARNED_ACCURACY. If the candidate never did, its
    steps and the values computed from them are lower bounds. `memory` divides by the same ratio for a shape
    that no network ever saw, so that a network that learns anything fast is not taken for one that
    remembers. A curve ends where it reaches LEARNED_ACCURACY; all others have the same length.
    """
    curves = Curves(
        target_accuracy=LEARNED_ACCURACY,
        candidate=_rounded(candidate.curve),
        references=tuple(_rounded(one.curve) for one in references),
    )
    reference_values = _steps([one.curve for one in references])
    if reference_values is None:
        return RelearningFigure(
            value=None,
            n=0,
            threshold=RELEARNING_THRESHOLD,
            fixed_threshold=RELEARNING_THRESHOLD,
            curves=curves,
            reason=f"a reference did not reach {LEARNED_ACCURACY:.0%} in {_longest(references)} steps: "
            "allow more steps",
        )
    reached = _steps([candidate.curve])
    steps, usual = reached[0] if reached else candidate.curve[-1][0], mean(reference_values)
    low, high = interval_of_mean(reference_values)
    threshold = at_least(min(RELEARNING_THRESHOLD.limit, prediction_interval(reference_values)[0] / usual))
    value, unseen_ratio = steps / usual, _unseen_ratio(candidate, references)
    fixed_verdict = RELEARNING_THRESHOLD.verdict(value)
    verdict, reason = _decide(value, threshold, fixed_verdict, RATIO_RANGE)
    return RelearningFigure(
        value=value,
        n=len(reference_values),
        interval=(steps / high, steps / max(low, 1.0)),
        threshold=threshold,
        verdict=verdict,
        reason=reason,
        references=tuple(reference_values),
        fixed_threshold=RELEARNING_THRESHOLD,
        fixed_verdict=fixed_verdict,
        steps=steps,
        is_lower_bound=reached is None,
        unseen_ratio=unseen_ratio,
        memory=None if unseen_ratio is None else value / unseen_ratio,
        curves=curves,
    )


def compare_membership(
    candidate: AuditMeasurements, references: Sequence[AuditMeasurements]
) -> MembershipFigure:
    """Compare the AUCs of the attacks on single images: at most 0.02 away from the references' mean."""
    gaps = {name: abs(auc - mean(one.auc[name] for one in references)) for name, auc in candidate.auc.items()}
    attack = max(ATTACKS_ON_SINGLE_IMAGES, key=lambda name: gaps[name])
    value, auc, reference_values = (
        gaps[attack],
        candidate.auc[attack],
        [one.auc[attack] for one in references],
    )
    threshold = at_most(
        max(MEMBERSHIP_THRESHOLD.limit, prediction_interval(reference_values)[1] - mean(reference_values))
    )
    low, high = interval_of_mean(reference_values)
    nearest, furthest = sorted((abs(auc - low), abs(auc - high)))
    fixed_verdict = MEMBERSHIP_THRESHOLD.verdict(value)
    verdict, reason = _decide(value, threshold, fixed_verdict, SHARE_RANGE)
    return MembershipFigure(
        value=value,
        n=len(reference_values),
        interval=(0.0 if low <= auc <= high else nearest, furthest),
        threshold=threshold,
        verdict=verdict,
        reason=reason,
        references=tuple(reference_values),
        fixed_threshold=MEMBERSHIP_THRESHOLD,
        fixed_verdict=fixed_verdict,
        auc=candidate.auc,
        gaps=gaps,
        attack=attack,
    )


def summarise_verdicts(
    figures: Mapping[str, Figure],
) -> tuple[Verdict | None, tuple[str, ...], tuple[str, ...]]:
    """Return the combined verdict, the names of the missed figures, and of those without a verdict.

    Only figures that have a threshold count.
    """
    verdicts = {name: one.verdict for name, one in figures.items() if one.threshold is not None}
    missed = tuple(sorted(name for name, verdict in verdicts.items() if verdict == "missed"))
    undecided = tuple(sorted(name for name, verdict in verdicts.items() if verdict is None))
    return combine_verdicts(verdicts.values()), missed, undecided


def _decide(
    value: float, threshold: Threshold | Range, fixed_verdict: Verdict, extremes: tuple[float, float]
) -> tuple[Verdict | None, str | None]:
    """The verdict by the threshold; or None, and the reason why there is none."""
    if all(threshold.is_met(one) for one in extremes):
        return None, "the references are so far apart that every value would meet the threshold"
    verdict = threshold.verdict(value)
    if verdict == "met" and fixed_verdict == "missed":
        return None, "the value misses the fixed threshold, but one more reference might miss it, too"
    return verdict, None


def _unseen_ratio(candidate: AuditMeasurements, references: Sequence[AuditMeasurements]) -> float | None:
    """The steps for a shape no network ever saw, over the references' mean; None if one never learned it."""
    taken = _steps([one.unseen_curve for one in (candidate, *references)])
    return taken[0] / mean(taken[1:]) if taken else None


def _steps(curves: Sequence[Curve]) -> list[float] | None:
    """The steps in which each curve reaches LEARNED_ACCURACY, at least 1; None if one never does."""
    taken = [steps_to_reach(LEARNED_ACCURACY, curve) for curve in curves]
    reached = [max(1.0, one) for one in taken if one is not None]
    return reached if len(reached) == len(taken) else None


def _longest(networks: Sequence[AuditMeasurements]) -> int:
    """The number of steps of the longest curve."""
    return max(one.curve[-1][0] for one in networks)


def _rounded(curve: Curve) -> tuple[tuple[int, float], ...]:
    """The points of the curve, rounded to the digits that a chart needs."""
    return tuple((step, round(accuracy, 4)) for step, accuracy in curve)
