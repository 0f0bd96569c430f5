"""Compare a candidate with networks retrained without the label: how far apart are they, and is that too far?

Each figure has a fixed threshold, demanded however far apart the references are, and a threshold: the fixed
one, widened to where one more reference would lie in 95 of 100 cases. A value that meets the threshold and
misses the fixed one has no verdict, nor has one whose threshold nothing could miss: neither says anything of
the candidate.
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
from worker.learning.judging.estimates import interval_of_mean, prediction_interval, wilson
from worker.learning.judging.relearning import Curve, steps_to_reach

ACCURACY = Margin(op="<=", margin=0.02)
RECOVERY = Margin(op="within", margin=0.10)
RELEARNING = at_least(0.8)
MEMBERSHIP = at_most(0.02)
CONTROL_AUC = at_least(0.6)
"""What the membership attack has to reach on a network that knows its members by heart."""
LEARNED = 0.9
"""The accuracy at which a label counts as learned again."""
ATTACKS_ON_SINGLE_IMAGES = ("elbo", "reconstruction")

SHARE, RATIO = (0.0, 1.0), (0.0, math.inf)
"""The smallest and the largest value that a figure could have."""


@dataclass(frozen=True)
class Comparison:
    """One label's figures beside those of the references."""

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
    """Compare the measurements of one label, with at least two references."""
    return Comparison(
        accuracy=compare_accuracy(candidate, references),
        recovery=compare_recovery(candidate, references),
        relearning=compare_relearning(candidate, references),
        membership=compare_membership(candidate, references),
    )


def not_compared(reason: str) -> Comparison:
    """The figures of a label that could not be compared."""
    return Comparison(
        accuracy=ComparedFigure(value=None, n=0, threshold=ACCURACY, fixed_threshold=ACCURACY, reason=reason),
        recovery=RecoveryFigure(value=None, n=0, threshold=RECOVERY, fixed_threshold=RECOVERY, reason=reason),
        relearning=RelearningFigure(
            value=None, n=0, threshold=RELEARNING, fixed_threshold=RELEARNING, reason=reason
        ),
        membership=MembershipFigure(
            value=None, n=0, threshold=MEMBERSHIP, fixed_threshold=MEMBERSHIP, reason=reason
        ),
    )


def compare_accuracy(candidate: AuditMeasurements, references: Sequence[AuditMeasurements]) -> ComparedFigure:
    """The share of draws that are the label: at most the references' mean + 0.02."""
    others = [one.accuracy for one in references]
    fixed = at_most(mean(others) + ACCURACY.margin)
    threshold = at_most(max(fixed.limit, prediction_interval(others)[1]))
    value, fixed_verdict = candidate.accuracy, fixed.verdict(candidate.accuracy)
    verdict, reason = _decide(value, threshold, fixed_verdict, SHARE)
    return ComparedFigure(
        value=value,
        n=candidate.draws,
        interval=wilson(candidate.drawn, candidate.draws),
        threshold=threshold,
        verdict=verdict,
        reason=reason,
        references=tuple(others),
        fixed_threshold=ACCURACY,
        fixed_verdict=fixed_verdict,
    )


def compare_recovery(candidate: AuditMeasurements, references: Sequence[AuditMeasurements]) -> RecoveryFigure:
    """The share of recovery attacks that succeed: within 0.1 of the references' mean."""
    others = [one.recovery for one in references]
    (low, high), usual = prediction_interval(others), mean(others)
    threshold = Range(low=min(low, usual - RECOVERY.margin), high=max(high, usual + RECOVERY.margin))
    value, gap = candidate.recovery, candidate.recovery - usual
    fixed_verdict: Verdict = "met" if abs(gap) <= RECOVERY.margin else "missed"
    verdict, reason = _decide(value, threshold, fixed_verdict, SHARE)
    return RecoveryFigure(
        value=value,
        n=candidate.starts,
        interval=wilson(candidate.found, candidate.starts),
        threshold=threshold,
        verdict=verdict,
        reason=reason,
        references=tuple(others),
        fixed_threshold=RECOVERY,
        fixed_verdict=fixed_verdict,
        gap=gap,
    )


