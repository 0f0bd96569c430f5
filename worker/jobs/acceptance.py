"""The gate: whether what was measured meets the criteria that were frozen when its job was accepted.

retained_accuracy_min: of all labels held together. worst_retained_accuracy_min: of each one alone.
forgotten_accuracy_max: of each forgotten label alone, whenever it was forgotten. relapse_accuracy_max: of the
labels it names, as the jobs that forgot them promised.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from worker.learning.judging.figures import Bar
from worker.learning.judging.report import RELAPSE

Report = Mapping[str, Any]


def judged(report: Report, acceptance: Mapping[str, Any]) -> dict[str, Any]:
    """The report with `criteria`, and with threshold and verdict beside every accuracy that is held to one.

    criteria: [{criterion, label, bound, value, n, interval, threshold, verdict}]; verdict is `met` or
    `missed`. A figure that could not be measured misses its criterion; what there is no label for has none.
    A forgotten label without a criterion is held to RELAPSE: told, but no reason to refuse.
    """
    criteria = list(_criteria(acceptance, report))
    of = {(one["criterion"].endswith("_max"), one["label"]): one for one in criteria}
    retained, forgotten = report["retained"], report["forgotten"]
    gone = {
        name: figure | _told(of.get((True, name)) or _criterion("", name, figure, RELAPSE))
        for name, figure in forgotten["labels"].items()
    }
    return {
        **report,
        "retained": {
            **retained,
            **_told(of.get((False, None))),
            "labels": {
                name: figure | _told(of.get((False, name))) for name, figure in retained["labels"].items()
            },
        },
        "forgotten": {**forgotten, **_of_all(gone), "labels": gone},
        "criteria": criteria,
    }


def refusal(report: Report) -> dict[str, Any] | None:
    """The job's error object when a criterion of a judged report is missed, None when all are met."""
    missed = [one for one in report["criteria"] if one["verdict"] == "missed"]
    if not missed:
        return None
    return {
        "type": "acceptance_failed",
        "code": "acceptance_failed",
        "message": f"{'; '.join(map(_words, missed))}: nothing was published",
        "retryable": True,
        "reasons": [
            {
                "criterion": one["criterion"],
                "label": one["label"],
                "bound": one["bound"],
                "measured": one["value"],
                "n": one["n"],
                "interval": one["interval"],
            }
            for one in missed
        ],
    }


def _criteria(acceptance: Mapping[str, Any], report: Report) -> Iterator[dict[str, Any]]:
    retained, forgotten = report["retained"], report["forgotten"]
    name = "retained_accuracy_min"
    if name in acceptance and retained["labels"]:
        yield _criterion(name, None, retained, Bar(acceptance[name]))
    name = "worst_retained_accuracy_min"
    if name in acceptance:
        for label, figure in retained["labels"].items():
            yield _criterion(name, label, figure, Bar(acceptance[name]))
    for label, figure in forgotten["labels"].items():
        bounds = {
            "forgotten_accuracy_max": acceptance.get("forgotten_accuracy_max"),
            "relapse_accuracy_max": acceptance.get("relapse_accuracy_max", {}).get(label),
        }
        told = {name: bound for name, bound in bounds.items() if bound is not None}
        if told:
            name = min(told, key=lambda one: told[one])
            yield _criterion(name, label, figure, Bar(told[name], at_most=True))


def _criterion(name: str, label: str | None, figure: Mapping[str, Any], bar: Bar) -> dict[str, Any]:
    measured = figure["accuracy"]
    return {
        "criterion": name,
        "label": label,
        "bound": bar.limit,
        "value": measured,
        "n": figure["n"],
        "interval": figure["interval"],
        "threshold": str(bar),
        "verdict": "met" if measured is not None and bar.holds(measured) else "missed",
    }


def _told(criterion: Mapping[str, Any] | None) -> dict[str, Any]:
    if criterion is None:
        return {}
    unmeasured = criterion["value"] is None
    return {"threshold": criterion["threshold"], "verdict": None if unmeasured else criterion["verdict"]}


def _of_all(labels: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of a group held to what its labels are held to: missed if one is, and the limit if it is the same."""
    verdicts = {one["verdict"] for one in labels.values()}
    limits = {one["threshold"] for one in labels.values()}
    return {
        "threshold": limits.pop() if len(limits) == 1 else None,
        "verdict": "missed" if "missed" in verdicts else "met" if verdicts == {"met"} else None,
    }


def _words(missed: Mapping[str, Any]) -> str:
    whose = f" for {missed['label']!r}" if missed["label"] is not None else ""
    measured = "nothing" if missed["value"] is None else f"{missed['value']:.4g} of {missed['n']}"
    return f"{missed['criterion']} is {missed['bound']:g}{whose}, measured {measured}"
