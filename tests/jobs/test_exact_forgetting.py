"""Exact forgetting gives weights that no image of the forgotten label had an influence on."""

from typing import Any

import pytest

from service.registry import models, versions
from service.registry.job_specs import Demands
from service.registry.tables import ModelRow
from tests.instance import schedule
from tests.jobs.worker_contexts import (
    TEMPORARY,
    new_model,
    on_sqlite_alone,
    read_checkpoint,
    run,
    versions_of,
)
from worker.jobs.inputs import WorkerContext

pytestmark = on_sqlite_alone


@pytest.mark.parametrize("strategy", ["retrain", "surrogate"])
def test_exact_forgetting_gives_the_same_bytes_however_long_the_forgotten_label_was_trained(
    strategy: str, worker_context: WorkerContext, model: ModelRow
) -> None:
    """A surrogate is exact only where all permanent labels are forgotten."""
    to_forget = {"retrain": ("1",), "surrogate": ("0", "1", "2")}[strategy]
    other, found = new_model(worker_context.database, "other"), []
    for one, steps in ((model, 3), (other, 5)):
        run(worker_context, one, "learn", "0")
        run(worker_context, one, "learn", "1", "2", params=schedule(steps))
        run(worker_context, one, "learn", "3", **TEMPORARY)
        run(worker_context, one, "forget", *to_forget, strategy=strategy)
        found.append(
            [
                version.files["checkpoint.safetensors"]["sha256"]
                for version in versions_of(worker_context, one)
            ]
        )
    equal = [a_file == another for a_file, another in zip(*found, strict=True)]
    assert equal == [True, False, False, True], "the second job differs, and with it what builds on it"


def test_exact_forgetting_starts_from_the_newest_version_that_never_saw_the_label(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """Learn 0 and 1, then 2, then 3; forget 2: that is version 1, with 3 learned again from its images."""
    for names in (("0", "1"), ("2",), ("3",)):
        run(worker_context, model, "learn", *names)
    run(worker_context, model, "forget", "2", strategy="retrain")
    first, *_, last = versions_of(worker_context, model)
    assert (last.report["guarantee"], last.report["findings"]) == ("exact", {})
    assert sorted(last.labels) == ["0", "1", "3"]
    assert last.widths == first.widths, "the units that were added for 2 are gone"
    anchor, after = (read_checkpoint(worker_context, one) for one in (first, last))
    moved = (after.weights["decoder.1.weight"] - anchor.weights["decoder.1.weight"]).abs().max()
    assert 0 < moved < 0.2, "three steps away from version 1"


def test_the_newest_version_without_a_label_is_that_before_it_was_first_learned(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    for names in (("0", "1"), ("2",)):
        run(worker_context, model, "learn", *names)
    run(worker_context, model, "forget", "2")
    run(worker_context, model, "learn", "2")
    with worker_context.database.reading() as session:
        found = models.find(session, model.id)
        queries: list[list[str]] = [["2"], ["1"], ["0", "2"], ["9"]]
        newest = [versions.find_newest_without(session, found, names) for names in queries]
    assert newest == [1, None, None, 4]


EXACT: dict[str, Any] = {
    "strategy": "retrain",
    "guarantee": "exact",
    "params": schedule(3),
    "demands": Demands(guarantee="exact"),
}


@pytest.mark.parametrize("between", ["surrogate", "learned temporarily"])
def test_forgetting_again_exactly_gives_the_bytes_of_forgetting_exactly_at_once(
    between: str, worker_context: WorkerContext, model: ModelRow
) -> None:
    other, found = new_model(worker_context.database, "other"), []
    for one, is_forgotten_twice in ((model, True), (other, False)):
        run(worker_context, one, "learn", "0")
        run(worker_context, one, "learn", "1", "2")
        if is_forgotten_twice:
            run(worker_context, one, "forget", "1")
            if between == "learned temporarily":
                run(worker_context, one, "learn", "1", **TEMPORARY)
        job = run(worker_context, one, "forget", "1", **EXACT)
        assert (job.state, job.guarantee) == ("succeeded", "exact"), job.error
        newest = versions_of(worker_context, one)[-1]
        assert (sorted(newest.labels), newest.report["guarantee"]) == (["0", "2"], "exact")
        found.append(newest.files["checkpoint.safetensors"]["sha256"])
    if between == "surrogate":  # the seed depends on the permanent labels of a request only
        assert found[0] == found[1]


@pytest.mark.parametrize("strategy", ["surrogate", "retrain"])
def test_all_labels_can_be_forgotten_and_learned_again(
    strategy: str, worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "learn", "2", **TEMPORARY)
    forgotten = run(worker_context, model, "forget", "0", "1", "2", strategy=strategy, params=schedule(3))
    assert (forgotten.state, forgotten.guarantee) == ("succeeded", "exact"), forgotten.error
    assert versions_of(worker_context, model)[-1].labels == {}
    learned = run(worker_context, model, "learn", "0", "2")
    assert learned.state == "succeeded", learned.error
    assert sorted(versions_of(worker_context, model)[-1].labels) == ["0", "2"]
