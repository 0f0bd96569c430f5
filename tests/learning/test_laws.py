"""What holds for every strategy, on tiny data."""

from dataclasses import asdict, replace

import pytest
import torch

from service.requests.catalog import read_catalog
from tests.learning.tiny import (
    GIVEN,
    OF_TEMPORARY,
    QUICK,
    TINY,
    Start,
    asked,
    context,
    examples,
    quick,
    run,
    stripes,
)
from worker.learning.checkpoint import Checkpoint, NotACheckpoint
from worker.learning.drawing import draw
from worker.learning.memory import remembered
from worker.learning.networks import blank
from worker.learning.networks.network import Network
from worker.learning.slots import LabelConflict, with_labels, with_slots
from worker.learning.strategy import Diverged, Stopped, all_strategies, find

EVERY = [(one.operation, one.name) for one in all_strategies()]
TRAINED = [pair for pair in EVERY if "schedule" in find(*pair).Params.model_fields]
FRESH = {
    "retrain",
    "isolated",
}  # starts from weights of its own: what its checkpoint's have become is nothing to it
ISOLATED = {"isolated", "drop"}  # leave the main network as it is
every_strategy = pytest.mark.parametrize(("operation", "name"), EVERY)


@pytest.fixture
def made(operation: str, name: str, start: Start) -> Checkpoint:
    """What the strategy makes of its start, for all laws that only look at it."""
    key = (operation, name, start.checkpoint.spec.architecture)
    if key not in _made:
        _made[key] = run(operation, name, *start)
    return _made[key]


_made: dict[tuple[str, str, str], Checkpoint] = {}


def brief(operation: str, name: str) -> dict:
    """Params for a law that holds however long the training."""
    trained = (operation, name) in TRAINED
    return {"schedule": QUICK | {"steps": 10}} if trained else {}


def files(checkpoint: Checkpoint) -> list[bytes]:
    return [one.to_bytes() for one in (checkpoint, *checkpoint.isolated)]


def likeness(checkpoint: Checkpoint, label: str) -> float:
    """How far the mean draw of a label is from its mean picture, mean absolute difference in [0, 1]."""
    picture = stripes(label).float().mean(dim=0) / 255
    return (draw(checkpoint, label, 200, seed=1).mean(dim=0) - picture).abs().mean().item()


def test_every_operation_has_one_default_strategy():
    defaults = [(one.operation, one.retention) for one in all_strategies() if one.default and not one.policy]
    assert sorted(defaults) == [
        (operation, retention)
        for operation in ("forget", "learn")
        for retention in ("permanent", "temporary")
    ]
    policies = [one.policy for one in all_strategies() if one.operation == "resize" and one.default]
    assert sorted(policies) == ["expand", "prune"]


@pytest.mark.parametrize(("operation", "name"), TRAINED)
def test_a_schedule_sent_in_part_keeps_the_rest_of_the_strategys_own(operation, name):
    params, retention = find(operation, name).Params, find(operation, name).retention
    ours, sent = params().schedule.model_dump(), {"schedule": {"steps": 7}}
    assert params.model_validate(sent).schedule.model_dump() == ours | {"steps": 7}
    entry = read_catalog().strategy(operation, name, retention=retention)
    assert entry.complete(sent) == params.model_validate(sent).model_dump(mode="json")


@every_strategy
def test_strategy_leaves_its_checkpoint_untouched(operation, name, start):
    before = files(start.checkpoint)
    after = run(operation, name, *start, **brief(operation, name))
    assert files(start.checkpoint) == before != files(after)


@every_strategy
def test_same_seed_gives_the_same_bytes_and_another_seed_others(operation, name, start):
    first, again, other = (
        files(run(operation, name, *start, seed=seed, **brief(operation, name))) for seed in (1, 1, 2)
    )
    assert first == again
    assert (again != other) is (name != "drop"), "dropping takes no chances"


@every_strategy
def test_the_networks_a_strategy_is_not_asked_about_keep_their_bytes(
    operation, name, learnt, learnt_with_frame
):
    isolated = learnt_with_frame.temporary["frame"].to_bytes()
    given = examples("blot") if operation == "learn" else GIVEN[operation]
    if name not in OF_TEMPORARY:
        after = run(operation, name, learnt_with_frame, given, **brief(operation, name))
        assert after.temporary["frame"].to_bytes() == isolated
    if name in ISOLATED:
        given = given if operation == "learn" else asked("frame")
        after = run(operation, name, learnt_with_frame, given, **brief(operation, name))
        assert after.to_bytes() == learnt.to_bytes()


@every_strategy
def test_bytes_round_trip_is_the_identity(operation, name, made):
    read = Checkpoint.from_bytes(made.to_bytes())
    assert (read.spec, read.labels) == (made.spec, made.labels)
    assert read.to_bytes() == made.to_bytes()
    assert torch.equal(draw(read, "columns", 5, seed=0), draw(made, "columns", 5, seed=0))


@every_strategy
def test_what_is_held_can_still_be_drawn(operation, name, start, made):
    labels = {*made.held, *made.temporary}
    for label in labels if name != "finetune" else start.given.labels:  # the control may forget
        assert likeness(made, label) < 0.08, label


@every_strategy
def test_fisher_fits_the_new_shapes_and_is_not_negative(operation, name, made):
    for parameter, values in made.fisher.items():
        assert values.shape == made.weights[parameter].shape
        assert (values >= 0).all()


