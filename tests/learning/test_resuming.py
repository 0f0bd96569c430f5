"""Interrupted at any step, any number of times, a strategy gives the bytes of an undisturbed run."""

import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pytest
import torch

from tests.learning.interrupting import Killed, Memory, killer
from tests.learning.tiny import BRIEF, CPU, GIVEN, Start, TinyArchive, brief, labels
from worker.learning.checkpoint import Checkpoint
from worker.learning.machine import machine_kind
from worker.learning.resuming import Environment, InPlace, NoSnapshots, Snapshots, State
from worker.learning.snapshot_file import NotASnapshot, read_snapshot
from worker.learning.strategy import Outcome, Progress, Stopped, TrainingContext, all_strategies, find
from worker.learning.transition import apply_strategy

EVERY = [(one.operation, one.name) for one in all_strategies()]
FEW = {"schedule": BRIEF, "fisher_examples": 600, "taylor_examples": 300, "validation_examples": 300}
every_strategy = pytest.mark.parametrize(("operation", "name"), EVERY)


class OnShutdown(Memory):
    """Snapshots of a worker that shuts down at some time."""

    def __init__(self, shutting_down: Callable[[], bool]) -> None:
        super().__init__()
        self.is_due = shutting_down  # type: ignore[method-assign]


def attempt(
    operation: str,
    name: str,
    start: Start,
    snapshots: Snapshots,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    others: Mapping[str, Any] = MappingProxyType({}),
    seed: int = 0,
    **fields: Any,
) -> tuple[list[bytes], Outcome]:
    """The files that the strategy makes, and what it reports of them. fields: of the context."""
    found, archive = find(operation, name), TinyArchive(start.checkpoint.spec.architecture)
    context = TrainingContext(CPU, seed, archive, snapshots=snapshots, on_progress=on_progress, **fields)
    sent = brief(found) | {key: few for key, few in FEW.items() if key in found.Params.model_fields}
    params = found.Params.model_validate(sent | dict(others))
    made = apply_strategy(start.checkpoint, found, start.given, params, context)
    return [one.to_bytes() for one in (made, *made.isolated)], context.outcome


@every_strategy
def test_killed_at_random_steps_a_strategy_gives_the_bytes_of_an_undisturbed_run(
    operation: str, name: str, start: Start
) -> None:
    steps: list[Progress] = []
    undisturbed = attempt(operation, name, start, NoSnapshots(), steps.append)
    chance, snapshots = random.Random(f"{operation} {name}"), Memory()
    for _ in range(2):
        with suppress(Killed):
            attempt(operation, name, start, snapshots, killer(chance.randint(1, len(steps) + 1)))
    assert attempt(operation, name, start, snapshots) == undisturbed


@pytest.mark.parametrize(
    ("operation", "name", "others"),
    [
        ("forget", "surrogate", {"prune_by": "targeted_dropout", "prune_share": 0.3, "ewc_strength": 1}),
        ("forget", "surrogate", {"surrogate": "never_learned"}),
        ("forget", "surrogate", {"adversarial_share": 0.5}),
        ("forget", "surrogate", {"surrogate": "uniform_noise"}),
        ("forget", "distill", {"size": "auto"}),
        ("resize", "targeted_dropout_prune", {"mode": "weight", "share": 0.3}),
        ("learn", "replay_ewc", {"replay_match": "elbo"}),
        ("learn", "den", {"tolerance": 0, "drift": 0, "reach": 1}),  # it expands, and splits units
    ],
)
def test_killed_at_any_step_it_resumes_whatever_its_params(
    operation: str, name: str, others: dict[str, Any], two_labels: Checkpoint
) -> None:
    start, steps = Start(two_labels, GIVEN[operation]), list[Progress]()
    undisturbed = attempt(operation, name, start, NoSnapshots(), steps.append, others)
    for killed_at in (len(steps) // 2, len(steps) - 8):
        snapshots = Memory()
        with suppress(Killed):
            attempt(operation, name, start, snapshots, killer(killed_at), others)
        assert attempt(operation, name, start, snapshots, others=others) == undisturbed


@pytest.fixture
def start_of_forget(two_labels: Checkpoint) -> Start:
    return Start(two_labels, GIVEN["forget"])


def test_at_a_shutdown_a_snapshot_is_saved_before_the_training_stops(start_of_forget: Start) -> None:
    steps: list[Progress] = []
    stopping = OnShutdown(lambda: len(steps) >= 12)
    with pytest.raises(Stopped, match="stopped while"):
        attempt("forget", "surrogate", start_of_forget, stopping, steps.append, should_stop=stopping.is_due)
    assert stopping.saved == 1
    again: list[Progress] = []
    attempt("forget", "surrogate", start_of_forget, Memory(stopping.data), again.append)
    trained = [one for one in again if one.loss is not None]
    assert trained[0] == next(one for one in whole(start_of_forget) if one.step == steps[-1].step + 1)


def whole(start: Start) -> list[Progress]:
    """The steps with a loss of an undisturbed forget."""
    steps: list[Progress] = []
    attempt("forget", "surrogate", start, NoSnapshots(), steps.append)
    return [one for one in steps if one.loss is not None]


def test_a_resumed_attempt_repeats_no_step_of_a_training(start_of_forget: Start) -> None:
    """Not even where it is killed again before it saved a snapshot of its own."""
    everything, snapshots = whole(start_of_forget), Memory()
    first: list[Progress] = []
    seen: list[Progress] = []

    def record_and_kill(progress: Progress) -> None:
        first.append(progress)
        if progress.phase == "forgetting" and progress.step == 7:
            raise Killed

    with pytest.raises(Killed):
        attempt("forget", "surrogate", start_of_forget, snapshots, record_and_kill)
    with pytest.raises(Killed):
        attempt("forget", "surrogate", start_of_forget, Memory(snapshots.data), killer(1))
    attempt("forget", "surrogate", start_of_forget, snapshots, seen.append)
    trained = [one for one in seen if one.loss is not None]
    assert trained == everything[-len(trained) :]
    assert 4 <= trained[0].step <= 7
    assert trained[0].phase == "forgetting"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1000] + bytes(1000),
        lambda data: b"palimpsest snapshot 0" + data[21:],
        lambda data: b"\x00" * len(data),
    ],
    ids=["empty", "short", "half", "other bytes", "another format", "zeros"],
)
def test_a_damaged_snapshot_is_ignored_with_the_reason(
    damage: Callable[[bytes], bytes], start_of_forget: Start, caplog: pytest.LogCaptureFixture
) -> None:
    data = snapshot_of(start_of_forget)
    with pytest.raises(NotASnapshot):
        read_snapshot(damage(data))
    seen: list[Progress] = []
    with pytest.raises(Killed):
        attempt("forget", "surrogate", start_of_forget, Memory(damage(data)), killer(1))
    assert "the snapshot is ignored, the computation starts anew" in caplog.text
    assert not seen


