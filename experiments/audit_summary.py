"""Summarise what the audit measured of one strategy: its figures over all labels, and the verdict."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from scipy import special

from experiments.audit_attacks import LIMITS, compare_attacks, sign_of
from experiments.audit_cases import CaseResult
from experiments.running import Result
from worker.learning.judging.comparison import CONTROL_AUC_THRESHOLD, Comparison
from worker.learning.judging.comparison import compare as compare_networks
from worker.learning.judging.likeness import energy_distance

ATTACKS_ON_SETS = ("elbo_set", "reconstruction_set")
RECOVERY_LIMIT, MEMBERSHIP_LIMIT, FORGOTTEN_LIMIT = 0.10, 0.02, 0.02
"""The most that the mean recovery gap (on either side), AUC gap and excess of draws may be."""
MEMBERSHIP_SET_LIMIT = 0.05
"""The most that the mean AUC gap on sets of images may be (docs/decisions/0155)."""
RELEARN_LIMIT, COVERAGE_LIMIT = 0.8, 0.95
"""The least that the mean relearn ratio and coverage ratio may be."""
SIGNIFICANCE = 0.01
"""If the p-value of the recovery gaps is below this, they are too large for one more reference."""


@dataclass(frozen=True)
class AgainstReferences:
    """A figure of one label: the value of the strategy's network, and that of each reference."""

    value: float
    references: Sequence[float]

    @property
    def ratio(self) -> float:
        return self.value / statistics.mean(self.references)

    @property
    def excess(self) -> float:
        return self.value - statistics.mean(self.references)


@dataclass(frozen=True)
class LabelComparison:
    """What was measured of one label, compared with the references of that label."""

    figures: Comparison
    """The figures that a full report has."""
    retained: float
    likeness: float
    control_auc: float | None
    accuracy: AgainstReferences
    coverage: AgainstReferences
    recovery_gap: float
    recoveries: Sequence[float]
    """Of the references."""
    membership_gap: float
    """The largest of an attack on single images."""
    membership_set_gap: float
    """The largest of an attack on sets of images."""
    membership_aucs: Sequence[float]
    """Of the references, by the attack that membership_gap is from."""
    membership_set_aucs: Sequence[float]
    """Of the references, by the attack that membership_set_gap is from."""
    attacks: Mapping[str, tuple[float, Sequence[float]]]
    """The figures of attacks that have a limit: the value, and that of each reference."""
    relearn_ratio: float | None
    relearn_memory: float | None
    relearn_steps: Sequence[float] | None
    """Of the references."""
    unmeasured: str | None
    """Why there is no relearn_ratio."""


def compare(result: CaseResult, references: Sequence[CaseResult]) -> LabelComparison:
    """Compare one label's network with the references of that label."""
    figures = compare_networks(result.measurements, [one.measurements for one in references])
    accuracy, recovery, relearning, membership = (
        figures.accuracy,
        figures.recovery,
        figures.relearning,
        figures.membership,
    )
    relearned = relearning.value is not None
    assert recovery.gap is not None
    assert membership.gaps is not None
    on_sets = max(ATTACKS_ON_SETS, key=membership.gaps.__getitem__)
    return LabelComparison(
        figures=figures,
        retained=result.retained,
        likeness=likeness(result, references),
        control_auc=result.control_auc,
        accuracy=AgainstReferences(accuracy.measured_value, accuracy.references),
        coverage=AgainstReferences(result.coverage, [one.coverage for one in references]),
        recovery_gap=recovery.gap,
        recoveries=recovery.references,
        membership_gap=membership.measured_value,
        membership_set_gap=membership.gaps[on_sets],
        membership_aucs=membership.references,
        membership_set_aucs=[one.measurements.auc[on_sets] for one in references],
        attacks={
            name: (result.attacks[name], [one.attacks[name] for one in references])
            for name in LIMITS
            if all(name in one.attacks for one in (result, *references))
        },
        relearn_ratio=relearning.value,
        relearn_memory=relearning.memory,
        relearn_steps=relearning.references if relearned else None,
        unmeasured=None if relearned else relearning.reason,
    )


def likeness(result: CaseResult, references: Sequence[CaseResult]) -> float:
    """Return the mean energy distance of the label's draws to those of each reference.

    It is about 0 between references.
    """
    drawn = result.tensors()["embedded"]
    return statistics.mean(energy_distance(drawn, one.tensors()["embedded"]) for one in references)


