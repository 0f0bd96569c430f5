"""Laws that hold for every strategy, on tiny data."""

import inspect
import json
from dataclasses import asdict, replace

import pytest
import safetensors.torch
import torch

from service.requests.catalog import read_catalog
from tests.learning.tiny import (
    GIVEN,
    OF_TEMPORARY,
    TINY,
    Start,
    brief,
    context,
    examples,
    labels,
    quick,
    run,
    skip_refused,
    stripes,
)
from worker.learning.checkpoint import Checkpoint, NotACheckpoint
from worker.learning.consolidation import with_fisher_over
from worker.learning.drawing import draw
from worker.learning.mixtures import empty_priors
from worker.learning.networks import blank
from worker.learning.networks.network import Network
from worker.learning.slots import LabelConflict, with_new_labels, with_slots
from worker.learning.strategy import Diverged, Progress, Stopped, all_strategies, find

EVERY = [(one.operation, one.name) for one in all_strategies()]
TRAINED = [pair for pair in EVERY if "schedule" in find(*pair).Params.model_fields]
FROM_SCRATCH = {"retrain", "isolated"}  # start from weights of their own, whatever the checkpoint's are
ISOLATED = {"isolated", "drop"}  # leave the main network as it is
MAY_CHANGE_NOTHING = {"search"}  # which may find no better network than the one that there is
every_strategy = pytest.mark.parametrize(("operation", "name"), EVERY)


@pytest.fixture
def made(operation: str, name: str, start: Start) -> Checkpoint:
    """The strategy's result, made once for all laws that only read it."""
    key = (operation, name, start.checkpoint.spec.architecture)
    if key not in _made:
        _made[key] = run(operation, name, *start)
    return _made[key]


_made: dict[tuple[str, str, str], Checkpoint] = {}


def files(checkpoint: Checkpoint) -> list[bytes]:
    return [one.to_bytes() for one in (checkpoint, *checkpoint.isolated)]


def likeness(checkpoint: Checkpoint, label: str) -> float:
    """How far a label's mean draw is from its mean picture: mean absolute difference, in [0, 1]."""
    picture = stripes(label).float().mean(dim=0) / 255
    return (draw(checkpoint, label, 200, seed=1).mean(dim=0) - picture).abs().mean().item()


def test_every_operation_has_one_default_strategy() -> None:
    defaults = [(one.operation, one.retention) for one in all_strategies() if one.default and not one.policy]
    assert sorted(defaults) == [
        (operation, retention)
        for operation in ("forget", "learn")
        for retention in ("permanent", "temporary")
    ]
    policies = [one.policy or "" for one in all_strategies() if one.operation == "resize" and one.default]
    assert sorted(policies) == ["expand", "prune"]


@pytest.mark.parametrize(("operation", "name"), TRAINED)
def test_a_schedule_sent_in_part_is_completed_with_the_strategys_defaults(operation: str, name: str) -> None:
    found, sent = find(operation, name), {"schedule": {"steps": 7}}
    params = found.Params
    defaults = params().model_dump()["schedule"]
    assert params.model_validate(sent).model_dump()["schedule"] == defaults | {"steps": 7}
    completed = params.model_validate(sent).model_dump(mode="json")
    entry = read_catalog().strategy(found.operation, name, retention=found.retention)
    assert entry.complete(sent) == completed


@every_strategy
def test_a_strategy_states_its_own_defaults(operation: str, name: str) -> None:
    """A default inherited from params that strategies share would change all of them at once."""
    found = find(operation, name)
    assert found.Params.__module__ == inspect.getmodule(found.run).__name__  # type: ignore[union-attr]
    assert set(inspect.get_annotations(found.Params)) == set(found.Params.model_fields)


@every_strategy
def test_a_strategy_leaves_its_checkpoint_untouched(operation: str, name: str, start: Start) -> None:
    before = files(start.checkpoint)
    after = run(operation, name, *start, **brief(find(operation, name)))
    assert files(start.checkpoint) == before
    assert files(after) != before or name in MAY_CHANGE_NOTHING


@every_strategy
def test_same_seed_gives_the_same_bytes_and_another_seed_others(
    operation: str, name: str, start: Start
) -> None:
    first, again, other = (
        files(run(operation, name, *start, seed=seed, **brief(find(operation, name)))) for seed in (1, 1, 2)
    )
    assert first == again
    assert (again != other) is (name != "drop") or name in MAY_CHANGE_NOTHING, "dropping is not random"


