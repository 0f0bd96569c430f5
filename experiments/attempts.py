"""What was tried with the ideas of strategies, for the page of strategies."""

from collections.abc import Mapping

ATTEMPTS: Mapping[tuple[str, str], str] = {
    ("learn", "replay_ewc"): """
    Replay keeps the old labels; EWC adds a little coverage. That the network grows adds nothing that eight
    labels of MNIST show. It grows for models that go on to learn many labels, and its width follows the
    number of labels that it holds (docs/decisions/0149). No other form of growth was tried.
    """,
    ("learn", "hypernetwork"): """
    The penalty keeps the labels of earlier jobs without their images or draws, which is its purpose. Replay
    on the same architecture keeps them as well and draws the new ones better. Four strengths of the penalty
    were tried (docs/decisions/0162): a stronger one keeps the old labels better and the new ones worse.
    """,
    ("learn", "den"): """
    Retraining is selective where labels enter: the findings say which share of the units and of the
    weights it reaches. In accuracy and coverage that adds nothing here: replay protects the old labels
    as well when every unit is retrained, and what is not reached cannot serve the new labels. Three
    forms were tried, which stand in the table: the share 0.9 of the embeddings' squared norm, half of
    it, and a stronger l1 penalty without such a threshold.
    """,
    ("learn", "der"): """
    Its squared errors add coverage. The ELBO of replayed draws beside them takes some away: draws vary less
    than the images that they stand for. Without it the strategy comes close to `replay_ewc`, which matches
    the function of the old network by a divergence and not by squared errors.
    """,
    ("learn", "rec"): """
    The penalties set weights and whole units to zero (docs/decisions/0152), which is their purpose; in
    accuracy they add nothing here, and they cost coverage. Three forms were tried, which stand in the table:
    both penalties, both a fifth as strong, and the l1 penalty alone, which costs nothing. The search finds
    that more units learn faster at first, and the compression takes as many away again; what is left covers
    no more than a network that kept its size.
    """,
    ("learn", "merge"): """
    To match what the isolated networks draw and encode gives the same here as to learn their draws as if they
    were real images. Both copy the isolated networks well. No other form was tried.
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
    ("forget", "selective_amnesia"): """
    In its short form EWC keeps some of the forgotten label, and what stays is held by replay alone: the
    penalty keeps weights that drew the label. The published number of steps forgets, and takes 9 minutes. Its
    controls would take as long, and were not run. Two forms were tried, which stand in the table.
    """,
    ("resize", "targeted_dropout_prune"): """
    Training under dropout makes the small units dispensable: without it, their removal costs most of the
    coverage. But a network from which as many units are removed at random, and which is then trained for as
    long, is better, and the more so the more units go; three shares were tried. Training after a removal
    repairs what training before it can only prepare. `taylor_prune` chooses by the loss and trains
    afterwards; it is better than both at every share, and therefore the default (docs/decisions/0167).
    """,
    ("resize", "expand"): """
    Units with small random weights on both sides, as in the code of the paper, change the draws too little to
    be measured. What the function-preserving form adds is that they do not change at all. No other form was
    tried.
    """,
}
"""Operation and name of a strategy -> a paragraph: what was tried, and what came of it."""
