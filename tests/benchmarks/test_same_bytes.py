"""What benchmarks/same_bytes.py requests and what it counts as a difference; no service is started."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.comparing import Record, compare
from benchmarks.recording import RENAMED_PARAMS, adapt_params, histories, without_header
from benchmarks.same_bytes import compare_all, table
from benchmarks.trees import TreeFailed, check_imports, console_script, package_names
from service.requests.catalog import read_catalog

ROOT = Path(__file__).resolve().parents[2]
FILES = {"checkpoint.safetensors": "c" * 64, "decoder.onnx": "d" * 64, "forgotten-3.png": "f" * 64}
REPORT = {"retained": {"accuracy": 0.5, "labels": {"0": {"n": 1000}}}, "verdict": "met", "pictures": None}


def record(**changed: Any) -> Record:
    usual: dict[str, Any] = {
        "files": FILES,
        "images": {"image of 0, seed 0": "a" * 64},
        "documents": {"report.json": REPORT},
    }
    return Record("learn 0", 1, **(usual | changed))


def without(name: str, **more: str) -> dict[str, str]:
    return {other: content for other, content in FILES.items() if other != name} | more


def test_a_record_is_the_same_as_itself() -> None:
    found = compare(record(), record())
    assert (found.same, found.compared, found.notes) == (True, 5, ())


@pytest.mark.parametrize("name", FILES)
def test_another_content_is_a_difference(name: str) -> None:
    assert compare(record(), record(files=FILES | {name: "0" * 64})).differences == (f"{name} differs",)


def test_another_image_is_a_difference() -> None:
    found = compare(record(), record(images={"image of 0, seed 0": "0" * 64}))
    assert found.differences == ("image of 0, seed 0 differs",)


def test_a_missing_file_is_a_difference_and_a_new_one_is_noted() -> None:
    assert compare(record(), record(files=without("decoder.onnx"))).differences == ("decoder.onnx is gone",)
    found = compare(record(), record(files=FILES | {"more.png": "0" * 64}))
    assert (found.same, found.notes) == (True, ("more.png is new",))


def test_a_renamed_file_is_found_by_its_content() -> None:
    moved = without("forgotten-3.png", **{"gone-3.png": FILES["forgotten-3.png"]})
    found = compare(record(), record(files=moved))
    assert (found.same, found.notes) == (True, ("forgotten-3.png is now called gone-3.png",))


def test_a_checkpoint_that_differs_in_its_header_alone_is_said_to() -> None:
    name = "checkpoint.safetensors"
    found = compare(record(tensors={name: "t"}), record(files=FILES | {name: "0" * 64}, tensors={name: "t"}))
    assert found.differences == (f"{name} differs in its header only, the tensors are the same",)


def test_the_header_of_a_checkpoint_is_left_out() -> None:
    header = json.dumps({"w": {"dtype": "U8"}}).encode()
    assert without_header(len(header).to_bytes(8, "little") + header + b"weights") == b"weights"


def changed_report(*path: str, to: Any) -> Record:
    report = json.loads(json.dumps(REPORT))
    place = report
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return record(documents={"report.json": report})


@pytest.mark.parametrize("to", [0.50000001, None, True])
def test_another_figure_is_a_difference(to: object) -> None:
    found = compare(record(), changed_report("retained", "accuracy", to=to))
    assert found.differences == (f"report.json: retained.accuracy: 0.5, then {to!r}",)


def test_other_text_is_noted() -> None:
    found = compare(record(), changed_report("verdict", to="passed"))
    assert (found.same, found.notes) == (True, ("report.json: verdict: 'met', then 'passed'",))


def test_other_pixels_in_a_report_are_a_difference() -> None:
    pixels = changed_report("pictures", to="AAAA" * 50)
    assert compare(pixels, changed_report("pictures", to="AAAB" * 50)).differences
    assert compare(pixels, pixels).same


def test_a_renamed_key_keeps_its_figure() -> None:
    renamed = {"kept": REPORT["retained"]} | {key: REPORT[key] for key in ("verdict", "pictures")}
    found = compare(record(), record(documents={"report.json": renamed}))
    assert found.same
    assert found.notes == ("report.json: keys only before: retained", "report.json: keys only after: kept")


def test_a_missing_figure_is_a_difference() -> None:
    less = {"retained": {"labels": {"0": {"n": 1000}}}}
    found = compare(record(), record(documents={"report.json": less}))
    assert found.differences == ("report.json: 1 figures are gone, of retained.accuracy",)


def test_hashes_and_ids_of_a_manifest_do_not_count() -> None:
    def manifest(code: str, model: str) -> Mapping[str, Any]:
        files = {"report.json": {"sha256": code, "bytes": len(model)}}
        return {"code": f"palimpsest, sha256:{code}", "model": {"id": model}, "seed": 7, "files": files}

    first = record(documents={"manifest.json": manifest("0" * 64, "mdl_" + "A" * 26)})
    assert compare(first, record(documents={"manifest.json": manifest("1" * 64, "mdl_" + "B" * 27)})).same
    other = {**manifest("0" * 64, "mdl_" + "A" * 26), "seed": 8}
    assert compare(first, record(documents={"manifest.json": other})).differences


def test_a_job_that_did_not_succeed_is_a_difference_even_in_both_trees() -> None:
    failed = Record("learn 0", problem="failed: no data")
    assert not compare(failed, failed).same


def test_jobs_of_one_tree_only() -> None:
    found, added = compare_all([record(), Record("old", 1)], [record(), Record("new", 1)])
    assert ([one.same for one in found], added) == ([True, False], ["new"])
    assert table(found, added).splitlines()[-1].startswith("same: 1 of 2 versions")


def test_every_strategy_is_requested_on_every_architecture_that_it_works_on() -> None:
    catalog = read_catalog().model_dump(mode="json")
    requested = list(histories(catalog, "digits", 300, quick=False))
    assert len({history.name for history in requested}) == len(requested)
    last = [(history.network.get("architecture"), history.jobs[-1].entry) for history in requested[1:]]
    done = sorted((architecture, entry["operation"], entry["name"]) for architecture, entry in last)
    architectures, strategies = catalog["architectures"], catalog["strategies"]
    assert done == sorted(
        (a["name"], s["operation"], s["name"])
        for a in architectures
        for s in strategies
        if s["architectures"] is None or a["name"] in s["architectures"]
    )


def test_params_are_sent_by_the_names_in_the_schema() -> None:
    [(old, new)] = RENAMED_PARAMS.items()
    wanted = {old: 3, "schedule": {"steps": 5}, "unknown": 1}
    for name in (old, new):
        schema: dict[str, Any] = {"properties": {name: {}, "schedule": {}, "share": {}}}
        assert adapt_params(wanted, schema) == {name: 3, "schedule": {"steps": 5}}


def test_the_command_is_the_console_script_of_the_tree(tmp_path: Path) -> None:
    find = '[tool.setuptools.packages.find]\nwhere = ["src"]\n'
    (tmp_path / "pyproject.toml").write_text(f'[project.scripts]\npalimpsest = "some.place:run"\n{find}')
    (tmp_path / "src" / "some").mkdir(parents=True)
    (tmp_path / "src" / "some" / "__init__.py").touch()
    assert console_script(tmp_path) == ("some.place", "run")
    assert package_names(tmp_path) == {"some"}
    module, _ = console_script(ROOT)
    assert module.partition(".")[0] in package_names(ROOT)


def test_an_import_from_outside_the_tree_is_an_error(tmp_path: Path) -> None:
    def process(number: int, **modules: str) -> None:
        (tmp_path / f"{number}.json").write_text(json.dumps(modules))

    tree, own = tmp_path / "tree", {"service", "worker"}
    process(1, service=str(tree / "service/app.py"), json="elsewhere/json.py")
    with pytest.raises(TreeFailed, match="only 1"):
        check_imports(tree, tmp_path, own)
    process(2, **{"worker.app": str(tree / "worker/app.py")})
    check_imports(tree, tmp_path, own)
    process(2, **{"worker.app": str(tmp_path / "installed/worker/app.py")})
    with pytest.raises(TreeFailed, match="outside"):
        check_imports(tree, tmp_path, own)
