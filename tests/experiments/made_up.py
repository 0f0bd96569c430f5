"""What experiments might find, with figures that are easy to work out by hand."""

import torch

from experiments import clpu, table1


def row(
    number: int, closed: float, simple: float | None, relapse: float | None = None, never: float = 0.15
) -> dict:
    judged = figures(closed) | {"relapse": relapse, "gone": {} if relapse is None else {"7": relapse}}
    beside = None if simple is None else figures(simple) | {"seconds": 3.0, "unfilled": {"7": never}}
    size = {"held": number, "units": 10 * number, "parameters": 1000 * number}
    return {"pass": number, "seconds": closed, "simple": beside} | judged | size


def figures(closed: float) -> dict:
    shares = {"closed": closed, "open": closed - 0.1, "coverage": closed / 2}
    return shares | {"by_label": {"1": shares, "2": shares | {"closed": 1.0}}}


def two_histories(*, every: bool) -> list[dict]:
    def passes(seed: int, values: list[float], simple: float, relapse: float | None, never: float) -> dict:
        last = len(values) - 1
        rows = [
            row(number + 1, value, simple if every or number == last else None, relapse, never)
            for number, value in enumerate(values)
        ]
        return {"seed": seed, "passes": rows, "simple": rows[-1]["simple"]}

    return [
        passes(0, [0.9, 0.9, 0.9, 0.8], 0.9, None, never=0.16),
        passes(1, [1.0, 1.0, 1.0, 1.0], 1.0, 0.2, never=0.15),
    ]


def of_table1(accuracy: dict[str, list[float]]) -> list[dict]:
    rest = dict.fromkeys(table1.FIGURES, 1.0)
    return [
        {
            "seed": seed,
            "arms": {name: rest | {"retained_closed": values[seed]} for name, values in accuracy.items()},
        }
        for seed in range(len(accuracy["fixed"]))
    ]


def of_compression(open_accuracy: dict[str, list[float]]) -> dict:
    points = [
        {
            "share": share,
            **{
                way: {"open": values[index], "coverage": 0.5, "parameters": 10}
                for way, values in open_accuracy.items()
            },
        }
        for index, share in enumerate((0.3, 0.6))
    ]
    return {"seed": 0, "before": {"open": 0.95}, "rows": points}


def _network(group: str, seed: int, sha256: str, shade: float) -> dict:
    outputs = {kind: clpu._packed(torch.full((3, 4), shade)) for kind in clpu.ON}
    known = [] if group in ("without", "exact") else [0.1]
    return {
        "group": group,
        "seed": seed,
        "sha256": [sha256],
        "retained": 0.9,
        "forgotten": known,
        "outputs": outputs,
    }


def of_clpu() -> list[dict]:
    """Two twins of three, and a group far from the others."""
    shades = [0.40, 0.42, 0.44, 0.41, 0.43, 0.45]
    networks = [_network("without", seed, f"w{seed}", shade) for seed, shade in enumerate(shades)]
    networks += [_network("exact", seed, f"w{min(seed, 1)}", shades[seed]) for seed in range(3)]
    networks += [_network("kept", 6 + seed, f"k{seed}", 0.8 + seed / 100) for seed in range(3)]
    return networks
