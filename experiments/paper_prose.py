"""The text of docs/paper.md that holds no measured number: the introduction, captions, and what differs."""

INTRO = """# The paper's figures and tables, reproduced

Written by `python -m experiments.paper`; do not edit it by hand. The paper is *Unifying Continual Learning
and Machine Unlearning for Expressiveness Aware Models* (Bangar et al.). All experiments use MNIST, the
paper's network (784-512-256-8) and one CPU thread for each process. Intervals are 95 % intervals over
seeds, of Student's t distribution or, where marked b, by the bootstrap. Accuracy is that of 1,000 draws of
each label. *Closed-set* accuracy takes the label that the judge finds likeliest, as the paper's classifier
does. *Open-set* accuracy counts a draw that the judge rejects as wrong. Where the paper shows only a curve,
its number is read off the figure."""

CAPTIONS = {
    "random_passes": {
        "labels-against-simple.png": "Accuracy of every label after the last pass, and the simple model's",
        "accuracy-over-passes.png": "Mean accuracy after every pass: thin lines are seeds, thick their mean",
        "relapse-over-passes.png": "Share of draws still judged as a forgotten label, after every later pass",
        "size-over-passes.png": "Labels held, hidden units and parameters after every pass",
    },
    "auto_size": {
        "auto-size.png": "Labels held, hidden units and parameters after every pass, with auto",
        "auto-size-accuracy.png": "Mean accuracy after every pass, with fixed shares and with auto",
    },
    "table1": {"table1.png": "Accuracy of each seed with a fixed size and with resizing, joined by a line"},
    "compression": {"compression.png": "Accuracy and coverage against the share of units removed"},
    "clpu": {"clpu.png": "Distance of every two networks, group by group"},
    "audit": {
        "audit-figures.png": "Every figure of the audit, with a bar for each strategy, and the limits",
        "audit-relearning.png": "Learning the forgotten label again, and images that no network ever saw",
        "audit-recovered.png": "Images that attacks on a forgotten label end with, a row for each network",
    },
}
"""Experiment -> plot -> caption."""

DIFFERS = {
    "random_passes": """\
What differs: the paper trains for 20,000 to 100,000 steps in each pass, and counts a draw as right only
where five CNNs agree, none of which can reject. Here a learn takes 1,000 steps, priors are fitted to each
label, replay matches the old network's function instead of its draws, EWC continues after a resize, and a
forgotten label draws what a network that never saw it would, instead of grey. The paper trains its simple
model, a new network for the labels that are left, once at the end of a run; here one is trained after each
pass. Here a forgotten label is tested after every later pass; the paper never tests one.""",
    "auto_size": """\
The paper adds and removes fixed shares of the units, so its width follows the number of operations and not
the number of labels held. It names a better policy as future work.""",
    "table1": """\
What differs: the paper's arms differ in EWC as well as in resizing (its code leaves EWC out of the arm that
resizes), and four runs are too few to show a difference. Here both arms forget from the same network with
the same number of steps, and the paper's confounded pair has a row of its own. The arms that resize are the
strategy `surrogate` with the schedule, surrogate, EWC strength and replay of Selective Amnesia; their
Fisher information is over the retained labels only, and they train towards the surrogate through the
decoder alone. `unpruned` is the same without resizing, so the row that compares it shows the effect of
resizing alone. The arms are not equally finished: for some seeds, `fixed` still draws what it should have
forgotten (column `forgotten`), and what it retains is measured before that work is done.""",
    "compression": """\
For comparison, published results of targeted dropout (Gomez et al. 2019): a ResNet-32 with 70 % of its
units removed is 90.03 % accurate with targeted dropout and 11.70 % without. A network trained to do without
75 % of its weights falls from 90 to 34 % when 80 % are removed. The paper removes a tenth of the units at a
time and shows no curve.""",
    "clpu": """\
What differs: CLPU starts a temporary network from the weights of the main one and shares one stream of
random numbers, so it is exact in distribution only; and it cannot forget what was learned permanently. The
divergence here is that of a decoder's pixels, not of a classifier's answers.""",
    "audit": """\
The paper reports no figure of forgetting. Here one label of ten is forgotten, label by label from one base,
and what is left is compared with three networks that were retrained without the label, with other seeds.
The figures are: the share of attacks on latent and condition that recover the label, minus the references'
share (`recovery gap`, limit 0.10 on either side); the steps to learn it again, divided by theirs
(`relearn ratio`, at least 0.8); attacks on membership (`membership auc gap`, at most 0.02); the label's
draws that the judge recognises (`forgotten accuracy`, at most 0.02 above the references'); and the coverage
of the retained labels, divided by theirs (`coverage ratio`, at least 0.95). s is the standard deviation
between labels.

A plain limit is missed if the mean over labels is beyond it. The verdict also allows what one more
reference would show in 95 of 100 audits; for one label that is much. There are two controls: `nothing` is
the base with only the label's status changed, which the audit has to flag; `reference` is one more
retrained network, which it has to pass.

`nothing` passes the attack on single images. Networks that train for a thousand steps on sixty thousand
images memorise almost none of them, so for this figure "met" says little. Means over sets of 32 images say
more (`membership set gap`, which has no limit): they show how the encoder answers the label's train and
test images, and a network that once knew the label answers differently from one that never did.

`selective amnesia` trains for its published number of steps, on the first label;
`selective amnesia shortened` for a quarter of them at four times the learning rate, on all labels.""",
}
"""Experiment -> how it differs from the paper."""
