"""Upgrade reports that release 0.1.0 wrote to the format of this release. No other module knows that format.

It differs in these points. Reports have no format number. A label's accuracy is called `accuracy`, not
`value`. A threshold is text such as "<= 0.05". The guarantee is one of the strategy's findings. A
compared figure has the verdict by its fixed threshold, called `bar`, but not that threshold.
`feature_network` has another name.
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
"""The fixed thresholds of release 0.1.0. Its reports contain only the verdicts by them."""

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


def upgrade_report(old: Json) -> dict[str, Any]:
    """Return a report of release 0.1.0 in the format of this release."""
    new = dict(old)
    findings = dict(old.get("findings", {}))
    new |= {
        "format": 2,
        "retained": upgrade_group(old["retained"]),
        "forgotten": upgrade_group(old["forgotten"]),
        "criteria": [upgrade_criterion(one) for one in old.get("criteria", [])],
        "guarantee": findings.pop("guarantee", None),
        "findings": findings,
    }
    if old.get("level") == "full":
        new |= {
            "quality": {dataset: _upgrade_quality(one) for dataset, one in old["quality"].items()},
            "forgetting": _upgrade_forgetting(old["forgetting"]),
            "feature_network": old.get("witness", old.get("feature_network")),  # plain-words: allow
        }
    return new


def upgrade_group(old: Json) -> dict[str, Any]:
    """Upgrade a group of labels in a report or a receipt."""
    labels = {name: _upgrade_label_figure(one) for name, one in old.get("labels", {}).items()}
    return {**_upgrade_label_figure(old), "labels": labels}


def upgrade_receipt_figures(old: Json) -> dict[str, Any]:
    """Upgrade the figures of a receipt."""
    return {
        **old,
        "retained": _upgrade_label_figure(old["retained"]),
        "forgotten": upgrade_group(old["forgotten"]),
        "criteria": [upgrade_criterion(one) for one in old["criteria"]],
    }


def upgrade_criterion(old: Json) -> dict[str, Any]:
    """Upgrade a criterion in a report, a receipt or a rejected job's error. A current one stays as it is."""
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


def _upgrade_label_figure(old: Json) -> dict[str, Any]:
    new = _upgrade_figure({name: part for name, part in old.items() if name not in ("accuracy", "labels")})
    return {**new, "value": old["accuracy"]}


def _upgrade_figure(old: Json) -> dict[str, Any]:
    return {**old, "threshold": _parse_threshold(old.get("threshold"))}


def _parse_threshold(text: str | None) -> dict[str, Any] | None:
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
    raise ValueError(f"{text!r} is not a threshold that release 0.1.0 wrote")


def _upgrade_quality(old: Json) -> dict[str, Any]:
    """Upgrade the quality of a dataset.

    A dataset that could not be measured was a single figure without a value. Now every figure of the dataset
    is one without a value.
    """
    if "value" in old:
        nothing = {**_upgrade_figure(old), "threshold": None}
        ratio = None if old["threshold"] is None else _upgrade_figure(old)
        return {**dict.fromkeys(QUALITY_FIGURES, nothing), "coverage_ratio": ratio, "labels": {}}
    new = {name: _upgrade_figure(one) for name, one in old.items() if name != "labels"}
    labels = {
        label: {name: _upgrade_figure(one) for name, one in figures.items()}
        for label, figures in old["labels"].items()
    }
    return {**new, "labels": labels}


def _upgrade_forgetting(old: Json) -> dict[str, Any]:
    return {
        **old,
        "labels": {name: _upgrade_label_forgetting(one) for name, one in old["labels"].items()},
        "distance": _upgrade_figure(old["distance"]),
        "control": _upgrade_figure(old["control"]),
    }


def _upgrade_label_forgetting(old: Json) -> dict[str, Any]:
    new = {**old, "two_sample": _upgrade_figure(old["two_sample"])}
    for name, threshold in FIXED_THRESHOLDS.items():
        new[name] = {
            **_upgrade_figure({part: one for part, one in old[name].items() if part != "bar"}),
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
