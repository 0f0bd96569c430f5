"""What to know of results that are shown, such as what has changed since they were measured."""

_BEFORE_MIXTURES = (
    "**These figures are older than the present defaults**: a label had one Gaussian as its prior and not a "
    "mixture (decision 0148), the width followed the number of jobs (0149), a forget took twice the time "
    "(0160) and trained without an adversary (0168)."
)
_BEFORE_ADVERSARY = (
    "**These figures are older than the present defaults**: a forget trained without an adversary (decision "
    "0168)."
)
REMARKS = {
    "7ce31852ae3b": "The rows of `surrogate` are older than the present default: a forget trained without an "
    "adversary, for 400 steps, half of each for the surrogate (decision 0168).",
    "ab22dae56e00": "**These figures are older than the present defaults**: a forget trained without an "
    "adversary (decision 0168), and `targeted_dropout_prune` pruned (0167).",
    "3417f9113952": "A forget took 350 steps, from 8,192 draws of the surrogate; the default has 330 and "
    "1,024 since, which one seed of four labels does not tell apart (decision 0168).",
    "52b5c7194ea3": "Other work ran on the machine meanwhile, so the seconds of a pass say little. "
    + _BEFORE_ADVERSARY,
    "89eee49686fe": _BEFORE_MIXTURES,
    "ca7330301d36": _BEFORE_MIXTURES,
    "3e816311d5eb": _BEFORE_MIXTURES,
    "be617bdd32d7": f"{_BEFORE_MIXTURES} `dampening` was another form of that strategy (0151).",
}
"""The first twelve digits of the code that measured results -> what to know of the run."""
