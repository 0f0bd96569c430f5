"""Retrain the references of a full report without the forgotten labels, and check their accuracy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.evaluation import Evaluation
from worker.learning.judging.quick_report import measure_quick_report
from worker.learning.judging.references import retrain_reference
from worker.learning.strategy import Unavailable

ACCURACY_MARGIN = 0.05
"""How much lower than the candidate's the accuracy of a reference on the retained labels may be."""


@dataclass(frozen=True)
class ReferenceNetworks:
    """The networks to compare with, or the reason why there are none."""

    networks: Sequence[Checkpoint] = ()
    accuracies: Sequence[float] = ()
    """Accuracy on the retained labels, of each network that was retrained, used or not."""
    reason: str = ""
    """Why there is no network; empty where there are some."""


def retrain_references(evaluation: Evaluation) -> ReferenceNetworks:
    """Retrain the references, and use none of them if one is not good enough to compare with.

    A reference that draws the retained labels far worse than the candidate was trained too little. Compared
    with such a network, a candidate that still knows a forgotten label may pass. The params of the report set
    how long references are trained.
    """
    if not evaluation.checkpoint.forgotten:
        return ReferenceNetworks(reason="nothing was forgotten, so nothing was retrained")
    if not evaluation.checkpoint.retained:
        return ReferenceNetworks(reason="the version holds no label, so there is nothing to retrain on")
    schedule, seeds = evaluation.params.reference, range(evaluation.params.seeds)
    try:
        found = [
            retrain_reference(evaluation.checkpoint, seed, schedule, evaluation.context) for seed in seeds
        ]
    except Unavailable as error:
        return ReferenceNetworks(reason=f"no reference can be retrained: {error}")
    networks, accuracies = [evaluation.checkpoint, *found], []
    for index, network in enumerate(networks, start=1):
        accuracies.append(_accuracy_of_retained(network, evaluation))
        evaluation.context.step("judging references", index, len(networks))
    draws = evaluation.params.draws * len(evaluation.checkpoint.retained)
    return choose_references(found, accuracies[0], accuracies[1:], draws=draws)


def choose_references(
    networks: Sequence[Checkpoint],
    candidate_accuracy: float | None,
    accuracies: Sequence[float | None],
    *,
    draws: int,
) -> ReferenceNetworks:
    """Use all the networks, or none of them if one is much less accurate than the candidate.

    accuracies: on the retained labels, of each network; None if none of these labels has a judge. draws: how
    many draws each accuracy was measured on. Three standard errors are allowed beyond the margin, so that a
    good network is not refused by chance.
    """
    known = [one for one in accuracies if one is not None]
    if candidate_accuracy is None or len(known) < len(accuracies):
        return ReferenceNetworks(
            reason="no retained label has a judge, so it is unknown whether the references learned them"
        )
    worst = min(known)
    error = math.sqrt(2 * candidate_accuracy * (1 - candidate_accuracy) / draws)
    if worst < candidate_accuracy - ACCURACY_MARGIN - 3 * error:
        reason = (
            f"the accuracy of a reference on the retained labels is only {worst:.1%}, "
            f"that of the candidate is {candidate_accuracy:.1%}: train references longer"
        )
        return ReferenceNetworks(accuracies=known, reason=reason)
    return ReferenceNetworks(networks, known)


def _accuracy_of_retained(checkpoint: Checkpoint, evaluation: Evaluation) -> float | None:
    """The mean open-set accuracy of the retained labels that have a judge; None if none has one."""
    report = measure_quick_report(
        checkpoint,
        evaluation.judges,
        n=evaluation.params.draws,
        seed=evaluation.context.seed,
        draw=evaluation.draw,
        context=evaluation.context,
    )
    accuracies = [one.value for one in report.retained.labels.values() if one.value is not None]
    return mean(accuracies) if accuracies else None
