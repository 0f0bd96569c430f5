"""A short run of random faults on each backing. `python -m tests.chaos` makes longer ones, of any seed."""

import subprocess
import sys
from itertools import pairwise

import pytest

from tests.chaos.schedule import BACKINGS, make_schedule
from tests.chaos.stage import FAULTS


@pytest.mark.parametrize("backing", sorted(BACKINGS))
def test_random_faults_under_load_break_no_rule(backing: str) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seconds", "20", "--seed", "1", "--backing", backing]
    ended = subprocess.run([*command, "--verbose"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("backing", sorted(BACKINGS))
def test_the_seed_decides_the_faults(backing: str) -> None:
    faults = make_schedule(7, backing, 600)
    assert faults == make_schedule(7, backing, 600)
    assert faults != make_schedule(8, backing, 600)
    kinds = {kind for kinds in BACKINGS[backing].values() for kind in kinds}
    assert {fault.kind for fault in faults} == kinds
    assert all(earlier.at <= later.at < 600 for earlier, later in pairwise(faults))


def test_every_kind_of_fault_can_be_provoked() -> None:
    assert {kind for targets in BACKINGS.values() for kinds in targets.values() for kind in kinds} == set(
        FAULTS
    )