@every_strategy
def test_the_networks_that_a_request_is_not_about_keep_their_bytes(
    operation: str, name: str, learnt: Checkpoint, learnt_with_frame: Checkpoint
) -> None:
    skip_refused(operation, name, learnt)
    isolated = learnt_with_frame.temporary["frame"].to_bytes()
    given = examples("blot") if operation == "learn" else GIVEN[operation]
    if name not in OF_TEMPORARY:
        after = run(operation, name, learnt_with_frame, given, **brief(find(operation, name)))
        assert after.temporary["frame"].to_bytes() == isolated
    if name in ISOLATED:
        given = given if operation == "learn" else labels("frame")
        after = run(operation, name, learnt_with_frame, given, **brief(find(operation, name)))
        assert after.to_bytes() == learnt.to_bytes()


@every_strategy
def test_a_checkpoint_is_read_from_its_bytes_as_it_was_written(
    operation: str, name: str, made: Checkpoint
) -> None:
    read = Checkpoint.from_bytes(made.to_bytes())
    assert (read.spec, read.labels) == (made.spec, made.labels)
    assert read.to_bytes() == made.to_bytes()
    assert torch.equal(draw(read, "columns", 5, seed=0), draw(made, "columns", 5, seed=0))


@every_strategy
def test_what_is_retained_can_still_be_drawn(
    operation: str, name: str, start: Start, made: Checkpoint
) -> None:
    known = {*made.retained, *made.temporary}
    for label in known if name != "finetune" else start.given.labels:  # which forgets the others
        assert likeness(made, label) < 0.08, label


@every_strategy
def test_a_result_has_no_fisher_information_that_nothing_would_read(
    operation: str, name: str, made: Checkpoint
) -> None:
    assert made.fisher is None


@pytest.mark.parametrize(("operation", "name"), TRAINED)
def test_a_strategy_stops_within_one_step_of_the_request(operation: str, name: str, start: Start) -> None:
    steps: list[Progress] = []
    found = find(operation, name)
    params = found.Params.model_validate(quick(found))

    def should_stop() -> bool:
        return len(steps) == 5

    worker = context(on_progress=steps.append, should_stop=should_stop)
    with pytest.raises(Stopped):
        found.run(start.checkpoint, start.given, params, worker)
    assert len(steps) == 5


def test_computing_the_fisher_can_be_stopped_between_batches(two_labels: Checkpoint) -> None:
    seen: list[Progress] = []
    stopping = context(on_progress=seen.append, should_stop=lambda: len(seen) == 2)
    with pytest.raises(Stopped, match="Fisher information, at step 512 of 10000"):
        with_fisher_over(two_labels, [0, 1], stopping, examples=10_000)


@pytest.mark.parametrize(("operation", "name"), [pair for pair in TRAINED if pair[1] not in FROM_SCRATCH])
def test_a_loss_that_is_not_finite_ends_the_training(operation: str, name: str, start: Start) -> None:
    weights = {key: torch.full_like(value, 1e30) for key, value in start.checkpoint.weights.items()}
    broken, found = replace(start.checkpoint, weights=weights), find(operation, name)
    with pytest.raises(Diverged, match="lower the learning rate"):
        found.run(broken, start.given, found.Params.model_validate(quick(found)), context())


