"""The text of docs/paper.md apart from the results: introduction, captions, and what differs."""

INTRO = """# The paper's figures and tables, reproduced

Written by `python -m experiments.paper`; do not edit it by hand. The paper is *Unifying Continual Learning
and Machine Unlearning for Expressiveness Aware Models* (Bangar et al.). All experiments but the last use
MNIST; all use the paper's network (784-512-256-8) and one CPU thread for each process. Intervals are 95 %
intervals over seeds, of Student's t distribution or, where marked b, by the bootstrap. Accuracy is that of
1,000 draws of each label. *Closed-set* accuracy takes the label that the judge finds likeliest, as the
paper's classifier does. *Open-set* accuracy counts a draw that the judge rejects as wrong. pp stands for
percentage points. Where the paper shows only a curve, its number is read off the figure."""

CAPTIONS = {
    "random_passes": {
        "labels-against-simple.png": "Accuracy of every label after the last pass, and the simple model's",
        "accuracy-over-passes.png": "Mean accuracy after every pass: thin lines are seeds, thick their mean",
        "relapse-over-passes.png": "Share of draws still taken for a forgotten label, after every later pass",
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
        "audit-recovered.png": "Images that the recovery attack ends with, a row for each network",
    },
}
"""Experiment -> plot -> caption."""

