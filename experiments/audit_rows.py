"""One strategy's row of `experiments.audit`: its figures over all labels, and the verdict."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats
from torch import Tensor

from experiments.audit_parts import tensors_of
from worker.learning.judging.comparison import compared
from worker.learning.judging.likeness import energy_distance
from worker.learning.judging.traces import Traces

Found = Mapping[str, Any]
OUTSIDE = 0.01  # a p-value under which the recoveries are not those of one more reference


def row(found: Mapping[str, Found], references: Mapping[str, Sequence[Found]]) -> dict[str, Any]:
    """Of what a strategy left in each label's network, label -> findings, and of the references of each.

    verdict: "met" where every bar is kept; `missed` names those that are not. Ratios and gaps are means over
    labels; `spread` is their standard deviation between labels.
    """
    figures = {
        label: compared(_traces(one), [_traces(other) for other in references[label]])
        for label, one in found.items()
    }
    gaps = [one["recovery"]["gap"] for one in figures.values()]
    ratios = [one["relearning"]["value"] for one in figures.values()]
    memories = [one["relearning"]["memory"] for one in figures.values()]
    memberships = [one["membership"]["value"] for one in figures.values()]
    likely = p_of_another(gaps, [one["recovery"]["references"] for one in figures.values()])
    drawn = [one["accuracy"]["value"] for one in figures.values()]
    above = [
        one["accuracy"]["value"] - statistics.mean(one["accuracy"]["references"]) for one in figures.values()
    ]
    covered = [
        one["coverage"] / statistics.mean(other["coverage"] for other in references[label])
        for label, one in found.items()
    ]
    bars = {
        "recovery_gap": abs(statistics.mean(gaps)) <= 0.10,
        "recovery_within_spread": likely >= OUTSIDE,
        "relearn_ratio": statistics.mean(ratios) >= 0.8,
        "membership_auc_gap": statistics.mean(memberships) <= 0.02,
        "forgotten_accuracy": statistics.mean(above) <= 0.02,
        "coverage_ratio": statistics.mean(covered) >= 0.95,
    }
    missed = [name for name, kept in bars.items() if not kept]
    return {
        "recovery_gap": statistics.mean(gaps),
        "recovery_p": likely,
        "relearn_ratio": statistics.mean(ratios),
        "relearn_memory": statistics.mean(memories),
        "membership_auc_gap": statistics.mean(memberships),
        "forgotten_accuracy": statistics.mean(drawn),
        "forgotten_above_references": statistics.mean(above),
        "retained_accuracy": statistics.mean(one["retained"] for one in found.values()),
        "coverage_ratio": statistics.mean(covered),
        "likeness": statistics.mean(likeness(one, references[label]) for label, one in found.items()),
        "verdict": "missed" if missed else "met",
        "missed": missed,
        "spread": {
            "recovery_gap": _spread(gaps),
            "relearn_ratio": _spread(ratios),
            "membership_auc_gap": _spread(memberships),
            "forgotten_accuracy": _spread(drawn),
            "coverage_ratio": _spread(covered),
        },
        "by_label": figures,
    }


def p_of_another(gaps: Sequence[float], references: Sequence[Sequence[float]]) -> float:
    """The probability that one more reference a label would be as far from the others as these gaps are.

    F = mean gap^2 / (s^2 (1 + 1/k)), s^2 pooled over the labels' k references each: Fisher's F with as many
    degrees of freedom as there are labels, and labels times k - 1.
    """
    within = statistics.mean(statistics.variance(one) for one in references)
    count, k = len(gaps), len(references[0])
    ratio = statistics.mean(gap**2 for gap in gaps) / max(within * (1 + 1 / k), 1e-9)
    return float(stats.f.sf(ratio, count, count * (k - 1)))


def likeness(found: Found, references: Sequence[Found]) -> float:
    """The mean energy distance of the label's draws to each reference's; about 0 between references."""
    mine = tensors_of(dict(found))["embedded"]
    return statistics.mean(energy_distance(mine, _embedded(other)) for other in references)


def _embedded(found: Found) -> Tensor:
    return tensors_of(dict(found))["embedded"]


def _traces(found: Found) -> Traces:
    return Traces(**found["traces"])


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
