"""What was tried with the ideas of strategies, for the page of strategies."""

from collections.abc import Mapping

ATTEMPTS: Mapping[tuple[str, str], str] = {
    ("learn", "replay_ewc"): """
    Replay keeps the old labels. EWC beside it adds nothing that these figures show, and neither does growth.
    Three forms of growth were tried, which stand in the table: the default one, a quarter more units, and
    twice as many. The network grows for models that go on to learn many labels, and its width follows the
    number of labels that it holds (docs/decisions/0149).
    """,
    ("learn", "hypernetwork"): """
    The penalty keeps the labels of earlier jobs without their images or draws, which is its purpose. Replay
    on the same architecture keeps them as well and draws the new ones better. Four strengths of the penalty
    were tried (docs/decisions/0162): a stronger one keeps the old labels better and the new ones worse.
    """,
    ("learn", "den"): """
    Retraining is selective where labels enter: the findings say which share of the units and of the
    weights it reaches. In accuracy and coverage that adds nothing here, and the new labels are drawn a
    little worse: replay protects the old labels as well when every unit is retrained, and what is not
    reached cannot serve the new labels. Three
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
    were real images. Both copy the isolated networks well. Three lengths were tried, which stand in the
    table: the default one, a quarter and a tenth of it. In a tenth, learning draws covers more.
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
    controls would take as long, and were not run. Three forms were tried, which stand in the table: the
    published one, the short one, and the short one with a penalty a tenth as strong.
    """,
    ("forget", "surrogate"): """
    What the adversary adds cannot be seen in draws of the label. It shows in attacks on the weights
    (docs/decisions/0168).
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
    be measured. What the function-preserving form adds is that they do not change at all. Three sizes were
    tried, which stand in the table: a tenth more units, twice and four times as many.
    """,
    ("resize", "search"): """
    The search finds that more units bring too little for their number, and adds none here. So the network is
    smaller than with a fixed share, and draws as well.
    """,
}
"""Operation and name of a strategy -> a paragraph: what was tried, and what came of it."""
