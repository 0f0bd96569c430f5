"""A backup or a restore that cannot be done is refused before it changes anything."""

import fcntl
import os
from pathlib import Path

import pytest

from migrations import upgrade
from service.recovery.backup import CannotBackUp, back_up, read_manifest
from service.recovery.restore import restore
from service.settings import Settings
from tests.recovery.deployments import Deployment


def test_a_backup_of_another_kind_of_database_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    back_up(Deployment(Settings(home=tmp_path / "home", port=0)).settings, tmp_path / "backup")
    there = Settings(home=tmp_path / "there", port=0, database_url="postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(CannotBackUp, match="the backup is of SQLite"):
        restore(there, tmp_path / "backup", erasures=[], migrate=upgrade)
    assert not there.home.exists()


def test_two_backups_to_one_folder_do_not_delete_each_others_files(tmp_path: Path) -> None:
    original = Deployment(Settings(home=tmp_path / "home", port=0))
    running = tmp_path / ".unfinished-backup"
    running.mkdir()
    (running / "of the other").touch()
    descriptor = os.open(running, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as a backup that runs holds it
    with pytest.raises(CannotBackUp, match="is running"):
        back_up(original.settings, tmp_path / "backup")
    assert (running / "of the other").exists()
    os.close(descriptor)  # it was killed
    back_up(original.settings, tmp_path / "backup")
    assert not (tmp_path / "backup" / "of the other").exists()
    assert read_manifest(tmp_path / "backup").artifacts == 0
