"""The gate: whether a report meets the criteria that were frozen when its job was accepted."""

from collections.abc import Mapping
from typing import Any

CRITERIA = {"retained_accuracy_min": "retained", "forgotten_accuracy_max": "forgotten"}


def shortfalls(acceptance: Mapping[str, float], report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The job's error object when a criterion is missed, None when all are met.

    acceptance: {retained_accuracy_min: share in [0, 1], forgotten_accuracy_max: likewise}, either or none. A
    figure that could not be measured misses its criterion; one about no labels at all meets it.
    """
    missed = [
        f"{name} is {bound:g}, measured {_words(measured)}"
        for name, bound in sorted(acceptance.items())
        if not _meets(name, bound, report[CRITERIA[name]], measured := report[CRITERIA[name]]["accuracy"])
    ]
    if not missed:
        return None
    return {
        "type": "acceptance_failed",
        "code": "acceptance_failed",
        "message": f"{'; '.join(missed)}: nothing was published",
        "retryable": True,
    }


def _meets(name: str, bound: float, group: Mapping[str, Any], measured: float | None) -> bool:
    if not group["labels"]:
        return True
    if measured is None:
        return False
    return measured >= bound if name.endswith("_min") else measured <= bound


def _words(measured: float | None) -> str:
    return "nothing" if measured is None else f"{measured:.4g}"