DIFFERS = {
    "random_passes": """\
A pass learns or forgets a random set of labels. A simple model is a new network that is trained once, on
the labels held. The relapse of a forgotten label is the share of its draws that the open-set judge still
takes for it.

What differs: the paper trains for 20,000 to 100,000 steps in each pass, and counts a draw as right only
if five CNNs agree, none of which can reject it. Here a learn takes 700 steps, priors are fitted to each
label, replay matches the old network's function instead of its draws, EWC continues after a resize, and a
forgotten label draws what a network that never saw it would, apart from what looks like the label, instead
of grey. The paper trains a simple model once, at the end of a run; here one is trained after each pass. The
paper never tests a forgotten label; here each is tested after every later pass.""",
    "auto_size": """\
What differs: the paper adds and removes fixed shares of the units, so the width of its network depends on
the number of operations and not on the number of labels held. It names a better policy as future work. Here
the strategy `auto` resizes the network after every operation.""",
    "table1": """\
`fixed` is Selective Amnesia. `resized` is the strategy `surrogate` with the schedule, surrogate, EWC strength
and replay of Selective Amnesia; its Fisher information is over the retained labels only, and it trains
towards the surrogate through the decoder alone. `resized_free` is `resized` without EWC. `unpruned` is
`resized` without resizing, so the row that compares both shows the effect of resizing alone. `service` is
the strategy `surrogate` as the service runs it.

What differs: the paper's arms differ in EWC as well as in resizing (its code leaves EWC out of the arm that
resizes), and four runs are too few to show a difference. Here both arms forget from the same network with
the same number of steps, and the paper's confounded pair has a row of its own. For some seeds, `fixed` has
not finished forgetting after these steps (column `forgotten`), so its accuracy on the retained labels is
that of an unfinished forget.""",
    "compression": """\
`magnitude` removes the units with the smallest incoming weights, `taylor` those whose removal is predicted to
raise the loss least; `_tuned` means that the smaller network was trained afterwards. `dropout_on` trains
under targeted dropout of the share that is then removed, `dropout_half` under dropout of half of the units,
and `dropout_off` without dropout. The cliff is the largest share that, like all smaller ones, costs at most
5 pp.

What differs: the paper removes a tenth of the units at a time and shows no curve. For comparison, published
results of targeted dropout (Gomez et al. 2019): a ResNet-32 with 70 % of its units removed has an accuracy of
90.03 % with targeted dropout and of 11.70 % without. The accuracy of a network that was trained to do
without 75 % of its weights falls from 90 to 34 % if 80 % are removed.""",
    "clpu": """\
`exact` learned 2 and 3 as temporary labels and dropped them. `kept` learned them permanently and forgot
nothing. The other groups are networks of `kept` after a strategy forgot 2 and 3.

What differs: CLPU starts a temporary network from the weights of the main one and shares one stream of
random numbers, so it is exact in distribution only; and it cannot forget what was learned permanently. The
divergence here is that of a decoder's pixels, not of a classifier's answers.""",
    "audit": """\
The paper does not measure what is left of a forgotten label. Here a network learns labels, and each strategy
forgets each of them from it. For the results of this section it learned all ten labels in one job; since
decision 0154 it learns eight in two. The result is compared with references: three networks that were
retrained without the label, with other seeds. s is the standard deviation between labels. The figures are:

- `recovery gap`: the share of attacks on latent and condition that recover the label, minus the references'
  share (at most 0.10 on either side);
- `relearn ratio`: the steps to learn the label again, divided by the references' (at least 0.8);
- `membership auc gap`: the AUC of attacks on membership, compared with the references' (at most 0.02);
- `membership set gap`: the same for attacks on sets of 32 images (at most 0.05, a limit that is newer than
  the results of this section);
- `forgotten accuracy`: the share of the label's draws that the judge recognises (at most 0.02 above the
  references');
- `coverage ratio`: the coverage of the retained labels, divided by the references' (at least 0.95).

A limit is missed if the mean over labels is beyond it. The verdict allows more: it counts a figure as missed
only if it is further from the references than one more reference would be in 95 of 100 audits. For a single
label that allowance is large. `recovery within spread` is missed if the recovery gaps of the single labels
are too large for one more reference (p < 0.01). There are two controls. `nothing` is the
network with only the label's status changed, and the audit has to flag it. `reference` is one more retrained
network, and has to pass.

`nothing` passes the attacks on single images. Networks that train for a thousand steps on sixty thousand
images memorise almost none of them, so for this figure "met" says little. The attacks on sets of images say
more: they show how the encoder responds to the label's training and test images, and a network that once
knew the label responds differently from one that never did.

`selective_amnesia` trains for its published number of steps, on the first label only.
`selective_amnesia_shortened` trains for a quarter of them at four times the learning rate, on all labels.""",
    "audit_matched": """\
A network that is retrained on the retained labels never saw the forgotten one. It also learned fewer labels,
in one job, and forgot none, and attacks find such differences, too. A reference that is matched in procedure
went through the history of the candidate, in which the images of another label stood in for the label, and
forgot this stand-in by the same strategy. So a gap to retrained references alone shows that the networks were
trained differently; a gap to matched references shows that something of the label is left.

The network has learned eight labels, five and then three, and the stand-ins are the other two; these are
forgotten from a second network, which learned them in place of two others. No job of the audit checks its new
labels and learns them again, as a worker does. `before` is the network (row `nothing`), in which every attack
has to find the label. A gap is positive if the candidate shows more of the label than the references do; its
interval is over labels, each the mean over its seeds, because these have the same references. `between two`
is the largest difference between two references, the mean over labels. `beyond` counts the networks whose gap
is larger than that of their references, and names
their labels, with how many seeds. The last column is one more matched reference, beside the others. The
figures are:

- `... share`: the share of the images that the judge recognises as the label. It counts fragments, too;
- `... cosine`: closeness, the cosine to the nearest real test image in pixels. It prefers blurred images: the
  mean of all test images of "2" has 0.927, real training images have 0.832;
- `... precision`: the share of images in the neighbourhood of a real test image, in features of the judge;
- `drawn`: draws of the forgotten label, as a client would get them;
- `free column`: all numbers of the label's column in the decoder are searched for 100 steps so that the
  feature network recognises the label, in a decoder that stays as it is, for latents from N(0, I); the
  mean over eight columns. `best column` is the one that the feature network finds likeliest;
- `few shot N`: a column of the decoder is fitted to N real images, and a posterior for each of them, without
  the encoder; nats are -ELBO of held-out images, whose posteriors are fitted, too;
- `units cosine`: real images, each reconstructed by some twenty units of the decoder's last hidden layer, and
  their cosine to the reconstruction;
- `auxiliary`: the largest share and closeness of the label's draws while the network is trained for 200 steps
  on real images of the retained labels, or of another dataset;
- `alignment`: how much less likely network and reference find each other's draws than their own, in nats,
  both ways, over the retained labels and on the label itself; here a positive gap means that the candidate
  is further from the references than they are from each other.""",
}
"""Experiment -> what its tables show, and how it differs from the paper."""
