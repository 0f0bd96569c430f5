"""What to know of results that are shown, such as what has changed since they were measured."""

_OLDER = "**These figures are older than the present defaults**: a learn took 1,000 steps (0169, 0170)"
_BEFORE_MIXTURES = (
    f"{_OLDER}, a forget twice the time (0160) and trained without an adversary (0168), a label had one "
    "Gaussian as its prior and not a mixture (0148), and the width followed the number of jobs (0149)."
)
REMARKS = {
    "43953c102b74": f"{_OLDER}.",
    "3417f9113952": f"{_OLDER}, and a forget 350 steps, from 8,192 draws of the surrogate; the default has "
    "330 and 1,024 since, which one seed of four labels does not tell apart (0168).",
    "89eee49686fe": _BEFORE_MIXTURES,
    "ca7330301d36": _BEFORE_MIXTURES,
    "3e816311d5eb": _BEFORE_MIXTURES,
    "be617bdd32d7": f"{_BEFORE_MIXTURES} `dampening` was another form of that strategy (0151).",
}
"""The first twelve digits of the code that measured results -> what to know of the run."""
