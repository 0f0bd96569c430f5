"""Garbage is deleted once it is old, and nothing else is."""

import os
import time
from pathlib import Path

from service.process import collector
from service.process.collector import Collected
from service.registry import store_identity
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.tables import DatasetRow
from service.settings import Settings

TWO_HOURS, TWO_DAYS = 7200, 172_800


def make(path: Path, age_seconds: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345678")
    return grow_old(path, age_seconds)


def grow_old(path: Path, seconds: float) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_old_garbage_of_every_kind_is_deleted_and_measured(database: Database, tmp_path: Path) -> None:
    deployment = Settings(home=tmp_path)
    artifacts = FolderArtifacts(deployment.artifacts)
    store_identity.claim_store(database, artifacts)
    needed, orphan = artifacts.put(b"needed"), artifacts.put(b"orphan")
    with database.transaction() as session:
        session.add(DatasetRow(name="doodles", images={"a": 1}, sha256=needed))
    interrupted = make(artifacts.path(orphan).with_name(".unfinished-1"), TWO_HOURS)
    kept = [
        grow_old(artifacts.path(needed), TWO_HOURS),
        artifacts.path(artifacts.put(b"a job stores its files before it publishes")),
        artifacts.folder / store_identity.MARKER,
        make(tmp_path / "queue" / "1-a.palimpsest.msg", TWO_HOURS),
        make(tmp_path / "queue" / ".unfinished-2"),
        make(tmp_path / "keys" / "signing.pem", TWO_DAYS),
        make(tmp_path / "datasets" / "MNIST" / "raw", TWO_DAYS),
    ]
    garbage = [
        grow_old(artifacts.path(orphan), TWO_HOURS),
        interrupted,
        make(tmp_path / "queue" / "0-a.palimpsest.msg", TWO_DAYS),
        make(tmp_path / "queue" / ".unfinished-3", TWO_HOURS),
        make(tmp_path / "keys" / ".unfinished-4", TWO_HOURS),
    ]
    folder = grow_old(make(tmp_path / "judges" / ".unfinished-5" / "judge.safetensors").parent, TWO_HOURS)
    collected = collector.collect(database, deployment)
    assert (collected.artifacts, collected.temporary, collected.messages) == (2, 3, 1)
    assert collected.bytes >= 38
    assert [path for path in (*garbage, folder) if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []
    assert collector.collect(database, deployment) == Collected()


def test_artifacts_in_a_folder_that_is_not_the_databases_are_left(database: Database, tmp_path: Path) -> None:
    deployment = Settings(home=tmp_path)
    artifacts = FolderArtifacts(deployment.artifacts)
    orphan = grow_old(artifacts.path(artifacts.put(b"of another database")), TWO_HOURS)
    assert collector.collect(database, deployment) == Collected()
    assert orphan.exists()
