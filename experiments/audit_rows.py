"""One strategy's row of `experiments.audit`: its figures over all labels, and the verdict."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import special
from torch import Tensor

from experiments.audit_parts import tensors_of
from worker.learning.judging.audit_measurements import Traces
from worker.learning.judging.comparison import CONTROL, compared
from worker.learning.judging.evidence import Figure
from worker.learning.judging.likeness import energy_distance

Found = Mapping[str, Any]
OF_SETS = ("elbo_set", "reconstruction_set")
OUTSIDE = 0.01  # a p-value under which the recoveries are not those of one more reference


def row(found: Mapping[str, Found], references: Mapping[str, Sequence[Found]]) -> dict[str, Any]:
    """Of what a strategy left in each label's network, label -> findings, and of the references of each.

    Ratios and gaps are means over labels; `spread` is their standard deviation between labels.
    `bars_missed` are the plain bars; `missed`, which the verdict rests on, those missed by more than one
    more reference would miss them in 95 of 100 audits: on one label that is much, on ten it is little.
    `relearn_ratio` and `relearn_memory` are of the labels that have one, null where none has; `unmeasured`
    says of each other label why it has no ratio: a reference never learnt it again; then nothing is "met",
    and what is not missed is "undecided". `membership_set_gap`: the larger gap of the two attacks on sets
    of images, which tell networks apart that single images do not; it informs. `control_auc`: of the
    membership attack on networks that know their members by heart, in the row of what was never forgotten,
    null elsewhere.
    """
    figures = {label: _beside(one, references[label]) for label, one in found.items()}
    gaps = [one["recovery"]["gap"] for one in figures.values()]
    relearnt = [label for label, one in figures.items() if one["relearning"]["value"] is not None]
    ratios = [figures[label]["relearning"]["value"] for label in relearnt]
    memories = [told for one in figures.values() if (told := one["relearning"].get("memory")) is not None]
    memberships = [one["membership"]["value"] for one in figures.values()]
    sets = [max(one["membership"]["gaps"][attack] for attack in OF_SETS) for one in figures.values()]
    likely = p_of_another(gaps, [one["recovery"]["references"] for one in figures.values()])
    drawn = [one["accuracy"]["value"] for one in figures.values()]
    above = [
        one["accuracy"]["value"] - statistics.mean(one["accuracy"]["references"]) for one in figures.values()
    ]
    covered = [
        one["coverage"] / statistics.mean(other["coverage"] for other in references[label])
        for label, one in found.items()
    ]
    of = [figures[label] for label in found]
    accuracies, recoveries, aucs = (
        [one[name]["references"] for one in of] for name in ("accuracy", "recovery", "membership")
    )
    steps = [figures[label]["relearning"]["references"] for label in relearnt]
    coverages = [[other["coverage"] for other in references[label]] for label in found]
    ratio, covering = statistics.mean(ratios) if ratios else None, statistics.mean(covered)
    controls = [one["control_auc"] for one in found.values() if "control_auc" in one]
    bars = {  # figure -> (by how much the bar is missed, by how much one more reference may miss it)
        "recovery_gap": (abs(statistics.mean(gaps)) - 0.10, margin(recoveries) - 0.10),
        "membership_auc_gap": (statistics.mean(memberships) - 0.02, margin_of_sizes(aucs) - 0.02),
        "forgotten_accuracy": (statistics.mean(above) - 0.02, margin(accuracies) - 0.02),
        "coverage_ratio": (0.95 - covering, margin(_relative(coverages)) - 0.05),
    }
    if ratio is not None:
        bars["relearn_ratio"] = (0.8 - ratio, margin(_relative(steps)) - 0.2)
    if controls:
        bars["control_auc"] = (CONTROL.limit - statistics.mean(controls), 0.0)
    strictly = [name for name, (over, _) in bars.items() if over > 0]
    missed = [name for name, (over, allowed) in bars.items() if over > max(0.0, allowed)]
    if likely < OUTSIDE:
        missed.append("recovery_within_spread")
    return {
        "recovery_gap": statistics.mean(gaps),
        "recovery_p": likely,
        "relearn_ratio": ratio,
        "relearn_memory": statistics.mean(memories) if memories else None,
        "membership_auc_gap": statistics.mean(memberships),
        "membership_set_gap": statistics.mean(sets),
        "forgotten_accuracy": statistics.mean(drawn),
        "forgotten_above_references": statistics.mean(above),
        "retained_accuracy": statistics.mean(one["retained"] for one in found.values()),
        "coverage_ratio": covering,
        "control_auc": statistics.mean(controls) if controls else None,
        "likeness": statistics.mean(likeness(one, references[label]) for label, one in found.items()),
        "verdict": "missed" if missed else "met" if len(relearnt) == len(found) else "undecided",
        "missed": missed,
        "bars_missed": strictly,
        "unmeasured": {
            label: one["relearning"]["reason"] for label, one in figures.items() if label not in relearnt
        },
        "spread": {
            "recovery_gap": _spread(gaps),
            "relearn_ratio": _spread(ratios),
            "membership_auc_gap": _spread(memberships),
            "membership_set_gap": _spread(sets),
            "forgotten_accuracy": _spread(drawn),
            "coverage_ratio": _spread(covered),
        },
        "by_label": figures,
    }


def _beside(found: Found, references: Sequence[Found]) -> dict[str, Figure]:
    return compared(_traces(found), [_traces(other) for other in references])


def margin(references: Sequence[Sequence[float]]) -> float:
    """How far the mean over labels of one more reference is from the others', in 95 of 100 audits.

    references: a label's k values each. t s sqrt((1 + 1/k) / labels), s pooled over the labels.
    """
    count, k = len(references), len(references[0])
    return _student(count, k) * _apart(references) / math.sqrt(count)


def margin_of_sizes(references: Sequence[Sequence[float]]) -> float:
    """The same of the root mean square of the differences, which bounds their mean size: by Fisher's F."""
    count, k = len(references), len(references[0])
    return _apart(references) * math.sqrt(special.fdtri(count, count * (k - 1), 0.95))


def _apart(references: Sequence[Sequence[float]]) -> float:
    """The deviation of one more reference from the mean of the others, pooled over labels."""
    within = statistics.mean(statistics.variance(one) for one in references)
    return math.sqrt(within * (1 + 1 / len(references[0])))


def _student(count: int, k: int) -> float:
    return float(special.stdtrit(count * (k - 1), 0.975))


def _relative(references: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[value / statistics.mean(one) for value in one] for one in references]


def p_of_another(gaps: Sequence[float], references: Sequence[Sequence[float]]) -> float:
    """The probability that one more reference a label would be as far from the others as these gaps are.

    F = mean gap^2 / (s^2 (1 + 1/k)), s^2 pooled over the labels' k references each: Fisher's F with as many
    degrees of freedom as there are labels, and labels times k - 1.
    """
    count, k = len(gaps), len(references[0])
    ratio = statistics.mean(gap**2 for gap in gaps) / max(_apart(references) ** 2, 1e-9)
    return float(special.fdtrc(count, count * (k - 1), ratio))


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
