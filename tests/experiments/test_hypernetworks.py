"""The comparison of the hypernetwork with the default: what is put back, and how figures are summarised."""

import pytest
import torch

from experiments.hypernetworks import JOBS, restore, summarize
from tests.learning.tiny import NETWORKS, examples, labels, run
from worker.learning.drawing import draw
from worker.learning.networks import blank


def test_with_its_slot_put_back_a_label_is_drawn_as_before_if_nothing_else_changed() -> None:
    before = run(
        "learn", "hypernetwork", blank(NETWORKS["hyper"], seed=0, pixels=64), examples("rows", "blot")
    )
    emptied = run("forget", "noise_alignment", before, labels("rows"), noise_strength=0)
    drawn, again, without = (
        draw(one, "rows", 5, seed=0) for one in (before, restore(emptied, before, "rows") or emptied, emptied)
    )
    assert torch.allclose(again, drawn, atol=0.05)
    assert not torch.allclose(without, drawn, atol=0.05)


def test_a_slot_is_not_put_back_into_a_network_of_another_width() -> None:
    before = run("learn", "replay_ewc", blank(NETWORKS["mlp"], seed=0, pixels=64), examples("rows", "blot"))
    smaller = run("forget", "surrogate", before, labels("rows"))
    assert smaller.widths != before.widths
    assert restore(smaller, before, "rows") is None


def test_figures_are_means_over_seeds_and_the_worst_of_forgotten_labels() -> None:
    def row(open_set: float, forgotten: dict[str, float]) -> dict[str, object]:
        return {
            "operation": "forget",
            "labels": ("2",),
            "open": open_set,
            "coverage": 0.8,
            "seconds": 5.0,
            "first": [open_set, open_set],
            "forgotten_by_label": forgotten,
            "restored": dict.fromkeys(forgotten),
            "parameters": 10,
        }

    histories = [[row(0.9, {}), row(0.8, {"2": 0.1})], [row(1.0, {}), row(0.96, {"2": 0.3})]]
    first, last = summarize(histories)
    assert (first["drift"], first["forgotten"], first["restored"]) == (0, None, None)
    assert last["job"] == "forget 2"
    assert (last["open"], last["least_open"], last["most_forgotten"]) == (pytest.approx(0.88), 0.8, 0.3)
    assert (last["drift"], last["forgotten"]) == (pytest.approx(-0.07), pytest.approx(0.2))


def test_five_jobs_follow_the_forgets_and_learn_neither_label_again() -> None:
    forgets = [index for index, job in enumerate(JOBS) if job.labels in (("2",), ("7",))]
    later = JOBS[forgets[-1] + 1 :]
    assert len(later) == 5
    assert not {"2", "7"} & {label for job in later for label in job.labels}
