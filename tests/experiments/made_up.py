"""Histories whose figures are easy to work out by hand."""


def row(number: int, closed: float, simple: float | None, relapse: float | None = None) -> dict:
    judged = figures(closed) | {"relapse": relapse, "gone": {} if relapse is None else {"7": relapse}}
    beside = None if simple is None else figures(simple) | {"seconds": 3.0}
    size = {"held": number, "units": 10 * number, "parameters": 1000 * number}
    return {"pass": number, "seconds": closed, "simple": beside} | judged | size


def figures(closed: float) -> dict:
    shares = {"closed": closed, "open": closed - 0.1, "coverage": closed / 2}
    return shares | {"by_label": {"1": shares, "2": shares | {"closed": 1.0}}}


def two_histories(*, every: bool) -> list[dict]:
    def passes(values: list[float], simple: float, relapse: float | None) -> dict:
        last = len(values) - 1
        rows = [
            row(number + 1, value, simple if every or number == last else None, relapse)
            for number, value in enumerate(values)
        ]
        return {"seed": 0, "passes": rows, "simple": rows[-1]["simple"]}

    return [passes([0.9, 0.9, 0.9, 0.8], 0.9, None), passes([1.0, 1.0, 1.0, 1.0], 1.0, 0.2)]
