"""Invented results of experiments, with figures that are easy to work out by hand."""

from typing import Any

import torch

from experiments import clpu, table1
from experiments.running import Result


def history_row(
    number: int, closed: float, simple: float | None, relapse: float | None = None, unfilled: float = 0.15
) -> Result:
    """A pass of a history. unfilled: how often a simple model draws the label that may be forgotten, 7."""
    forgotten = {} if relapse is None else {"7": relapse}
    scores = scores_of(closed) | {"relapse": relapse, "forgotten_by_label": forgotten}
    of_simple = None if simple is None else scores_of(simple) | {"seconds": 3.0, "unfilled": {"7": unfilled}}
    size = {"held": number, "units": 10 * number, "parameters": 1000 * number}
    return {"pass": number, "seconds": closed, "simple": of_simple} | scores | size


def scores_of(closed: float) -> Result:
    scores = {"closed": closed, "open": closed - 0.1, "coverage": closed / 2, "relative_coverage": closed}
    return scores | {"by_label": {"1": scores, "2": scores | {"closed": 1.0}}}


def two_histories(*, every: bool) -> list[Result]:
    """Two histories of four passes, with a simple model after every pass or after the last one."""

    def history(
        seed: int, values: list[float], simple: float, relapse: float | None, unfilled: float
    ) -> Result:
        last = len(values) - 1
        rows = [
            history_row(number + 1, value, simple if every or number == last else None, relapse, unfilled)
            for number, value in enumerate(values)
        ]
        return {"seed": seed, "passes": rows, "simple": rows[-1]["simple"]}

    return [
        history(0, [0.9, 0.9, 0.9, 0.8], 0.9, None, unfilled=0.16),
        history(1, [1.0, 1.0, 1.0, 1.0], 1.0, 0.2, unfilled=0.15),
    ]


def table1_results(accuracy: dict[str, list[float]]) -> list[Result]:
    """A result for each seed. accuracy: arm -> closed-set accuracy of each seed."""
    rest = dict.fromkeys(table1.FIGURES, 1.0)
    return [
        {
            "seed": seed,
            "arms": {name: rest | {"retained_closed": values[seed]} for name, values in accuracy.items()},
        }
        for seed in range(len(accuracy["fixed"]))
    ]


def compression_result(open_accuracy: dict[str, list[float]]) -> Result:
    """The result of a seed. open_accuracy: method -> accuracy without 30 % and without 60 % of the units."""
    rows = [
        {
            "share": share,
            **{
                method: {"open": values[index], "coverage": 0.5, "parameters": 10}
                for method, values in open_accuracy.items()
            },
        }
        for index, share in enumerate((0.3, 0.6))
    ]
    return {"seed": 0, "before": {"open": 0.95}, "rows": rows}


def clpu_networks() -> list[Result]:
    """Three networks of `exact`, of which two equal those of `without`, and a group far from all others."""
    shades = [0.40, 0.42, 0.44, 0.41, 0.43, 0.45]
    networks = [_network("without", seed, f"w{seed}", shade) for seed, shade in enumerate(shades)]
    networks += [_network("exact", seed, f"w{min(seed, 1)}", shades[seed]) for seed in range(3)]
    networks += [_network("kept", 6 + seed, f"k{seed}", 0.8 + seed / 100) for seed in range(3)]
    return networks


def _network(group: str, seed: int, sha256: str, shade: float) -> dict[str, Any]:
    outputs = {kind: clpu.pack(torch.full((3, 4), shade)) for kind in clpu.COMPARED_ON}
    return {
        "group": group,
        "seed": seed,
        "sha256": [sha256],
        "retained": 0.9,
        "forgotten": [] if group in ("without", "exact") else [0.1],
        "outputs": outputs,
    }