def summarize(
    results: Mapping[str, Sequence[CaseResult]], references: Mapping[str, Sequence[CaseResult]]
) -> Result:
    """Return a strategy's row: its figures over all labels, and the verdict.

    results: label -> what was measured of the strategy's networks, one for each seed. references: label ->
    that of each reference.

    Ratios and gaps are means over networks; `spread` is their standard deviation between networks.
    `bars_missed` names the limits that the means miss. `missed`, which decides the verdict, names only those
    that they miss by more than one more reference would in 95 of 100 audits. That allowance is large for one
    label and small for ten.

    `relearn_ratio` and `relearn_memory` are over the networks that have one; None if none has. `unmeasured`
    says why another label has no ratio: a reference did not learn it again in time. The verdict of such a row
    is never "met": if nothing is missed, it is "undecided". `membership_set_gap` is the larger gap of the two
    attacks on sets of images, which detect differences that attacks on single images do not. `attacks` has
    the figures of the attacks on the weights: see `compare_attacks`.

    `control_auc` is the AUC of the membership attack on networks that memorised their members; None except in
    the row `nothing`.
    """
    by_label = {
        label: [compare(one, references[label]) for one in networks] for label, networks in results.items()
    }
    labels = list(chain(*by_label.values()))
    gaps = [one.recovery_gap for one in labels]
    ratios = [one.relearn_ratio for one in labels if one.relearn_ratio is not None]
    memories = [one.relearn_memory for one in labels if one.relearn_memory is not None]
    memberships = [one.membership_gap for one in labels]
    sets = [one.membership_set_gap for one in labels]
    accuracies = [one.accuracy.value for one in labels]
    coverages = [one.coverage.ratio for one in labels]
    controls = [one.control_auc for one in labels if one.control_auc is not None]
    p = p_value_of_another_reference(
        [[one.recovery_gap for one in each] for each in by_label.values()],
        [each[0].recoveries for each in by_label.values()],
    )
    checks = check_limits(list(by_label.values()))
    missed = [name for name, check in checks.items() if check.is_missed]
    if p < SIGNIFICANCE:
        missed.append("recovery_within_spread")
    return {
        "recovery_gap": statistics.mean(gaps),
        "recovery_p": p,
        "relearn_ratio": statistics.mean(ratios) if ratios else None,
        "relearn_memory": statistics.mean(memories) if memories else None,
        "membership_auc_gap": statistics.mean(memberships),
        "membership_set_gap": statistics.mean(sets),
        "forgotten_accuracy": statistics.mean(accuracies),
        "forgotten_above_references": statistics.mean(one.accuracy.excess for one in labels),
        "retained_accuracy": statistics.mean(one.retained for one in labels),
        "coverage_ratio": statistics.mean(coverages),
        "control_auc": statistics.mean(controls) if controls else None,
        "likeness": statistics.mean(one.likeness for one in labels),
        "verdict": "missed" if missed else "met" if len(ratios) == len(labels) else "undecided",
        "missed": missed,
        "bars_missed": [name for name, check in checks.items() if check.is_beyond_limit],
        "unmeasured": {
            label: one.unmeasured for label, each in by_label.items() for one in each if one.unmeasured
        },
        "attacks": compare_attacks(*(_attacks_of(one, results) for one in (results, references))),
        "spread": {
            "recovery_gap": _spread(gaps),
            "relearn_ratio": _spread(ratios),
            "membership_auc_gap": _spread(memberships),
            "membership_set_gap": _spread(sets),
            "forgotten_accuracy": _spread(accuracies),
            "coverage_ratio": _spread(coverages),
        },
        "by_label": {label: [one.figures.as_json() for one in each] for label, each in by_label.items()},
    }


def _attacks_of(
    networks: Mapping[str, Sequence[CaseResult]], labels: Iterable[str]
) -> dict[str, list[Mapping[str, float]]]:
    """The attacks' figures of the networks of each of the labels."""
    return {label: [one.attacks for one in networks[label]] for label in labels}


@dataclass(frozen=True)
class Check:
    """How far a mean over labels is beyond its limit, and how far that of one more reference may be."""

    beyond: float
    """Not positive if the mean is within the limit."""
    allowed: float = 0.0
    """What one more reference stays under in 95 of 100 audits."""

    @property
    def is_beyond_limit(self) -> bool:
        return self.beyond > 0

    @property
    def is_missed(self) -> bool:
        return self.beyond > max(0.0, self.allowed)


