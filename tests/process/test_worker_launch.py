"""The worker's command line and environment keep the working directory off its module path."""

import os
import site
import sys
from pathlib import Path

import pytest

from service.process.errors import CannotStart
from service.process.worker_launch import (
    check_worker_package,
    count_gpus,
    module_path,
    plan_workers,
    worker_command,
    worker_environment,
)
from service.settings import Settings
from service.worker_identity import PROJECT_ROOT


def test_the_command_line_leaves_the_working_directory_out() -> None:
    assert worker_command() == [sys.executable, "-P", "-m", "worker"]
    assert worker_command(7)[-2:] == ["--identity-fd", "7"]


@pytest.mark.parametrize(
    "inherited", ["", ":/libraries", "/libraries::", ".:/libraries", "lib:/libraries:../x"]
)
def test_entries_that_depend_on_the_working_directory_are_dropped(inherited: str) -> None:
    kept = ["/libraries"] if "/libraries" in inherited else []
    assert module_path(inherited).split(os.pathsep) == [str(PROJECT_ROOT), *kept]


def test_a_project_that_is_installed_needs_no_entry_before_the_standard_library() -> None:
    assert module_path("", root=Path(site.getsitepackages()[0]).resolve()) == ""


def test_another_package_with_the_name_of_the_worker_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_worker_package()
    (tmp_path / "worker.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "worker", raising=False)
    with pytest.raises(CannotStart, match=f"Python finds {tmp_path}/worker.py"):
        check_worker_package()


def test_the_worker_gets_the_settings_of_its_parent_and_the_rest_of_its_environment(tmp_path: Path) -> None:
    deployment = Settings(home=tmp_path, lease_seconds=3.5)
    environment = worker_environment(deployment, {"LANG": "C", "PALIMPSEST_LEASE_SECONDS": "9"})
    assert (environment["LANG"], environment["PALIMPSEST_LEASE_SECONDS"]) == ("C", "3.5")
    assert environment["PALIMPSEST_HOME"] == str(tmp_path)


@pytest.mark.parametrize(
    ("device", "gpus", "devices"),
    [
        ("auto", 0, ["auto"]),
        ("auto", 1, ["auto"]),
        ("auto", 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cpu", 3, ["cpu"]),
        ("cuda:1", 3, ["cuda:1"]),
    ],
)
def test_each_gpu_gets_a_worker_unless_a_device_is_named(
    tmp_path: Path, device: str, gpus: int, devices: list[str]
) -> None:
    planned = plan_workers(Settings(home=tmp_path, device=device, queues="default,gpu"), lambda: gpus)
    assert [one.device for one in planned] == devices
    assert {one.queues for one in planned} == {"default,gpu"}


@pytest.mark.parametrize(("port", "ports"), [(0, [0, 0]), (9100, [9100, 9101])])
def test_workers_of_one_machine_show_their_metrics_on_different_ports(
    tmp_path: Path, port: int, ports: list[int]
) -> None:
    planned = plan_workers(Settings(home=tmp_path, worker_metrics_port=port), lambda: 2)
    assert [one.worker_metrics_port for one in planned] == ports


@pytest.mark.parametrize(
    ("files", "count"), [([], 0), (["nvidiactl", "nvidia-uvm"], 0), (["nvidia0", "nvidiactl"], 1)]
)
def test_pytorch_is_not_asked_for_the_gpus_where_there_are_not_several(
    tmp_path: Path, files: list[str], count: int
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert count_gpus({}, tmp_path) == count


def test_pytorch_is_asked_which_of_several_gpus_it_may_use(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1"):
        (tmp_path / name).touch()
    fake = tmp_path / "torch"
    fake.mkdir()
    (fake / "__init__.py").write_text("class cuda:\n    device_count = staticmethod(lambda: 7)\n")
    assert count_gpus({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path) == 7
    (fake / "__init__.py").write_text("raise ImportError('no driver')\n")
    with pytest.raises(CannotStart, match=r"no driver.*--device cuda:0"):
        count_gpus({**os.environ, "PYTHONPATH": str(tmp_path)}, tmp_path)
