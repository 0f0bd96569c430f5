"""A forget that trains against an adversary leaves less of the label in the weights that labels share."""

from typing import Any

import pytest
import torch

from tests.learning.test_laws import likeness
from tests.learning.tiny import CPU, NETWORKS, QUICK, context, examples, labels, run, stripes
from worker.learning.adversary import COLUMNS, ColumnAdversary
from worker.learning.checkpoint import Checkpoint
from worker.learning.judging.few_shot import FewShots, fit_columns
from worker.learning.networks import blank, build, frozen
from worker.learning.networks.network import NO_MASKS
from worker.learning.sources import generative_replay
from worker.learning.strategy import Batch, find

SHOTS = FewShots(sizes=(10,), sets=3, steps=100, held_out=20, held_out_steps=60, draws=1)


def nats_of_fitted_columns(checkpoint: Checkpoint, label: str) -> float:
    """-ELBO of a real image of the label with columns that were fitted to ten others."""
    held, slot = sorted(checkpoint.retained.values()), checkpoint.label(label).slot
    real = stripes(label)
    found = fit_columns(
        frozen(checkpoint, CPU), slot, held, real[:100], real[100:], shots=SHOTS, context=context()
    )
    return found[10].nats


def test_columns_fitted_to_real_images_find_less_of_the_label() -> None:
    start = blank(NETWORKS["mlp"], seed=0, pixels=64)
    learned = run("learn", "replay_ewc", start, examples("rows", "columns", "blot"))
    chosen: dict[str, Any] = {"schedule": QUICK | {"steps": 400}, "surrogate_share": 0.5, "prune_share": 0}
    without, against = (
        run("forget", "surrogate", learned, labels("blot"), adversarial_share=share, **chosen)
        for share in (0, 0.5)
    )
    assert nats_of_fitted_columns(against, "blot") > nats_of_fitted_columns(without, "blot") + 1
    for name in ("rows", "columns"):
        assert likeness(against, name) < 0.1, "the others stay"


def test_the_adversary_finds_columns_of_each_label_in_a_network_that_is_not_trained(
    two_labels: Checkpoint,
) -> None:
    network, slots = build(two_labels, CPU), [0, 1]
    draws = generative_replay(frozen(two_labels, CPU), slots, torch.Generator().manual_seed(1))
    adversary = ColumnAdversary(network, frozen(two_labels, CPU), draws, slots, slots, context())
    for _ in range(150):
        adversary.loss(adversary.draw(64), NO_MASKS)
        adversary.step()
    (columns,) = adversary.state()["columns"].values()
    assert len(columns) == COLUMNS * len(slots)
    table = network.get_parameter("decoder.0.label")
    latents = torch.randn(100, network.latent, generator=torch.Generator().manual_seed(2))
    for slot, name in enumerate(two_labels.retained):
        real = stripes(name).float().mean(dim=0) / 255
        for column in columns[COLUMNS * slot : COLUMNS * (slot + 1)]:
            with torch.no_grad():
                table[0] = column
                drawn = network.decode(latents, torch.zeros(100, dtype=torch.long)).sigmoid().mean(dim=0)
            assert (drawn - real).abs().mean() < 0.15


def test_the_least_share_of_an_adversary_is_an_example_in_every_step(
    two_labels: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, draw = list[int](), ColumnAdversary.draw

    def draw_and_count(adversary: ColumnAdversary, count: int) -> Batch:
        counts.append(count)
        return draw(adversary, count)

    monkeypatch.setattr(ColumnAdversary, "draw", draw_and_count)
    chosen: dict[str, Any] = {"schedule": QUICK | {"steps": 3}, "naive_steps": 3}
    least, none = (
        run("forget", "surrogate", two_labels, labels("rows"), adversarial_share=share, **chosen)
        for share in (1e-9, 0)
    )
    assert counts == [1, 1, 1]
    assert least.to_bytes() != none.to_bytes(), "it changes what is learned"


def test_an_adversary_continues_from_its_state(two_labels: Checkpoint) -> None:
    def made() -> ColumnAdversary:
        teacher = frozen(two_labels, CPU)
        draws = generative_replay(teacher, [0], torch.Generator().manual_seed(1))
        return ColumnAdversary(build(two_labels, CPU), teacher, draws, [0], [1], context())

    first, second = made(), made()
    batch = first.draw(16)
    for _ in range(3):
        first.loss(batch, NO_MASKS)
        first.step()
    second.restore(first.state())
    for one in (first, second):
        one.loss(batch, NO_MASKS)
        one.step()
    for left, right in zip(*(one.state()["columns"].values() for one in (first, second)), strict=True):
        assert torch.equal(left, right)


def test_the_findings_say_so_where_no_adversary_can_be_made(two_labels: Checkpoint) -> None:
    found, archive_context = find("forget", "surrogate"), context()
    sent = {
        "schedule": QUICK | {"steps": 3},
        "naive_steps": 3,
        "adversarial_share": 0.5,
        "surrogate": "blank",
    }
    found.run(two_labels, labels("rows"), found.Params.model_validate(sent), archive_context)
    assert archive_context.findings["adversarial_share"] == 0