def check_limits(by_label: Sequence[Sequence[LabelComparison]]) -> dict[str, Check]:
    """Check each figure that has a limit.

    by_label: the comparisons of each label, one for each seed. They share their references, whose spread
    counts only once, so what is allowed is what one more reference would show with a single seed.
    """
    labels, once = list(chain(*by_label)), [each[0] for each in by_label]
    ratios = [one.relearn_ratio for one in labels if one.relearn_ratio is not None]
    steps = [one.relearn_steps for one in once if one.relearn_steps is not None]
    controls = [one.control_auc for one in labels if one.control_auc is not None]
    coverage = statistics.mean(one.coverage.ratio for one in labels)
    checks = {
        "recovery_gap": Check(
            abs(statistics.mean(one.recovery_gap for one in labels)) - RECOVERY_LIMIT,
            margin_of_mean([one.recoveries for one in once]) - RECOVERY_LIMIT,
        ),
        "membership_auc_gap": Check(
            statistics.mean(one.membership_gap for one in labels) - MEMBERSHIP_LIMIT,
            margin_of_mean_size([one.membership_aucs for one in once]) - MEMBERSHIP_LIMIT,
        ),
        "membership_set_gap": Check(
            statistics.mean(one.membership_set_gap for one in labels) - MEMBERSHIP_SET_LIMIT,
            margin_of_mean_size([one.membership_set_aucs for one in once]) - MEMBERSHIP_SET_LIMIT,
        ),
        "forgotten_accuracy": Check(
            statistics.mean(one.accuracy.excess for one in labels) - FORGOTTEN_LIMIT,
            margin_of_mean([one.accuracy.references for one in once]) - FORGOTTEN_LIMIT,
        ),
        "coverage_ratio": Check(
            COVERAGE_LIMIT - coverage,
            margin_of_mean(_relative([one.coverage.references for one in once])) - (1 - COVERAGE_LIMIT),
        ),
    }
    for name, limit in LIMITS.items():
        measured = [one.attacks[name] for one in labels if name in one.attacks]
        if measured:
            gap = sign_of(name) * statistics.mean(one - statistics.mean(others) for one, others in measured)
            allowed = margin_of_mean([one.attacks[name][1] for one in once if name in one.attacks])
            checks[name] = Check(gap - limit, allowed - limit)
    if ratios and steps:
        checks["relearn_ratio"] = Check(
            RELEARN_LIMIT - statistics.mean(ratios), margin_of_mean(_relative(steps)) - (1 - RELEARN_LIMIT)
        )
    if controls:
        checks["control_auc"] = Check(CONTROL_AUC_THRESHOLD.limit - statistics.mean(controls))
    return checks


def margin_of_mean(references: Sequence[Sequence[float]]) -> float:
    """Return how far, in 95 of 100 audits, one more reference stays from the others in the mean over labels.

    references: the k values of each label. The margin is t s sqrt((1 + 1/k) / labels), with s pooled over the
    labels.
    """
    count, k = len(references), len(references[0])
    return _t_quantile(count, k) * _pooled_deviation(references) / math.sqrt(count)


def margin_of_mean_size(references: Sequence[Sequence[float]]) -> float:
    """Return `margin_of_mean` for differences without their signs, by Fisher's F distribution.

    It is the margin of their root mean square, which is an upper bound of the mean of their absolute values.
    """
    count, k = len(references), len(references[0])
    return _pooled_deviation(references) * math.sqrt(special.fdtri(count, count * (k - 1), 0.95))


def p_value_of_another_reference(
    gaps: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
) -> float:
    """Return the probability that more references of each label are as far from the others as these networks.

    gaps: those of each label's n networks, one for each seed. references: the k values of each label. With g
    the mean gap of a label, F = mean g^2 / (s^2 (1/n + 1/k)), with s^2 pooled over the references. It has
    Fisher's F distribution with as many degrees of freedom as there are labels, and labels times k - 1.
    """
    count, k = len(gaps), len(references[0])
    squares = statistics.mean(statistics.mean(one) ** 2 for one in gaps)
    within = max(statistics.mean(statistics.variance(one) for one in references), 1e-9)
    ratio = squares / (within * (1 / len(gaps[0]) + 1 / k))
    return float(special.fdtrc(count, count * (k - 1), ratio))


def _pooled_deviation(references: Sequence[Sequence[float]]) -> float:
    """The standard deviation of one more reference from the mean of the others, pooled over labels."""
    within = statistics.mean(statistics.variance(one) for one in references)
    return math.sqrt(within * (1 + 1 / len(references[0])))


def _t_quantile(count: int, k: int) -> float:
    return float(special.stdtrit(count * (k - 1), 0.975))


def _relative(references: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[value / statistics.mean(one) for value in one] for one in references]


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
