"""Failpoints do nothing unless they are armed; each of them is somewhere in the code, and has a test."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from service import failpoints
from service.failpoints import InjectedFailure, UnknownFailpoint
from tests.instance import wait_for

ROOT = Path(__file__).resolve().parents[2]
USE = re.compile(r"\b(?:reach|is_armed|is_due)\(\"([a-z_.]+)\"\)")


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_nothing_fails_unless_it_is_armed() -> None:
    for name in failpoints.NAMES:
        failpoints.reach(name)
    failpoints.arm("publish.after_commit:raise")
    failpoints.reach("publish.after_rename")


def test_the_code_has_exactly_the_failpoints_that_have_a_name() -> None:
    packages = ("service", "worker", "migrations", "commands")
    found = {
        name
        for package in packages
        for file in (ROOT / package).rglob("*.py")
        for name in USE.findall(file.read_text())
    }
    assert found == failpoints.NAMES


def test_a_failpoint_counts_and_raises() -> None:
    failpoints.arm("artifact.write#3:enospc,file.sync:eio,publish.after_commit:raise")
    for _ in range(2):
        failpoints.reach("artifact.write")
    for name, number in (
        ("artifact.write", errno.ENOSPC),
        ("artifact.write", errno.ENOSPC),
        ("file.sync", errno.EIO),
    ):
        with pytest.raises(OSError, match=os.strerror(number)) as raised:
            failpoints.reach(name)
        assert raised.value.errno == number
    with pytest.raises(InjectedFailure):
        failpoints.reach("publish.after_commit")


def test_with_a_file_it_fails_once(tmp_path: Path) -> None:
    once = tmp_path / "once"
    failpoints.arm(f"train.nan:raise:{once}")
    assert not failpoints.is_due("train.nan")
    once.touch()
    assert failpoints.is_due("train.nan")
    assert not failpoints.is_due("train.nan")
    assert not once.exists()


def test_what_hangs_goes_on_when_the_file_is_there_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    failpoints.arm(f"publish.before_commit:hang:{gate}")
    thread = Thread(target=failpoints.reach, args=("publish.before_commit",))
    thread.start()
    wait_for("the thread has come there", lambda: not gate.exists())
    assert thread.is_alive()
    gate.touch()
    thread.join(10)
    assert not thread.is_alive()


def test_an_unknown_failpoint_is_refused() -> None:
    failpoints.arm("publish.somewhere")
    with pytest.raises(UnknownFailpoint, match=r"publish\.somewhere"):
        failpoints.warn_if_armed()


def test_a_process_exits_there_as_if_it_were_killed() -> None:
    code = "from service import failpoints; failpoints.reach('train.step')"
    environment = {**os.environ, failpoints.VARIABLE: "train.step"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT).returncode == 137


def test_a_process_with_failpoints_warns_at_its_start(caplog: pytest.LogCaptureFixture) -> None:
    failpoints.warn_if_armed()
    assert caplog.text == ""
    failpoints.arm("publish.after_commit")
    failpoints.warn_if_armed()
    assert "FAILS ON PURPOSE at publish.after_commit" in caplog.text