def compare_relearning(
    candidate: AuditMeasurements, references: Sequence[AuditMeasurements]
) -> RelearningFigure:
    """The steps until the label is learned again, over the references' mean: at least 0.8.

    Unmeasured where a reference never got there. Where the candidate never did, its steps and what is made of
    them are lower bounds. `memory` divides by the same ratio for a figure that no network ever saw, so that a
    network which learns anything fast is not taken for one that remembers. All curves are equally long.
    """
    curves = Curves(
        target_accuracy=LEARNED,
        candidate=_rounded(candidate.curve),
        references=tuple(_rounded(one.curve) for one in references),
    )
    others = _steps([one.curve for one in references])
    if others is None:
        return RelearningFigure(
            value=None,
            n=0,
            threshold=RELEARNING,
            fixed_threshold=RELEARNING,
            curves=curves,
            reason=f"a reference did not reach {LEARNED:.0%} in {candidate.curve[-1][0]} steps: take more",
        )
    reached = _steps([candidate.curve])
    steps, usual = reached[0] if reached else candidate.curve[-1][0], mean(others)
    low, high = interval_of_mean(others)
    threshold = at_least(min(RELEARNING.limit, prediction_interval(others)[0] / usual))
    value, unseen_ratio = steps / usual, _unseen_ratio(candidate, references)
    fixed_verdict = RELEARNING.verdict(value)
    verdict, reason = _decide(value, threshold, fixed_verdict, RATIO)
    return RelearningFigure(
        value=value,
        n=len(others),
        interval=(steps / high, steps / max(low, 1.0)),
        threshold=threshold,
        verdict=verdict,
        reason=reason,
        references=tuple(others),
        fixed_threshold=RELEARNING,
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
    """The largest difference in AUC of an attack on single images to the references' mean: at most 0.02."""
    gaps = {name: abs(auc - mean(one.auc[name] for one in references)) for name, auc in candidate.auc.items()}
    attack = max(ATTACKS_ON_SINGLE_IMAGES, key=lambda name: gaps[name])
    value, auc, others = gaps[attack], candidate.auc[attack], [one.auc[attack] for one in references]
    threshold = at_most(max(MEMBERSHIP.limit, prediction_interval(others)[1] - mean(others)))
    low, high = interval_of_mean(others)
    nearest, furthest = sorted((abs(auc - low), abs(auc - high)))
    fixed_verdict = MEMBERSHIP.verdict(value)
    verdict, reason = _decide(value, threshold, fixed_verdict, SHARE)
    return MembershipFigure(
        value=value,
        n=len(others),
        interval=(0.0 if low <= auc <= high else nearest, furthest),
        threshold=threshold,
        verdict=verdict,
        reason=reason,
        references=tuple(others),
        fixed_threshold=MEMBERSHIP,
        fixed_verdict=fixed_verdict,
        auc=candidate.auc,
        gaps=gaps,
        attack=attack,
    )


def summarise(figures: Mapping[str, Figure]) -> tuple[Verdict | None, tuple[str, ...], tuple[str, ...]]:
    """Return the verdict of all figures together, the names of those missed, and of those without a verdict.

    Only figures that have a threshold count.
    """
    verdicts = {name: one.verdict for name, one in figures.items() if one.threshold is not None}
    missed = tuple(sorted(name for name, verdict in verdicts.items() if verdict == "missed"))
    undecided = tuple(sorted(name for name, verdict in verdicts.items() if verdict is None))
    return combine_verdicts(verdicts.values()), missed, undecided


def _decide(
    value: float, threshold: Threshold | Range, fixed_verdict: Verdict, extremes: tuple[float, float]
) -> tuple[Verdict | None, str | None]:
    """The verdict by the threshold; or none, and why the threshold says nothing of the candidate."""
    if all(threshold.is_met(one) for one in extremes):
        return None, "the references are so far apart that nothing could miss this"
    verdict = threshold.verdict(value)
    if verdict == "met" and fixed_verdict == "missed":
        return None, "beyond the fixed threshold, as one more reference might be"
    return verdict, None


def _unseen_ratio(candidate: AuditMeasurements, references: Sequence[AuditMeasurements]) -> float | None:
    """The steps for a figure no network ever saw, over the references' mean; None if one never learned it."""
    taken = _steps([one.unseen_curve for one in (candidate, *references)])
    return taken[0] / mean(taken[1:]) if taken else None


def _steps(curves: Sequence[Curve]) -> list[float] | None:
    """The steps of each curve to LEARNED, at least 1; None if one never got there."""
    taken = [steps_to_reach(LEARNED, curve) for curve in curves]
    reached = [max(1.0, one) for one in taken if one is not None]
    return reached if len(reached) == len(taken) else None


def _rounded(curve: Curve) -> tuple[tuple[int, float], ...]:
    """The points of the curve, in as many digits as a picture needs."""
    return tuple((step, round(accuracy, 4)) for step, accuracy in curve)
