"""What was tried with the ideas of strategies, for the page of strategies."""

from collections.abc import Mapping

ATTEMPTS: Mapping[tuple[str, str], str] = {
    ("learn", "den"): """
    Retraining is selective where labels enter: the findings say which share of the units and of the
    weights it reaches. In accuracy and coverage that adds nothing here: replay protects the old labels
    as well when every unit is retrained, and what is not reached cannot serve the new labels. Three
    forms were tried, which stand in the table: the share 0.9 of the embeddings' squared norm, half of
    it, and a stronger l1 penalty without such a threshold.
    """,
    ("forget", "dampening"): """
    Three forms were tried: the published one, in which nothing is trained, which costs coverage; a
    repair that trains all weights, under which the label comes back, because weights that were shrunk
    grow again (docs/decisions/0151); and the present one, a repair that leaves dampened weights as they
    are. Most of the forgetting is that the label's own slot is emptied, which dampening does too; the
    second control shows what the shared weights add to that.
    """,
    ("forget", "saliency"): """
    Which weights are trained matters where they are few. With half of all weights, as published, those that
    are chosen at random are enough to forget as well.
    """,
    ("resize", "expand"): """
    Units with small random weights on both sides, as in the code of the paper, change the draws too little to
    be measured. What the function-preserving form adds is that they do not change at all.
    """,
}
"""Operation and name of a strategy -> a paragraph: what was tried, and what came of it."""
