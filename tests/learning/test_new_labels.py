"""A new label that comes out much worse than the others is learned again, and the better attempt is kept."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.learning.interrupting import Killed, Memory, killer
from tests.learning.tiny import CPU, QUICK, TINY, TinyArchive
from worker.learning import new_labels, slots
from worker.learning.checkpoint import Checkpoint
from worker.learning.networks import blank
from worker.learning.new_labels import find_poor, learn_checked, measure_new
from worker.learning.resuming import NoSnapshots, Snapshots
from worker.learning.strategy import Diverged, Examples, Progress, TrainingContext, find
from worker.learning.transition import apply_strategy

LEARN = find("learn", "replay_ewc")
PARAMS = LEARN.Params.model_validate({"schedule": QUICK | {"steps": 120}, "fisher_examples": 50})


def bars(name: str, count: int = 200) -> Tensor:
    """uint8 [count, 64]: a bar of one, two or three pixels across the image, at a random height."""
    thick = {"thin": 1, "middle": 2, "thick": 3}[name]
    heights = torch.randint(0, 9 - thick, (count,), generator=torch.Generator().manual_seed(thick))
    pictures = torch.zeros(count, 8, 8)
    for row in range(thick):
        pictures[torch.arange(count), heights + row] = 230
    return pictures.flatten(1).to(torch.uint8)


def request(*names: str) -> Examples:
    return Examples(names, "bars", {name: bars(name) for name in names})


def learn(
    start: Checkpoint,
    *names: str,
    snapshots: Snapshots | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Checkpoint, TrainingContext]:
    context = TrainingContext(
        CPU, 0, TinyArchive(), snapshots=snapshots or NoSnapshots(), on_progress=on_progress
    )
    return apply_strategy(start, LEARN, request(*names), PARAMS, context), context


@pytest.fixture(scope="module")
def start() -> Checkpoint:
    """A network that holds two labels."""
    return learn(blank(TINY, seed=0, pixels=64), "thin", "thick")[0]


@pytest.fixture
def collapses(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the first attempts collapse: their label embeddings start where every hidden unit is saturated."""
    original = slots.with_mean_embeddings

    def let(attempts: int) -> None:
        left = [attempts]

        def far_away(checkpoint: Checkpoint, which: list[int], others: list[int]) -> Checkpoint:
            made = original(checkpoint, which, others)
            left[0] -= 1
            if left[0] < 0:
                return made
            weights = dict(made.weights)
            for name in [one for one in weights if one.endswith(".label")]:
                weights[name] = weights[name].clone()
                weights[name][which] -= 100
            return replace(made, weights=weights)

        monkeypatch.setattr(slots, "with_mean_embeddings", far_away)

    return let


def test_labels_that_come_out_alike_are_learned_once(start: Checkpoint) -> None:
    steps: list[Progress] = []
    _, context = learn(start, "middle", on_progress=steps.append)
    assert "learned_again" not in context.findings
    assert sum(one.phase == "learning" for one in steps) == 120


def test_a_collapsed_label_is_learned_again(start: Checkpoint, collapses: Callable[[int], None]) -> None:
    collapses(1)
    learned, context = learn(start, "middle")
    found = context.findings["learned_again"]
    first, second = found["labels"]["middle"]
    assert found["attempt"] == 2
    assert second > 2 * first
    assert measure_new(learned, request("middle").images, context)["middle"] == pytest.approx(
        second, abs=0.05
    )


def test_the_better_attempt_is_kept_if_both_collapse(
    start: Checkpoint, collapses: Callable[[int], None]
) -> None:
    collapses(2)
    _, context = learn(start, "middle")
    found = context.findings["learned_again"]
    assert found["labels"]["middle"][found["attempt"] - 1] == max(found["labels"]["middle"])


def test_the_findings_are_those_of_the_attempt_that_is_kept(
    start: Checkpoint, collapses: Callable[[int], None]
) -> None:
    def run(context: TrainingContext) -> Checkpoint:
        context.findings["seed"] = context.seed
        return LEARN.run(start, request("middle"), PARAMS, context)

    for collapsed, kept in ((1, 2), (0, 1)):
        collapses(collapsed)
        context = TrainingContext(CPU, 0, TinyArchive())
        learn_checked(run, start, request("middle").images, context)
        assert (context.findings["seed"] == context.seed) == (kept == 1)


def test_killed_in_the_second_attempt_it_gives_the_bytes_of_an_undisturbed_run(
    start: Checkpoint, collapses: Callable[[int], None]
) -> None:
    collapses(1)
    undisturbed, _ = learn(start, "middle")
    snapshots = Memory()
    collapses(1)
    with suppress(Killed):
        learn(start, "middle", snapshots=snapshots, on_progress=killer(200))
    assert snapshots.saved
    collapses(1)
    resumed, context = learn(start, "middle", snapshots=Memory(snapshots.data))
    assert context.findings["learned_again"]["attempt"] == 2
    assert resumed.to_bytes() == undisturbed.to_bytes()


@pytest.mark.parametrize(
    ("new", "held", "poor"),
    [
        ({"a": 0.1}, {}, []),  # nothing to compare with
        ({"a": 0.1}, {"b": 0.6, "c": 0.7}, ["a"]),
        ({"a": 0.4}, {"b": 0.6, "c": 0.7}, []),
        ({"a": 0.05, "b": 0.6}, {}, ["a"]),
        ({"a": -3.0, "b": 0.01, "c": 0.02}, {}, []),  # of no label is much explained
        ({"a": -math.inf, "b": 0.6}, {}, ["a"]),
    ],
)
def test_a_label_is_poor_beside_the_others(
    new: dict[str, float], held: dict[str, float], poor: list[str]
) -> None:
    assert find_poor(new, held) == poor


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ({"a": 0.6, "b": 0.05}, {"a": 0.05, "b": 0.6}, 1),  # the other one collapses
        ({"a": 0.6, "b": 0.05}, {"a": 0.01, "b": 0.01}, 1),
        ({"a": 0.6, "b": 0.05}, {"a": 0.6, "b": 0.5}, 2),
        ({"a": 0.6, "b": 0.05}, None, 1),  # the second attempt diverges
    ],
)
def test_whatever_the_second_attempt_is_the_better_one_is_kept(
    monkeypatch: pytest.MonkeyPatch, first: dict[str, float], second: dict[str, float] | None, kept: int
) -> None:
    networks = [blank(TINY, seed=seed, pixels=64) for seed in (1, 2)]
    attempts, measured = iter(networks), iter([first, second])

    def run(context: TrainingContext) -> Checkpoint:
        made = next(attempts)
        if made is networks[1] and second is None:
            raise Diverged("the loss became inf")
        return made

    monkeypatch.setattr(new_labels, "measure_new", lambda *_: next(measured))
    context = TrainingContext(CPU, 0, TinyArchive())
    found = learn_checked(run, blank(TINY, seed=0, pixels=64), request("thin").images, context)
    assert found is networks[kept - 1]
    shares = context.findings["learned_again"]["labels"]["b"]
    assert shares == [first["b"], None if second is None else second["b"]]


def test_labels_that_only_noise_distinguishes_are_not_compared() -> None:
    noise = torch.randint(0, 255, (200, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    blank_model, context = blank(TINY, seed=0, pixels=64), TrainingContext(CPU, 0, TinyArchive())
    images = {"a": noise, "b": noise.flip(0)}
    learned = apply_strategy(blank_model, LEARN, Examples(("a", "b"), "noise", images), PARAMS, context)
    assert find_poor(measure_new(learned, images, context), {}) == []
    assert "learned_again" not in context.findings
