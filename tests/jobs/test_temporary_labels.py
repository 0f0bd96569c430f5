"""A temporary label comes and goes and leaves the main network as it is, or it becomes permanent."""

from service.registry import jobs, labels
from service.registry.database import Database
from service.registry.tables import ModelRow
from tests.jobs.worker_contexts import (
    TEMPORARY,
    error_code,
    new_model,
    on_sqlite_alone,
    read_checkpoint,
    run,
    submit,
    versions_of,
)
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext

pytestmark = on_sqlite_alone


def test_a_dropped_temporary_label_leaves_the_bytes_as_if_it_had_never_been(
    worker_context: WorkerContext, database: Database
) -> None:
    """CLPU's [R0, T1, F1, R2] against [R0, R2]: what each ends with, and what changed on the way."""
    ends = []
    for name, temporary in (("with", True), ("without", False)):
        model = new_model(database, name)
        run(worker_context, model, "learn", "0")
        if temporary:
            run(worker_context, model, "learn", "1", **TEMPORARY)
            run(worker_context, model, "forget", "1", strategy="drop", params={})
        run(worker_context, model, "learn", "2")
        ends.append(versions_of(worker_context, model))
    first, added, dropped, last = ends[0]
    assert (added.labels, dropped.labels) == ({"0": 0, "1": None}, {"0": 0})
    assert last.labels == ends[1][-1].labels == {"0": 0, "2": 1}
    for name in ("checkpoint.safetensors", "decoder.onnx"):
        assert first.files[name] == added.files[name] == dropped.files[name]
        assert last.files[name] == ends[1][-1].files[name]
    assert set(added.files) - set(dropped.files) == {
        "isolated-1-checkpoint.safetensors",
        "isolated-1-decoder.onnx",
    }
    assert (dropped.report["guarantee"], dropped.report["findings"]) == ("exact", {"dropped": ["1"]})
    assert dropped.report["forgotten"]["labels"] == {}, "no network is left that could draw it"
    assert (added.revoked_by, last.revoked_by) == (dropped.job_id, None)


def test_a_temporary_label_gets_the_same_network_whatever_other_labels_the_job_learns(
    worker_context: WorkerContext, database: Database
) -> None:
    ends = []
    for name, labels_to_learn in (("both", "12"), ("one", "2")):
        model = new_model(database, name)
        run(worker_context, model, "learn", *labels_to_learn, **TEMPORARY)
        if name == "both":
            run(worker_context, model, "forget", "1", strategy="drop", params={})
        ends.append(versions_of(worker_context, model)[-1].files)
    for file in ("isolated-2-checkpoint.safetensors", "isolated-2-decoder.onnx", "checkpoint.safetensors"):
        assert ends[0][file] == ends[1][file]


def test_a_temporary_label_with_the_name_of_a_forgotten_one_leaves_the_main_network_as_it_is(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """Its images have another name in their dataset than those of the forgotten label had."""
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "1")
    run(worker_context, model, "learn", "1", renamed={"1": "8"}, **TEMPORARY)
    _, before, after = versions_of(worker_context, model)
    assert after.files["checkpoint.safetensors"] == before.files["checkpoint.safetensors"]
    isolated = read_checkpoint(worker_context, after, "isolated-1-checkpoint.safetensors")
    assert isolated.label("1").source == "8"


def test_the_picture_of_a_forgotten_label_is_of_the_main_network_also_while_the_label_is_temporary(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0", "1")
    run(worker_context, model, "forget", "1")
    run(worker_context, model, "learn", "1", **TEMPORARY)
    _, forgotten, temporary = versions_of(worker_context, model)
    assert temporary.files["decoder.onnx"] == forgotten.files["decoder.onnx"]
    assert temporary.files["forgotten-1.png"] == forgotten.files["forgotten-1.png"]


def test_dropping_a_temporary_label_changes_no_random_number_of_forgetting_a_permanent_one(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    other, found = new_model(worker_context.database, "other"), []
    for one, names in ((model, ()), (other, ("1",))):
        run(worker_context, one, "learn", "0", "2")
        if names:
            run(worker_context, one, "learn", *names, **TEMPORARY)
        run(worker_context, one, "forget", "0", *names)
        found.append(versions_of(worker_context, one)[-1].files["checkpoint.safetensors"]["sha256"])
    assert found[0] == found[1]


def test_a_temporary_label_becomes_permanent_without_its_images(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0", **TEMPORARY)
    run(worker_context, model, "learn", "1")
    run(worker_context, model, "learn", "0", strategy="merge", dataset="elsewhere")
    first, _, last = versions_of(worker_context, model)
    assert first.labels == {"0": None}
    assert last.labels == {"1": 0, "0": 1}
    assert set(last.files) == {"checkpoint.safetensors", "decoder.onnx", "report.json", "manifest.json"}
    assert last.report["findings"] == {"promoted": ["0"]}
    with worker_context.database.reading() as session:
        row = labels.find_all(session, model.id)["0"]
    assert (row.status, row.dataset, row.generation) == ("permanent", "digits", 1)


def test_the_last_permanent_labels_are_forgotten_though_the_file_of_an_older_version_is_lost(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    """The network starts again with the widths of that version, which are in its row."""
    run(worker_context, model, "learn", "0", **TEMPORARY)
    run(worker_context, model, "learn", "1")
    run(worker_context, model, "learn", "2", "3")
    first, _, grown = versions_of(worker_context, model)
    assert grown.widths != first.widths
    worker_context.artifacts.delete(first.files["checkpoint.safetensors"]["sha256"])
    assert run(worker_context, model, "forget", "1", "2", "3").state == "succeeded"
    assert versions_of(worker_context, model)[-1].widths == first.widths


def test_a_merge_of_a_label_that_was_never_learned_fails_with_the_reason(
    worker_context: WorkerContext, model: ModelRow
) -> None:
    run(worker_context, model, "learn", "0")
    learning = submit(worker_context, model, "learn", "1", **TEMPORARY)
    merging = submit(worker_context, model, "learn", "1", strategy="merge")
    with worker_context.database.transaction() as session:
        jobs.cancel(session, learning)
    execute(merging, worker_context)
    assert error_code(worker_context, merging) == "label_conflict"