@pytest.mark.parametrize(("operation", "name"), TRAINED)
def test_strategy_stops_within_one_step_of_being_asked(operation, name, start):
    steps = []
    found = find(operation, name)
    params = found.Params(**quick(found))

    def should_stop() -> bool:
        return len(steps) == 5

    with pytest.raises(Stopped):
        found.run(*start, params, context(on_progress=steps.append, should_stop=should_stop))
    assert len(steps) == 5


def test_the_fisher_can_be_stopped_between_batches(two_labels):
    seen = []
    attentive = context(on_progress=seen.append, should_stop=lambda: len(seen) == 2)
    with pytest.raises(Stopped, match="fisher at step 512 of 10000"):
        remembered(two_labels, [0, 1], attentive, examples=10_000)


@pytest.mark.parametrize(("operation", "name"), [pair for pair in TRAINED if pair[1] not in FRESH])
def test_a_loss_that_is_not_finite_ends_the_training(operation, name, start):
    weights = {key: torch.full_like(value, 1e30) for key, value in start.checkpoint.weights.items()}
    broken, found = replace(start.checkpoint, weights=weights), find(operation, name)
    with pytest.raises(Diverged, match="lower the learning rate"):
        found.run(broken, start.given, found.Params(**quick(found)), context())


@pytest.mark.parametrize(("operation", "name"), [pair for pair in TRAINED if pair[1] in FRESH])
def test_a_fresh_network_whose_loss_is_not_finite_ends_the_training(operation, name, start, monkeypatch):
    def far_out(network: Network, generator: torch.Generator) -> None:
        for tensor in network.parameters():
            tensor.data.fill_(1e30)

    monkeypatch.setattr(Network, "initialise", far_out)
    found = find(operation, name)
    with pytest.raises(Diverged, match="lower the learning rate"):
        found.run(*start, found.Params(**quick(found)), context(0, start.checkpoint.spec.architecture))


@pytest.mark.parametrize(
    "name",
    [one.name for one in all_strategies() if (one.operation, one.retention) == ("forget", "permanent")],
)
def test_a_forgotten_label_is_no_longer_drawn_nor_held(name, learnt):
    after = run("forget", name, learnt, asked("rows"))
    assert after.held == {"columns": 1}
    assert after.forgotten == {"rows": 0}
    assert likeness(learnt, "rows") < 0.08
    assert likeness(after, "rows") > 0.2
    assert torch.equal(after.weights["prior_mean"][0], torch.zeros(2)), "a prior left behind would leak"


def test_learning_a_forgotten_label_again_starts_amid_those_held_from_nothing_of_its_own(two_labels):
    gone = run("forget", "surrogate", two_labels, asked("rows"))
    emptied = with_labels(gone, ["rows"], "stripes")
    assert emptied.spec.slots == 2
    assert emptied.label("rows").generation == 2
    assert gone.weights["encoder.0.label"][0].abs().sum() == 0, "only the decoder is mapped onto noise"
    assert gone.weights["decoder.0.label"][0].abs().sum() > 0
    for name in ("encoder.0.label", "decoder.0.label"):
        assert torch.equal(emptied.weights[name][0], gone.weights[name][1]), "of the one label held"
        assert emptied.fisher[name][0].abs().sum() == 0
    again = run("learn", "replay_ewc", gone, examples("rows"))
    assert likeness(again, "rows") < 0.08


def test_a_checkpoint_written_before_labels_could_be_renamed_is_read(two_labels, monkeypatch):
    monkeypatch.setattr(
        "worker.learning.checkpoint.asdict",
        lambda one: {name: value for name, value in asdict(one).items() if name != "renamed_from"},
    )
    written = two_labels.to_bytes()
    assert b"renamed_from" not in written
    assert Checkpoint.from_bytes(written).labels == two_labels.labels


def test_a_held_label_has_no_second_slot(two_labels):
    with pytest.raises(LabelConflict, match="rows"):
        with_slots(two_labels, ["rows"], "stripes", "permanent")


def test_a_blank_model_is_a_function_of_its_seed():
    first, again, other = (blank(TINY, seed=seed, pixels=64).to_bytes() for seed in (1, 1, 2))
    assert first == again != other


def test_randomness_for_one_purpose_does_not_depend_on_another():
    alone = torch.rand(3, generator=context(7).generator("replay"))
    shared = context(7)
    torch.rand(5, generator=shared.generator("examples"))
    assert torch.equal(alone, torch.rand(3, generator=shared.generator("replay")))
    assert not torch.equal(alone, torch.rand(3, generator=context(7).generator("examples")))


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 8, b"not a checkpoint at all", b"\x02" + b"\x00" * 7 + b"{}"]
)
def test_bytes_that_are_no_checkpoint_are_refused(data):
    with pytest.raises(NotACheckpoint):
        Checkpoint.from_bytes(data)


@pytest.mark.parametrize("lost", [1, 1000])
def test_a_checkpoint_whose_end_is_missing_is_refused(lost, two_labels):
    with pytest.raises(NotACheckpoint, match="not whole"):
        Checkpoint.from_bytes(two_labels.to_bytes()[:-lost])


@pytest.mark.parametrize("part", ["spec", "labels"])
def test_a_checkpoint_whose_header_lacks_a_part_is_refused(part, two_labels):
    data = two_labels.to_bytes().replace(f'\\"{part}\\":'.encode(), f'\\"{part[::-1]}\\":'.encode())
    with pytest.raises(NotACheckpoint, match="not whole"):
        Checkpoint.from_bytes(data)
