"""The references of a full report: networks retrained without the forgotten labels, if good enough."""

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
"""How much less accurately than the candidate a reference may draw the labels that are held."""


@dataclass(frozen=True)
class ReferenceNetworks:
    """The networks to compare with; or none, and the reason."""

    networks: Sequence[Checkpoint] = ()
    accuracies: Sequence[float] = ()
    """How accurately each that was retrained draws what is held, whether it is used or not."""
    reason: str = ""
    """Why there is no network; empty where there are some."""


def retrain_references(evaluation: Evaluation) -> ReferenceNetworks:
    """Retrain the references, and refuse all of them if one is not good enough to compare with.

    A reference that draws what is held far worse than the candidate shows nothing: beside a network that
    learned too little, whatever a candidate still knows looks usual. Whoever asks for the report chooses how
    long they are trained.
    """
    if not evaluation.checkpoint.forgotten:
        return ReferenceNetworks(reason="nothing was forgotten, so nothing was retrained")
    if not evaluation.checkpoint.retained:
        return ReferenceNetworks(reason="no label is held, so there is nothing to retrain on")
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
    """Take all the networks, or none of them if one is much less accurate than the candidate.

    accuracies: of each network; None if no judge knows what is held. draws: what each accuracy rests on.
    Beyond the margin, three standard errors are allowed, so that chance refuses no good one of many.
    """
    known = [one for one in accuracies if one is not None]
    if candidate_accuracy is None or len(known) < len(accuracies):
        return ReferenceNetworks(
            reason="no judge knows what is held, so it is unknown whether the references learned it"
        )
    worst = min(known)
    error = math.sqrt(2 * candidate_accuracy * (1 - candidate_accuracy) / draws)
    if worst < candidate_accuracy - ACCURACY_MARGIN - 3 * error:
        reason = (
            f"a reference draws what is held right in {worst:.1%}, "
            f"the candidate in {candidate_accuracy:.1%}: train references longer"
        )
        return ReferenceNetworks(accuracies=known, reason=reason)
    return ReferenceNetworks(networks, known)


def _accuracy_of_retained(checkpoint: Checkpoint, evaluation: Evaluation) -> float | None:
    """The mean open-set accuracy of the labels held that have a judge; None where none has one."""
    report = measure_quick_report(
        checkpoint,
        evaluation.judges,
        n=evaluation.params.draws,
        seed=evaluation.context.seed,
        draw=evaluation.draw,
    )
    accuracies = [one.value for one in report.retained.labels.values() if one.value is not None]
    return mean(accuracies) if accuracies else None
