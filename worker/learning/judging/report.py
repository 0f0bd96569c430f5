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
from worker.learning.judging.classifiers import ClassifierUnavailable
from worker.learning.judging.coverage import NEIGHBOURS, Neighbourhoods, embedded
from worker.learning.judging.figures import Bar, wilson
from worker.learning.judging.judge import REJECT, Judge
from worker.learning.strategy import Unavailable

Judges = Callable[[str], Judge]  # the judge of a dataset; raises ClassifierUnavailable
HeldOut = Callable[[Label], Tensor]  # a label's real test images, uint8 [n, pixels]; raises Unavailable
Draw = Callable[[Checkpoint, str, int, int], Tensor]  # (checkpoint, label, n, seed) -> [n, pixels] in [0, 1]

LEAST_RECALL = 0.7
"""Of a label's real test images, the share its judge has to know for its silence to mean something."""
RELAPSE = Bar(0.05, at_most=True)  # a forgotten label's open-set accuracy, unless a criterion speaks of it


def none_held_out(label: Label) -> Tensor:
    raise Unavailable(f"the real test images of {label.name!r} are not at hand here")


def quick(
    checkpoint: Checkpoint,
    judges: Judges,
    *,
    n: int = 1000,
    seed: int,
    draw: Draw,
    held_out: HeldOut = none_held_out,
) -> dict[str, Any]:
    """n draws of every label the checkpoint ever learnt, judged. JSON-ready, and a function of its arguments.

    {level, n, seed, judge: {dataset: {version, test_accuracy, missed}}, retained, forgotten, capacity}, where
    each of retained and forgotten is {accuracy, n, interval, rejected, closed_accuracy, coverage, threshold,
    verdict, labels: {name: the same}}. missed: the bars the judge itself does not keep. accuracy: the share
    of draws the judge gives their label; a rejected draw is a wrong one. rejected: the share it gives none.
    closed_accuracy: of those whose likeliest label is theirs, rejected or not. interval: Wilson's, 95 %, of
    accuracy. coverage: the share of real test images (where `held_out` has any) with a draw near them.
    threshold, verdict: of a forgotten label's accuracy, its relapse; null elsewhere. What cannot be measured
    is null, with a reason beside it.
    """
    measured = {
        label: _label_figures(network, label, judges, n, seed, draw, held_out)
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
        "retained": _together(retained, forgotten=False),
        "forgotten": _together(forgotten, forgotten=True),
        "capacity": {
            "parameters": checkpoint.parameters,
            "isolated_parameters": {name: one.parameters for name, one in checkpoint.temporary.items()},
            "encoder_widths": list(checkpoint.spec.encoder_widths),
            "decoder_widths": list(checkpoint.spec.decoder_widths),
        },
    }


def _label_figures(
    checkpoint: Checkpoint, label: Label, judges: Judges, n: int, seed: int, draw: Draw, held_out: HeldOut
) -> dict[str, Any]:
    try:
        judge = judges(label.dataset)
    except ClassifierUnavailable as error:
        return _unmeasured(str(error))
    if label.source not in judge.labels:
        return _unmeasured(f"the judge of {label.dataset!r} does not know the label {label.source!r}")
    right = judge.labels.index(label.source)
    known = _recall(judge, right, label, held_out) if label.status == "forgotten" else None
    if known is not None and known < LEAST_RECALL:
        return _unmeasured(f"the judge knows {known:.0%} of the real test images of {label.name!r}")
    seen = embedded(judge, draw(checkpoint, label.name, n, _stream(seed, label.name)))
    opened, closed = judge.answers(seen), judge.closed_answers(seen)
    hits = int(torch.sum(opened == right))
    return {
        "accuracy": hits / n,
        "n": n,
        "interval": list(wilson(hits, n)),
        "rejected": int(torch.sum(opened == REJECT)) / n,
        "closed_accuracy": int(torch.sum(closed == right)) / n,
        "coverage": None if label.status == "forgotten" else _coverage(judge, seen, label, held_out),
        **_relapse(hits / n, label.status == "forgotten"),
    }


def _recall(judge: Judge, right: int, label: Label, held_out: HeldOut) -> float | None:
    """The share of the label's real test images that the judge takes for it; None where none are at hand.

    A judge that does not know a label finds it in no draw, gone or not.
    """
    try:
        real = held_out(label)
    except Unavailable:
        return None
    return int(torch.sum(judge.classify(real.float() / 255) == right)) / len(real) if len(real) else None


def _coverage(judge: Judge, seen: Tensor, label: Label, held_out: HeldOut) -> float | None:
    try:
        real = held_out(label)
    except Unavailable:
        return None
    if len(real) <= NEIGHBOURS:
        return None
    return Neighbourhoods.of(embedded(judge, real.float() / 255)).coverage(seen)


def _relapse(accuracy: float | None, forgotten: bool) -> dict[str, Any]:
    if not forgotten:
        return {"threshold": None, "verdict": None}
    kept = None if accuracy is None else "met" if RELAPSE.holds(accuracy) else "missed"
    return {"threshold": str(RELAPSE), "verdict": kept}


def _together(labels: dict[str, dict[str, Any]], *, forgotten: bool) -> dict[str, Any]:
    """The mean over the labels, each drawn equally often; null unless every one of them was measured."""
    reasons = sorted({figure["reason"] for figure in labels.values() if "reason" in figure})
    if reasons or not labels:
        return _unmeasured("; ".join(reasons) or "there is no such label") | {"labels": labels}
    n = sum(figure["n"] for figure in labels.values())
    hits, rejected, closed = (
        sum(round(figure[name] * figure["n"]) for figure in labels.values())
        for name in ("accuracy", "rejected", "closed_accuracy")
    )
    covered = [figure["coverage"] for figure in labels.values()]
    return {
        "accuracy": hits / n,
        "n": n,
        "interval": list(wilson(hits, n)),
        "rejected": rejected / n,
        "closed_accuracy": closed / n,
        "coverage": None if None in covered else sum(covered) / len(covered),
        **_relapse(max(figure["accuracy"] for figure in labels.values()), forgotten),
        "labels": labels,
    }


def _judge_figures(dataset: str, judges: Judges) -> dict[str, Any]:
    try:
        judge = judges(dataset)
    except ClassifierUnavailable as error:
        return {"version": None, "test_accuracy": None, "missed": [], "reason": str(error)}
    return {"version": judge.version, "test_accuracy": judge.test_accuracy, "missed": list(judge.missed)}


def _unmeasured(reason: str) -> dict[str, Any]:
    return {
        "accuracy": None,
        "n": 0,
        "interval": None,
        "rejected": None,
        "closed_accuracy": None,
        "coverage": None,
        "threshold": None,
        "verdict": None,
        "reason": reason,
    }


def _stream(seed: int, label: str) -> int:
    """Each label its own noise, so that one unlucky draw is not every label's."""
    return int.from_bytes(sha256(f"{seed}/{label}".encode()).digest()[:8], "big") >> 1
