"""A reference that is matched in procedure repeats a history and sees nothing of the label."""

from dataclasses import replace
from typing import Literal

import torch

from tests.learning.tiny import NETWORKS, TinyArchive, brief, context, labels, stripes
from worker.learning.checkpoint import Checkpoint, Label
from worker.learning.judging.matched_references import Job, StandInArchive, run_job
from worker.learning.networks import blank
from worker.learning.strategy import TrainingContext, find


def job(operation: Literal["learn", "forget"], strategy: str, *names: str) -> Job:
    return Job(operation, names, strategy, brief(find(operation, strategy)))


JOBS = (
    job("learn", "replay_ewc", "rows", "columns"),
    job("learn", "replay_ewc", "frame"),
    job("forget", "surrogate", "rows"),
)


def with_stand_in() -> TrainingContext:
    archive = StandInArchive(TinyArchive(), "rows", Label("blot", 0, "stripes"))
    return replace(context(), archive=archive)


def reference(rows: str) -> Checkpoint:
    """What the jobs make of a blank network if the label `rows` has the images of another one."""
    images = {"rows": stripes(rows), "columns": stripes("columns"), "frame": stripes("frame")}
    made, trainer = blank(NETWORKS["mlp"], seed=0, pixels=64), with_stand_in()
    for number, one in enumerate(JOBS):
        made = run_job(made, one, "stripes", images, trainer.with_seed_for(f"job {number}"))
    return made


def test_a_job_without_a_stand_in_is_what_its_strategy_makes() -> None:
    start = blank(NETWORKS["mlp"], seed=0, pixels=64)
    images = {"rows": stripes("rows"), "columns": stripes("columns")}
    found = run_job(start, JOBS[0], "stripes", images, context())
    strategy = find("learn", "replay_ewc")
    by_hand = strategy.run(
        start,
        replace(labels("rows", "columns"), images=images),
        strategy.Params(**brief(strategy)),
        context(),
    )
    assert found.to_bytes() == by_hand.to_bytes()


def test_a_reference_has_the_labels_name_and_slot_and_the_history_of_the_candidate() -> None:
    found = reference("blot")
    assert {one.name: (one.slot, one.status) for one in found.labels} == {
        "rows": (0, "forgotten"),
        "columns": (1, "permanent"),
        "frame": (2, "permanent"),
    }
    assert reference("blot").to_bytes() == found.to_bytes()
    assert reference("rows").to_bytes() != found.to_bytes()
    assert found.spec == reference("rows").spec, "as large as the candidate"


def test_no_strategy_can_read_the_images_of_the_label_itself() -> None:
    archive = with_stand_in().archive
    assert torch.equal(archive.images(Label("rows", 0, "stripes")), stripes("blot"))
    assert torch.equal(archive.held_out(Label("rows", 0, "stripes")), stripes("blot", 60))
    assert torch.equal(archive.images(Label("frame", 2, "stripes")), stripes("frame"))
    assert archive.newest_without(["rows"]).spec == run_spec()


def run_spec() -> object:
    return blank(NETWORKS["mlp"], seed=0, pixels=64).spec
