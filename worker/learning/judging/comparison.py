"""The candidate beside networks retrained without the label: how far apart, and is that near enough?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from worker.learning.judging.audit_measurements import Traces
from worker.learning.judging.evidence import (
    Figure,
    Threshold,
    figure,
    of_another,
    over_seeds,
    share,
    unmeasured,
)
from worker.learning.judging.figures import Bar, wilson
from worker.learning.judging.relearning import Curve, steps_to

ACCURACY_MARGIN = 0.02  # forgotten labels: at most so much above the references
RECOVERY_MARGIN = 0.10  # the gap, on either side, averaged over labels
RELEARN_RATIO = Bar(0.8)
MEMBERSHIP_MARGIN = Bar(0.02, at_most=True)
CONTROL = Bar(0.6)  # the membership attack on a network that knows its members by heart
COVERAGE_RATIO = Bar(0.95)  # of what is retained, over the references'
LEARNT = 0.9  # accuracy at which a label counts as learnt again
PLAIN = {  # figure -> its plain bar, in words
    "accuracy": f"<= references + {ACCURACY_MARGIN}",
    "recovery": f"references +- {RECOVERY_MARGIN}",
    "relearning": str(RELEARN_RATIO),
    "membership": str(MEMBERSHIP_MARGIN),
}
SINGLE = ("elbo", "reconstruction")
SHARE, RATIO = (0.0, 1.0), (0.0, math.inf)  # what a figure could be


@dataclass(frozen=True)
class Within:
    """A limit on both sides."""

    low: float
    high: float

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:.3f} ... {self.high:.3f}"


def compared(candidate: Traces, references: Sequence[Traces]) -> dict[str, Figure]:
    """One label's figures, each with what the references show (`references`) beside it.

    accuracy: of the draws, at most the references' mean + 2 pp. recovery: the share of attacks that succeed,
    within 10 pp of theirs. relearning: steps to 90 % over their mean, at least 0.8, unmeasured where a
    reference never got there; `at_least`: the candidate never did, so its steps and what is made of them are
    lower bounds. `memory` is that ratio over the same of a figure nobody ever saw, so that a network which
    learns anything fast is not taken for one that remembers, null where one of them never learnt that;
    `curves` are what the steps are read from. membership: the largest difference of an attack on single
    images, at most 0.02.

    Where one more reference may well be further away than that, the threshold is where it would be; `bar`
    says whether the plain bar is met. Between the two there is no verdict, nor by a threshold that nothing
    could miss: neither says anything of the candidate.
    """
    return {
        "accuracy": accuracy(candidate, references),
        "recovery": recovery(candidate, references),
        "relearning": relearning(candidate, references),
        "membership": membership(candidate, references),
    }


def accuracy(candidate: Traces, references: Sequence[Traces]) -> Figure:
    others = [one.accuracy for one in references]
    bar = mean(others) + ACCURACY_MARGIN
    most = Bar(max(bar, of_another(others)[1]), at_most=True)
    found = share(candidate.drawn, candidate.draws, most)
    told = {"references": others, "bar": _word(found["value"] <= bar)}
    return _decided(found | told, most, SHARE)


def recovery(candidate: Traces, references: Sequence[Traces]) -> Figure:
    others = [one.recovery for one in references]
    (low, high), usual = of_another(others), mean(others)
    near = Within(min(low, usual - RECOVERY_MARGIN), max(high, usual + RECOVERY_MARGIN))
    interval = wilson(candidate.found, candidate.starts)
    found = figure(candidate.recovery, candidate.starts, interval=interval, threshold=near)
    gap = candidate.recovery - usual
    told = {"references": others, "gap": gap, "bar": _word(abs(gap) <= RECOVERY_MARGIN)}
    return _decided(found | told, near, SHARE)


def relearning(candidate: Traces, references: Sequence[Traces]) -> Figure:
    """All curves are of one lesson, so equally long."""
    curves = {
        "learnt": LEARNT,
        "candidate": _told(candidate.curve),
        "references": [_told(one.curve) for one in references],
    }
    others = _steps([one.curve for one in references])
    if others is None:
        reason = f"a reference did not reach {LEARNT:.0%} in {candidate.curve[-1][0]} steps: take more"
        return unmeasured(reason, RELEARN_RATIO) | {"curves": curves}
    reached = _steps([candidate.curve])
    mine, usual = reached[0] if reached else candidate.curve[-1][0], mean(others)
    low, high = over_seeds(others)["interval"]  # of the references' mean
    least = Bar(min(RELEARN_RATIO.limit, of_another(others)[0] / usual))
    ratio, elsewhere = mine / usual, _unseen_ratio(candidate, references)
    found = figure(ratio, len(others), interval=(mine / high, mine / max(low, 1.0)), threshold=least)
    told = {
        "references": others,
        "bar": _word(RELEARN_RATIO.holds(ratio)),
        "steps": mine,
        "at_least": reached is None,
        "unseen_ratio": elsewhere,
        "memory": None if elsewhere is None else ratio / elsewhere,
        "curves": curves,
    }
    return _decided(found | told, least, RATIO)


def membership(candidate: Traces, references: Sequence[Traces]) -> Figure:
    gaps = {name: abs(auc - mean(one.auc[name] for one in references)) for name, auc in candidate.auc.items()}
    widest = max(SINGLE, key=lambda name: gaps[name])
    mine, others = candidate.auc[widest], [one.auc[widest] for one in references]
    most = Bar(max(MEMBERSHIP_MARGIN.limit, of_another(others)[1] - mean(others)), at_most=True)
    low, high = over_seeds(others)["interval"]  # of the references' mean
    ends = sorted((abs(mine - low), abs(mine - high)))
    interval = (0.0 if low <= mine <= high else ends[0], ends[1])
    found = figure(gaps[widest], len(others), interval=interval, threshold=most)
    bar = _word(MEMBERSHIP_MARGIN.holds(gaps[widest]))
    told = {"references": others, "bar": bar, "auc": candidate.auc, "gaps": gaps, "attack": widest}
    return _decided(found | told, most, SHARE)


def _decided(found: Figure, threshold: Threshold, ends: tuple[float, float]) -> Figure:
    """The figure, without a verdict where its threshold says nothing of the candidate, and with the reason.

    ends: of what the figure could be.
    """
    if all(threshold.holds(end) for end in ends):
        return found | {
            "verdict": None,
            "reason": "the references are so far apart that nothing could miss this",
        }
    if found["verdict"] == "met" and found["bar"] == "missed":
        return found | {"verdict": None, "reason": "beyond the plain bar, as one more reference might be"}
    return found


def _word(met: bool) -> str:
    return "met" if met else "missed"


def _unseen_ratio(candidate: Traces, references: Sequence[Traces]) -> float | None:
    """The steps for what no network ever saw, over the references' mean; None where one never learnt it."""
    taken = _steps([one.unseen_curve for one in (candidate, *references)])
    return taken[0] / mean(taken[1:]) if taken else None


def _steps(curves: Sequence[Curve]) -> list[float] | None:
    """To LEARNT, of each, 1 at the least; None if one never got there."""
    taken = [steps_to(LEARNT, curve) for curve in curves]
    reached = [max(1.0, one) for one in taken if one is not None]
    return reached if len(reached) == len(taken) else None


def _told(curve: Curve) -> list[list[float]]:
    """[steps, accuracy] point by point, in as many digits as a picture needs."""
    return [[step, round(accuracy, 4)] for step, accuracy in curve]


def verdict(figures: dict[str, Figure]) -> dict[str, Any]:
    """All figures together: "missed" if one is; "met" if each that has a threshold met it; else null."""
    given = {name: one["verdict"] for name, one in figures.items() if one["threshold"] is not None}
    missed = sorted(name for name, one in given.items() if one == "missed")
    unmeasured = sorted(name for name, one in given.items() if one is None)
    whole = "missed" if missed else None if unmeasured else "met"
    return {"verdict": whole, "missed": missed, "unmeasured": unmeasured}
