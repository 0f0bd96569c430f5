"""The evidence stored with a version: what the judge says of its draws, label by label.

Levels: "quick" is measured after every job. Fuller levels add figures beside those of `quick`, under keys of
their own; they take none away.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.figures import wilson
from worker.learning.judging.judge import REJECT, Judge, JudgeUnavailable

Judges = Callable[[str], Judge]  # the judge of a dataset; raises JudgeUnavailable
Draw = Callable[[Checkpoint, str, int, int], Tensor]  # (checkpoint, label, n, seed) -> [n, pixels] in [0, 1]


def quick(checkpoint: Checkpoint, judges: Judges, *, n: int = 1000, seed: int, draw: Draw) -> dict[str, Any]:
    """n draws of every label the checkpoint ever learnt, judged. JSON-ready, and a function of its arguments.

    {level, n, seed, judge: {dataset: {version, test_accuracy}}, retained, forgotten, capacity}, where each of
    retained and forgotten is {accuracy, n, interval, labels: {name: {accuracy, n, interval, rejected}}}.
    accuracy: the share of draws the judge gives their label; a rejected draw is a wrong one. rejected: the
    share it gives none. interval: Wilson's, 95 %. What cannot be measured is null, with a reason beside it.
    """
    measured = {
        label: _label_figures(network, label, judges, n, seed, draw)
        for network in (replace(checkpoint, isolated=()), *checkpoint.isolated)
        for label in network.labels
    }
    retained = {label.name: figure for label, figure in measured.items() if label.status != "forgotten"}
    forgotten = {label.name: figure for label, figure in measured.items() if label.status == "forgotten"}
    return {
        "level": "quick",
        "n": n,
        "seed": seed,
        "judge": {name: _judge_figures(name, judges) for name in sorted({one.dataset for one in measured})},
        "retained": _together(retained),
        "forgotten": _together(forgotten),
        "capacity": {
            "parameters": checkpoint.parameters,
            "isolated_parameters": {name: one.parameters for name, one in checkpoint.temporary.items()},
            "encoder_widths": list(checkpoint.spec.encoder_widths),
            "decoder_widths": list(checkpoint.spec.decoder_widths),
        },
    }


def _label_figures(
    checkpoint: Checkpoint, label: Label, judges: Judges, n: int, seed: int, draw: Draw
) -> dict[str, Any]:
    try:
        judge = judges(label.dataset)
    except JudgeUnavailable as error:
        return _unmeasured(str(error))
    if label.source not in judge.labels:
        return _unmeasured(f"the judge of {label.dataset!r} does not know the label {label.source!r}")
    answers = judge.classify(draw(checkpoint, label.name, n, _stream(seed, label.name)))
    hits = int(torch.sum(answers == judge.labels.index(label.source)))
    rejected = int(torch.sum(answers == REJECT))
    return {"accuracy": hits / n, "n": n, "interval": list(wilson(hits, n)), "rejected": rejected / n}


def _together(labels: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The mean over the labels, each drawn equally often; null unless every one of them was measured."""
    reasons = sorted({figure["reason"] for figure in labels.values() if "reason" in figure})
    if reasons or not labels:
        return _unmeasured("; ".join(reasons) or "there is no such label") | {"labels": labels}
    n = sum(figure["n"] for figure in labels.values())
    hits = sum(round(figure["accuracy"] * figure["n"]) for figure in labels.values())
    rejected = sum(round(figure["rejected"] * figure["n"]) for figure in labels.values())
    return {
        "accuracy": hits / n,
        "n": n,
        "interval": list(wilson(hits, n)),
        "rejected": rejected / n,
        "labels": labels,
    }


def _judge_figures(dataset: str, judges: Judges) -> dict[str, Any]:
    try:
        judge = judges(dataset)
    except JudgeUnavailable as error:
        return {"version": None, "test_accuracy": None, "reason": str(error)}
    return {"version": judge.version, "test_accuracy": judge.test_accuracy}


def _unmeasured(reason: str) -> dict[str, Any]:
    return {"accuracy": None, "n": 0, "interval": None, "rejected": None, "reason": reason}


def _stream(seed: int, label: str) -> int:
    """Each label its own noise, so that one unlucky draw is not every label's."""
    return int.from_bytes(sha256(f"{seed}/{label}".encode()).digest()[:8], "big") >> 1