@pytest.mark.parametrize(("operation", "name"), [pair for pair in TRAINED if pair[1] in FROM_SCRATCH])
def test_a_fresh_network_whose_loss_is_not_finite_ends_the_training(
    operation: str, name: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def far_out(network: Network, generator: torch.Generator) -> None:
        for tensor in network.parameters():
            tensor.data.fill_(1e30)

    monkeypatch.setattr(Network, "initialise", far_out)
    found = find(operation, name)
    params = found.Params.model_validate(quick(found))
    with pytest.raises(Diverged, match="lower the learning rate"):
        found.run(start.checkpoint, start.given, params, context(0, start.checkpoint.spec.architecture))


@pytest.mark.parametrize(
    "name",
    [one.name for one in all_strategies() if (one.operation, one.retention) == ("forget", "permanent")],
)
def test_a_forgotten_label_is_neither_drawn_nor_retained(name: str, learnt: Checkpoint) -> None:
    skip_refused("forget", name, learnt)
    after = run("forget", name, learnt, labels("rows"))
    assert after.retained == {"columns": 1}
    assert after.forgotten == {"rows": 0}
    assert likeness(learnt, "rows") < 0.08
    assert likeness(after, "rows") > 0.2
    for prior, empty in empty_priors([0], after.spec.latent, after.spec.components).items():
        assert torch.equal(after.weights[prior][0], empty[0]), "a prior left behind would leak"


def test_a_forgotten_label_is_learnt_again_from_the_mean_of_the_retained_ones_and_nothing_of_its_own(
    two_labels: Checkpoint,
) -> None:
    forgot = run("forget", "surrogate", two_labels, labels("rows"))
    emptied = with_new_labels(forgot, ["rows"], "stripes")
    assert emptied.spec.slots == 2
    assert emptied.label("rows").generation == 2
    assert forgot.weights["encoder.0.label"][0].abs().sum() == 0, "only the decoder is mapped onto noise"
    assert forgot.weights["decoder.0.label"][0].abs().sum() > 0
    for name in ("encoder.0.label", "decoder.0.label"):
        assert torch.equal(emptied.weights[name][0], forgot.weights[name][1]), "of the one retained label"
    again = run("learn", "replay_ewc", forgot, examples("rows"))
    assert likeness(again, "rows") < 0.08


def test_a_checkpoint_written_before_labels_could_be_renamed_is_read(
    two_labels: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "worker.learning.checkpoint.asdict",
        lambda one: {name: value for name, value in asdict(one).items() if name != "renamed_from"},
    )
    written = two_labels.to_bytes()
    assert b"renamed_from" not in written
    assert Checkpoint.from_bytes(written).labels == two_labels.labels


def test_a_learnt_label_gets_no_second_slot(two_labels: Checkpoint) -> None:
    with pytest.raises(LabelConflict, match="rows"):
        with_slots(two_labels, ["rows"], "stripes", "permanent")


def test_a_blank_model_is_a_function_of_its_seed() -> None:
    first, again, other = (blank(TINY, seed=seed, pixels=64).to_bytes() for seed in (1, 1, 2))
    assert first == again != other


def test_randomness_for_one_purpose_does_not_depend_on_another() -> None:
    first = torch.rand(3, generator=context(7).generator("replay"))
    shared = context(7)
    torch.rand(5, generator=shared.generator("examples"))
    assert torch.equal(first, torch.rand(3, generator=shared.generator("replay")))
    assert not torch.equal(first, torch.rand(3, generator=context(7).generator("examples")))


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 8, b"not a checkpoint at all", b"\x02" + b"\x00" * 7 + b"{}"]
)
def test_bytes_that_are_no_checkpoint_are_refused(data: bytes) -> None:
    with pytest.raises(NotACheckpoint):
        Checkpoint.from_bytes(data)


@pytest.mark.parametrize("lost", [1, 1000])
def test_a_checkpoint_without_its_end_is_refused(lost: int, two_labels: Checkpoint) -> None:
    with pytest.raises(NotACheckpoint, match="incomplete"):
        Checkpoint.from_bytes(two_labels.to_bytes()[:-lost])


@pytest.mark.parametrize("part", ["spec", "labels"])
def test_a_checkpoint_whose_header_lacks_a_part_is_refused(part: str, two_labels: Checkpoint) -> None:
    data = two_labels.to_bytes().replace(f'\\"{part}\\":'.encode(), f'\\"{part[::-1]}\\":'.encode())
    with pytest.raises(NotACheckpoint, match="incomplete"):
        Checkpoint.from_bytes(data)


def test_a_checkpoint_of_the_first_format_is_read_with_one_gaussian_for_each_label() -> None:
    start = blank({**TINY, "prior": "fitted"}, seed=0, pixels=64)
    now = run("learn", "retrain", start, examples("rows", "columns"))
    before = {f"weights/{name}": tensor for name, tensor in now.weights.items() if name != "prior_weight"}
    for name in ("weights/prior_mean", "weights/prior_scale"):
        before[name] = before[name][:, 0].contiguous()
    before |= {f"fisher/{name}": torch.ones(1) for name in ("encoder.0.weight", "decoder.0.weight")}
    spec = {name: value for name, value in asdict(now.spec).items() if name != "components"}
    header = {"format": 1, "spec": spec, "labels": [asdict(label) for label in now.labels]}
    written = safetensors.torch.save(before, metadata={"palimpsest": json.dumps(header)})
    assert Checkpoint.from_bytes(written).to_bytes() == now.to_bytes()
