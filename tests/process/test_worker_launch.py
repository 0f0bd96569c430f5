"""The worker's command line and environment keep the working directory off its module path."""

import os
import site
import sys
from pathlib import Path

import pytest

from service.process.errors import CannotStart
from service.process.worker_launch import (
    check_worker_package,
    module_path,
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
