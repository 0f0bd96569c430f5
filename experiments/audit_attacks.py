"""Summarise what attacks on the weights found in one strategy's networks, beside references."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import chain, combinations

from experiments.running import Result
from worker.learning.judging.estimates import interval_of_mean

LIMITS = {
    "free_column_cosine": 0.02,
    "free_column_share": 0.10,
    "free_column_precision": 0.10,
    "few_shot_1_cosine": 0.02,
    "few_shot_1_nats": 1.0,
    "few_shot_5_cosine": 0.02,
    "few_shot_5_nats": 1.0,
    "few_shot_30_cosine": 0.02,
    "few_shot_30_nats": 1.0,
    "few_shot_30_share": 0.10,
    "few_shot_30_precision": 0.10,
    "units_cosine": 0.005,
    "auxiliary_retained_cosine": 0.02,
    "auxiliary_retained_share": 0.02,
    "auxiliary_other_dataset_cosine": 0.02,
    "auxiliary_other_dataset_share": 0.02,
}
"""Figure -> the most that its mean gap may be. The others are shown, but no verdict rests on them."""

Figures = Mapping[str, float]
"""Name -> what was measured of one network: see `measure_attacks`."""


def compare_attacks(
    networks: Mapping[str, Sequence[Figures]], references: Mapping[str, Sequence[Figures]]
) -> dict[str, Result]:
    """Compare each figure of a strategy's networks with the references of the same label.

    networks: label -> figures of the strategy's networks, one for each seed. references: label -> figures of
    each reference. Returns, for each figure:

    - `value` and `references`: the means over networks, and over labels;
    - `gap`: the mean over networks of the value minus the references' mean, so that more of the label than
      the references show is positive (for `..._nats`, where more of the label is less, the other way round);
    - `interval`: Student's 95 % interval of the gap over labels, each the mean over its networks, because
      these share their references; None for one label;
    - `between`: the largest difference between two references, mean over labels;
    - `beyond`: label -> how many of its networks have a gap larger than the largest difference between two of
      its references; a label without any is left out;
    - `labels_beyond`: the labels whose gap, the mean over their networks, is larger than that difference.

    A figure that a network lacks is left out.
    """
    found = {}
    for name in _shared(networks, references):
        sign = sign_of(name)
        values = {label: [each[name] for each in one] for label, one in networks.items()}
        others = {label: [each[name] for each in references[label]] for label in networks}
        gaps = {
            label: [sign * (value - statistics.mean(others[label])) for value in one]
            for label, one in values.items()
        }
        of_labels = {label: statistics.mean(one) for label, one in gaps.items()}
        between = {label: largest_difference(others[label]) for label in networks}
        beyond = {label: sum(gap > between[label] for gap in one) for label, one in gaps.items()}
        found[name] = {
            "value": statistics.mean(chain(*values.values())),
            "references": statistics.mean(statistics.mean(one) for one in others.values()),
            "gap": statistics.mean(chain(*gaps.values())),
            "interval": interval_of_mean(list(of_labels.values())) if len(of_labels) > 1 else None,
            "between": statistics.mean(between.values()),
            "beyond": {label: count for label, count in beyond.items() if count},
            "labels_beyond": [label for label, gap in of_labels.items() if gap > between[label]],
            "by_label": {label: [values[label], others[label]] for label in networks},
        }
    return found


def sign_of(figure: str) -> int:
    """Return 1 if more of the figure is more of the label, and -1 if less of it is."""
    return -1 if figure.endswith("_nats") else 1


def largest_difference(values: Sequence[float]) -> float:
    """Return the largest difference between two values; 0 for a single one."""
    return max((abs(one - other) for one, other in combinations(values, 2)), default=0.0)


def _shared(
    networks: Mapping[str, Sequence[Figures]], references: Mapping[str, Sequence[Figures]]
) -> Sequence[str]:
    """The figures that all networks have, in the order of the first."""
    everything = [each for label, one in networks.items() for each in (*one, *references[label])]
    return [name for name in everything[0] if all(name in one for one in everything)] if everything else []


def alignment_figures(
    network: str, references: Sequence[str], pairs: Mapping[str, Figures]
) -> dict[str, float]:
    """Return a network's misalignment with references, the mean over them, in nats: see `misalignment`.

    network, references: names of networks; a reference is not compared with itself. pairs: the names of two
    networks -> what `run_alignment` measured. `alignment_retained` is over the retained labels,
    `alignment_label` of the label itself. Nothing is returned for a pair that was not measured.
    """
    others = [one for one in references if one != network]
    found = [pairs.get(f"{network} {one}") or pairs.get(f"{one} {network}") for one in others]
    measured = [one for one in found if one]
    if not measured or len(measured) < len(others):
        return {}
    return {
        f"alignment_{kind}": statistics.mean(one[kind] for one in measured) for kind in ("retained", "label")
    }
