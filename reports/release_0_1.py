"""Upgrade reports that release 0.1.0 wrote: the only place that knows their format.

They carried no format number. A label's accuracy was called `accuracy` where other figures have a `value`; a
threshold was text such as "<= 0.05"; the guarantee was one of the strategy's findings; a compared figure had
only the word `bar` for its fixed threshold; and `feature_network` had another name.
"""

import re
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

FIXED_THRESHOLDS: dict[str, dict[str, Any]] = {
    "accuracy": {"op": "<=", "margin": 0.02},
    "recovery": {"op": "within", "margin": 0.1},
    "relearning": {"op": ">=", "limit": 0.8},
    "membership": {"op": "<=", "limit": 0.02},
}
"""What release 0.1.0 demanded of each compared figure; its reports say only whether that was met."""

QUALITY_FIGURES = (
    "accuracy",
    "closed_accuracy",
    "density",
    "coverage",
    "diversity",
    "elbo",
    "fid",
    "fid_floor",
)

ONE_SIDE = re.compile(r"([<>]=) (\S+)")
TWO_SIDES = re.compile(r"(\S+) \.\.\. (\S+)")
ABOVE_REFERENCES = re.compile(r"<= references \+ (\S+)")
NEAR_REFERENCES = re.compile(r"references \+- (\S+)")


def upgraded_report(old: Json) -> dict[str, Any]:
    """The report as today's release writes it."""
    new = dict(old)
    findings = dict(old.get("findings", {}))
    new |= {
        "format": 2,
        "retained": upgraded_group(old["retained"]),
        "forgotten": upgraded_group(old["forgotten"]),
        "criteria": [upgraded_criterion(one) for one in old.get("criteria", [])],
        "guarantee": findings.pop("guarantee", None),
        "findings": findings,
    }
    if old.get("level") == "full":
        new |= {
            "quality": {dataset: _quality(one) for dataset, one in old["quality"].items()},
            "forgetting": _forgetting(old["forgetting"]),
            "feature_network": old.get("witness", old.get("feature_network")),  # plain-words: allow
        }
    return new


def upgraded_group(old: Json) -> dict[str, Any]:
    """A group of labels, of a report or a receipt."""
    labels = {name: _label_figure(one) for name, one in old.get("labels", {}).items()}
    return {**_label_figure(old), "labels": labels}


def upgraded_receipt_figures(old: Json) -> dict[str, Any]:
    """The figures of a receipt as today's release writes them."""
    return {
        **old,
        "retained": _label_figure(old["retained"]),
        "forgotten": upgraded_group(old["forgotten"]),
        "criteria": [upgraded_criterion(one) for one in old["criteria"]],
    }


def upgraded_criterion(old: Json) -> dict[str, Any]:
    """A criterion of a report or a receipt, or one that a rejected job missed."""
    if "bound" not in old:
        return dict(old)
    new = {name: part for name, part in old.items() if name not in ("bound", "measured")}
    op = "<=" if old["criterion"].endswith("_max") else ">="
    new |= {
        "value": old["measured"] if "measured" in old else old["value"],
        "threshold": {"op": op, "limit": old["bound"]},
        "verdict": old.get("verdict", "missed"),
    }
    return new


def _label_figure(old: Json) -> dict[str, Any]:
    new = _figure({name: part for name, part in old.items() if name not in ("accuracy", "labels")})
    return {**new, "value": old["accuracy"]}


def _figure(old: Json) -> dict[str, Any]:
    return {**old, "threshold": _threshold(old.get("threshold"))}


def _threshold(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    if found := ABOVE_REFERENCES.fullmatch(text):
        return {"op": "<=", "margin": float(found[1])}
    if found := NEAR_REFERENCES.fullmatch(text):
        return {"op": "within", "margin": float(found[1])}
    if found := ONE_SIDE.fullmatch(text):
        return {"op": found[1], "limit": float(found[2])}
    if found := TWO_SIDES.fullmatch(text):
        return {"op": "between", "low": float(found[1]), "high": float(found[2])}
    raise ValueError(f"release 0.1.0 wrote no such threshold: {text!r}")


def _quality(old: Json) -> dict[str, Any]:
    """A dataset that could not be measured was one figure without a value; now each of its figures is."""
    if "value" in old:
        nothing = {**_figure(old), "threshold": None}
        ratio = None if old["threshold"] is None else _figure(old)
        return {**dict.fromkeys(QUALITY_FIGURES, nothing), "coverage_ratio": ratio, "labels": {}}
    new = {name: _figure(one) for name, one in old.items() if name != "labels"}
    labels = {
        label: {name: _figure(one) for name, one in figures.items()}
        for label, figures in old["labels"].items()
    }
    return {**new, "labels": labels}


def _forgetting(old: Json) -> dict[str, Any]:
    return {
        **old,
        "labels": {name: _label_forgetting(one) for name, one in old["labels"].items()},
        "distance": _figure(old["distance"]),
        "control": _figure(old["control"]),
    }


def _label_forgetting(old: Json) -> dict[str, Any]:
    new = {**old, "two_sample": _figure(old["two_sample"])}
    for name, threshold in FIXED_THRESHOLDS.items():
        new[name] = {
            **_figure({part: one for part, one in old[name].items() if part != "bar"}),
            "fixed_threshold": threshold,
            "fixed_verdict": old[name].get("bar"),
        }
    relearning = new["relearning"]
    if "at_least" in relearning:
        relearning["is_lower_bound"] = relearning.pop("at_least")
    if curves := relearning.get("curves"):
        relearning["curves"] = {
            "target_accuracy": curves["learnt"],
            "candidate": curves["candidate"],
            "references": curves["references"],
        }
    return new