def snapshot_of(start: Start) -> bytes:
    """What a forget that was killed within its training saved last."""
    snapshots = Memory()
    with pytest.raises(Killed):
        attempt("forget", "surrogate", start, snapshots, killer(20))
    assert snapshots.data is not None
    return snapshots.data


@pytest.mark.parametrize(
    "foreign",
    [
        {"seed": 1},
        {"others": {"surrogate_share": 0.4}},
        {"labels": ("columns",)},
        {"name": "saliency"},
    ],
    ids=lambda foreign: next(iter(foreign)),
)
def test_a_snapshot_of_other_inputs_is_ignored(
    foreign: dict[str, Any], start_of_forget: Start, caplog: pytest.LogCaptureFixture
) -> None:
    data, given = snapshot_of(start_of_forget), dict(foreign)
    name = given.pop("name", "surrogate")
    start = start_of_forget._replace(given=labels(*given.pop("labels", ("rows",))))
    undisturbed = attempt("forget", name, start, NoSnapshots(), **given)
    caplog.set_level("INFO")
    assert attempt("forget", name, start, Memory(data), **given) == undisturbed
    assert "it is of other inputs" in caplog.text
    assert "resuming after" not in caplog.text


def test_a_worker_of_another_release_goes_on_with_the_job(
    start_of_forget: Start, caplog: pytest.LogCaptureFixture
) -> None:
    data = snapshot_of(start_of_forget)
    undisturbed = attempt("forget", "surrogate", start_of_forget, NoSnapshots())
    caplog.set_level("INFO")
    assert attempt("forget", "surrogate", start_of_forget, Memory(data), code="next") == undisturbed
    assert "resuming after" in caplog.text


def test_resumed_in_another_environment_the_context_names_both(start_of_forget: Start) -> None:
    data = snapshot_of(start_of_forget)
    here, identity = machine_kind(CPU), str(read_snapshot(data)["identity"])
    first = Environment("", here)
    for other in (Environment("", "another machine"), Environment("another release", here)):
        for environment, environments in ((first, (first,)), (other, (first, other))):
            context = TrainingContext(CPU, 0, snapshots=Memory(data))
            context.journal.open(lambda: identity, environment)
            assert context.journal.environments == environments
    assert torch.__version__ in here
    assert "threads" in here


def test_a_stage_of_another_name_or_shape_is_computed_anew(caplog: pytest.LogCaptureFixture) -> None:
    """Another kind of machine may have made another network of what is computed again."""

    def count_to(total: int, name: str, width: int, snapshots: Memory) -> list[int]:
        context = TrainingContext(CPU, 0, snapshots=snapshots)
        context.resume(lambda: ["counting"])
        counted, taken = torch.zeros(width), []
        with context.loop(name, range(total), [InPlace({"counted": counted})]) as steps:
            for step in steps:
                taken.append(step)
                counted += 1
                if step == 5 and total > 6:
                    raise Killed
        assert (counted == total).all()
        return taken

    saved = Memory()
    with pytest.raises(Killed):
        count_to(10, "counting", 4, saved)
    assert count_to(6, "counting", 4, Memory(saved.data)) == [5]
    for name, width in (("adding", 4), ("counting", 3)):
        caplog.clear()
        assert count_to(6, name, width, Memory(saved.data)) == [0, 1, 2, 3, 4, 5]
        assert f"the snapshot is ignored from the stage '{name}' on" in caplog.text


def test_a_result_stored_elsewhere_is_left_out_by_the_attempt_that_finds_it() -> None:
    def compute(stored: list[int], snapshots: Memory, fails: bool) -> list[str]:
        context, done = TrainingContext(CPU, 0, snapshots=snapshots), list[str]()
        context.resume(lambda: ["a judge"])

        def make(name: str) -> State:
            done.append(name)
            context.step("making", 1, 1)
            return {"name": name}

        def train() -> int:
            context.once("first part", lambda: make("first part"))
            context.once("second part", lambda: make("second part"))
            if fails:
                raise Killed
            return 1

        context.once("before", lambda: make("before"))
        if not stored:
            stored.append(context.aside("training", train))
        context.once("after", lambda: make("after"))
        return done

    snapshots, stored = Memory(), list[int]()
    with pytest.raises(Killed):
        compute(stored, snapshots, fails=True)
    assert compute(stored, Memory(snapshots.data), fails=False) == ["after"]
    assert compute([1], Memory(snapshots.data), fails=False) == ["after"], "another job trained it meanwhile"
