"""A database and an artifact store that do not belong together are noticed before anything changes."""

from pathlib import Path

import pytest

from migrations import upgrade
from service.registry import database_file, store_identity
from service.registry.artifacts import Artifacts, FolderArtifacts, name_of
from service.registry.database import Database
from service.registry.errors import StoreUnusable
from service.registry.tables import FactRow
from service.urls import sqlite_url
from tests.registries import FILES, Registry


@pytest.fixture
def in_folder(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts")


def store_files(artifacts: Artifacts) -> None:
    """Store a file of each name that the versions of the registry have."""
    for file in FILES.values():
        artifacts.store.write(name_of(str(file["sha256"])), b"x")


def test_the_first_start_gives_both_the_same_id_and_a_later_one_keeps_it(
    database: Database, artifacts: Artifacts
) -> None:
    store_identity.claim_store(database, artifacts)
    first = store_identity.read_marker(artifacts)
    store_identity.claim_store(database, artifacts)
    assert first is not None
    assert store_identity.read_marker(artifacts) == first
    store_identity.check_store(database, artifacts)
    with database.reading() as session:
        assert store_identity.is_claimed(session, artifacts)


def test_the_store_of_another_database_is_refused(
    registry: Registry, artifacts: Artifacts, tmp_path: Path
) -> None:
    other = Database(sqlite_url(tmp_path / "other.db"))
    upgrade(other)
    other_artifacts = FolderArtifacts(tmp_path / "others")
    store_identity.claim_store(other, other_artifacts)
    store_identity.claim_store(registry.database, artifacts)
    for check in (store_identity.claim_store, store_identity.check_store):
        with pytest.raises(StoreUnusable):
            check(registry.database, other_artifacts)
    store_identity.adopt_store(registry.database, other_artifacts)
    store_identity.claim_store(registry.database, other_artifacts)


@pytest.mark.parametrize("claimed", [False, True], ids=["of an earlier release", "with a lost id"])
def test_a_store_without_an_id_is_adopted_if_it_holds_the_files_of_the_heads(
    registry: Registry, artifacts: Artifacts, claimed: bool
) -> None:
    if claimed:
        store_identity.claim_store(registry.database, artifacts)
        artifacts.store.delete([store_identity.MARKER])
    registry.publish_job("learn", "1")
    with pytest.raises(StoreUnusable, match="2 files of the newest versions are not in it"):
        store_identity.claim_store(registry.database, artifacts)
    store_files(artifacts)
    store_identity.claim_store(registry.database, artifacts)
    store_identity.check_store(registry.database, artifacts)


@pytest.mark.parametrize("marked", [False, True])
def test_an_empty_database_beside_the_files_of_another_is_refused(
    database: Database, artifacts: Artifacts, marked: bool
) -> None:
    store_files(artifacts)
    if marked:
        artifacts.store.write(store_identity.MARKER, b"0123\n")
    with pytest.raises(StoreUnusable, match="the database is empty"):
        store_identity.claim_store(database, artifacts)
    with database.reading() as session:
        assert session.get(FactRow, store_identity.FACT) is None


def test_a_database_without_tables_beside_files_is_not_migrated(
    unmigrated_url: str, artifacts: Artifacts
) -> None:
    database = Database(unmigrated_url)
    store_identity.check_new_database(database, artifacts)
    store_files(artifacts)
    with pytest.raises(StoreUnusable, match="the database is empty"):
        store_identity.check_new_database(database, artifacts)
    database.dispose()


def test_a_worker_with_another_store_is_refused_and_one_before_the_first_start_is_not(
    database: Database, artifacts: Artifacts, tmp_path: Path
) -> None:
    elsewhere = FolderArtifacts(tmp_path / "elsewhere")
    store_identity.check_store(database, elsewhere)
    store_identity.claim_store(database, artifacts)
    with pytest.raises(StoreUnusable, match="is not the one that the API of this database uses"):
        store_identity.check_store(database, elsewhere)


def in_the_way(folder: Path) -> None:
    folder.write_text("in the way")


def to_nothing(folder: Path) -> None:
    folder.symlink_to(folder.parent / "not mounted")


@pytest.mark.parametrize("spoil", [in_the_way, to_nothing])
def test_a_folder_that_is_none_is_refused(
    database: Database, in_folder: FolderArtifacts, spoil: object
) -> None:
    assert callable(spoil)
    spoil(in_folder.folder)
    with pytest.raises(StoreUnusable, match="the artifact folder"):
        store_identity.claim_store(database, in_folder)


def damage(file: Path, kind: str) -> None:
    whole = file.read_bytes()
    file.write_bytes(
        {
            "garbage": b"not a database" * 100,
            "truncated": whole[: len(whole) // 2],
            "a few bytes": whole[:40],
            "a page of zeros": whole[:4096] + bytes(4096) + whole[8192:],
        }[kind]
    )


@pytest.mark.parametrize("kind", ["garbage", "truncated", "a few bytes", "a page of zeros"])
def test_a_damaged_file_is_refused_and_not_changed(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "palimpsest.db"
    database = Database(sqlite_url(file))
    upgrade(database)
    database.dispose()
    database_file.check_database_file(sqlite_url(file))
    damage(file, kind)
    damaged = file.read_bytes()
    with pytest.raises(StoreUnusable, match="restore it from a backup"):
        database_file.check_database_file(sqlite_url(file))
    assert file.read_bytes() == damaged


def test_a_new_and_an_empty_file_are_accepted_and_a_folder_is_not(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "palimpsest.db")
    database_file.check_database_file(url)
    (tmp_path / "palimpsest.db").touch()
    database_file.check_database_file(url)
    with pytest.raises(StoreUnusable, match="is not a file"):
        database_file.check_database_file(sqlite_url(tmp_path))


def test_the_database_of_another_program_is_refused(unmigrated_url: str) -> None:
    database = Database(unmigrated_url)
    database_file.check_owner(database)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE models (id integer)")
    with pytest.raises(StoreUnusable, match="another program's"):
        database_file.check_owner(database)
    database.dispose()
