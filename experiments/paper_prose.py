"""The words of docs/paper.md that hold no number of ours: captions, and what differs and why."""

INTRO = """# The paper's figures and tables, re-made

Written by `python -m experiments.paper`; do not edit it by hand. The paper is *Unifying Continual Learning
and Machine Unlearning for Expressiveness Aware Models* (Bangar et al.). Everything here is on MNIST, with
the paper's network (784-512-256-8) and one CPU thread a process. Intervals are of 95 %, over seeds:
Student's, or the bootstrap's where marked b. Accuracy is of 1,000 draws a label: *closed-set* takes the label
the judge finds likeliest, as the paper's classifier does; *open-set* counts a draw the judge rejects as
wrong. Where the paper only draws a curve, its number is read off the figure."""

CAPTIONS = {
    "random_passes": {
        "labels-against-simple.png": "Accuracy of every label after the last pass, beside the simple model's",
        "accuracy-over-passes.png": "Average accuracy after every pass, a thin line a seed, their mean thick",
        "relapse-over-passes.png": "Share of draws still judged as a forgotten label, after every later pass",
        "size-over-passes.png": "Labels held, hidden units and parameters after every pass",
    },
    "auto_size": {
        "auto-size.png": "Labels held, hidden units and parameters after every pass, by auto",
        "auto-size-accuracy.png": "Average accuracy after every pass, with fixed shares and by auto",
    },
    "table1": {"table1.png": "Each seed's accuracy with a fixed size and with resizing, joined by a line"},
    "compression": {"compression.png": "Accuracy and coverage against the share of units removed"},
    "clpu": {"clpu.png": "Divergence of the outputs of every two networks, group by group"},
    "audit": {
        "audit-figures.png": "Every figure of the audit, a bar a strategy, and the lines it must keep",
        "audit-relearning.png": "The forgotten label learnt again, and a figure that no network ever saw",
        "audit-recovered.png": "What attacks on a forgotten label end with, a row a network",
    },
}

DIFFERS = {
    "random_passes": """What differs: the paper trains 20,000 to 100,000 steps a pass and counts a draw as
right only where five CNNs agree, none of which can reject. Here a learning takes 1,000 steps, priors are
fitted to each label, replay matches the old network's function instead of its draws, EWC survives a resize,
and a forgotten label draws what a network that never saw it would, instead of grey. The paper trains its
simple model once, at the end of a run; here there is one after each pass. A forgotten label is tested after
every later pass; the paper never tests one.""",
    "auto_size": """The paper grows and shrinks by fixed shares, so its width follows the number of
operations and not the labels held. It names a better policy as future work.""",
    "table1": """What differs: the paper's arms differ in EWC as well as in resizing (its code leaves EWC
out of the arm that resizes), and four runs are too few to tell. Here both arms forget from the same network
in as many steps, and the confounded pair is a row of its own. The arms that resize are the strategy
`surrogate` with Selective Amnesia's schedule, surrogate, EWC strength and replay; its Fisher is over the
retained labels only, and it holds a surrogate by the decoder alone. `unpruned` is it without resizing, so
the row that compares it is about resizing and nothing else. The arms are not equally done: on some seeds the
fixed one still draws what it should have forgotten (column `forgotten`), and what it retains is measured
before that work is finished.""",
    "compression": """Published for targeted dropout (Gomez et al. 2019), on ResNet-32 with 70 % of the
units removed: 90.03 % accurate with it, 11.70 % without; and a network trained to do without 75 % of its
weights falls from 90 to 34 % when 80 % go. The paper removes a tenth at a time and shows no curve.""",
    "clpu": """What differs: CLPU starts a temporary network at the head's weights and shares one stream
of random numbers, so it is exact in distribution only, and it cannot forget what was learnt for good. The
divergence here is of a decoder's pixels, not of a classifier's answers.""",
    "audit": """The paper reports no figure of forgetting. Here one label of ten is forgotten, label by label
from one base, and what is left is compared with three networks that were retrained without it, of other
seeds: the share of attacks on latent and condition that bring it back (`recovery gap`, bar 0.10 on either
side), the steps to learn it again (`relearn ratio`, 0.8), attacks on membership (0.02), its draws (at
most 0.02 above the references'), and the coverage of what stays (`coverage ratio`, 0.95); s is the
deviation between labels. A plain bar is missed where the mean over labels is beyond it; the verdict
allows what one more reference would show in 95 of 100 audits, which on one label is much. `nothing` is
the base with the label struck out by name only, and `reference` one more retrained network: the audit has
to flag the one and to pass the other. `nothing` passes the membership attack on single images: networks
that train for a thousand steps on sixty thousand images know next to none by heart, so on this figure
"met" tells little. The means over sets of 32 images tell more (`membership set gap`, which has no bar):
they see how the encoder answers the label's train and test images, and a network that once knew the label
answers unlike one that never did. `selective amnesia` takes its published steps, on the first label;
`selective amnesia shortened` a quarter of them, four times as fast, on all.""",
}
