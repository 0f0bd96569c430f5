"""The scrub finds missing and damaged artifacts, and notices when they are repaired."""

from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import update

from service.process.scrubber import Scrubber
from service.registry import scrub
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database, from_now
from service.registry.scrub import ScrubState
from service.registry.tables import ArtifactFaultRow, DatasetRow, FactRow
from service.settings import Settings


@pytest.fixture
def deployment(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, scrub_bytes_per_second=1 << 40)


@pytest.fixture
def stored(database: Database, deployment: Settings) -> list[Path]:
    """The files of three artifacts that rows refer to, in the order in which they are checked."""
    artifacts = FolderArtifacts(deployment.artifacts)
    names = sorted(artifacts.put(f"the images of dataset {number}".encode()) for number in range(3))
    with database.transaction() as session:
        session.add_all(DatasetRow(name=name[:8], images={"a": 1}, sha256=name) for name in names)
    return [artifacts.path(name) for name in names]


def faults(database: Database) -> dict[str, str]:
    with database.reading() as session:
        return {row.sha256: row.fault for row in session.query(ArtifactFaultRow)}


def test_a_pass_finds_every_kind_of_fault_and_the_next_check_notices_the_repair(
    database: Database, deployment: Settings, stored: list[Path]
) -> None:
    whole = [path.read_bytes() for path in stored]
    changed, missing, unreadable = stored
    changed.write_bytes(bytes([whole[0][0] ^ 1]) + whole[0][1:])
    missing.unlink()
    unreadable.unlink()
    unreadable.mkdir()
    scrubber = Scrubber(Event(), database, deployment)
    scrubber.run()
    assert faults(database) == {
        changed.name: "corrupt",
        missing.name: "missing",
        unreadable.name: "unreadable",
    }
    found = scrub.read_statistics(database)
    assert found.faults == {"missing": 1, "corrupt": 1, "unreadable": 1}
    assert found.state is not None
    assert (found.state.finished, found.state.checked, found.state.fraction) == (True, 3, 1.0)
    unreadable.rmdir()
    for path, content in zip(stored, whole, strict=True):
        path.write_bytes(content)
    scrubber.run()
    assert faults(database) == {}


def test_an_artifact_that_was_deleted_rightly_is_no_fault(
    database: Database, deployment: Settings, stored: list[Path]
) -> None:
    stored[0].unlink()
    scrubber = Scrubber(Event(), database, deployment)
    scrubber.run()
    assert faults(database) == {stored[0].name: "missing"}
    with database.transaction() as session:
        session.query(DatasetRow).filter_by(sha256=stored[0].name).delete()
    scrubber.run()
    assert faults(database) == {}


def test_a_pass_is_due_once_a_day_and_one_process_makes_it(database: Database) -> None:
    def is_due(owner: str) -> bool:
        with database.reading() as session:
            return scrub.is_due(session, owner=owner, hours=24)

    def save(*, finished: bool, age_hours: float = 0.0) -> None:
        with database.transaction() as session:
            scrub.save_state(session, ScrubState("here:1", 3, 1, 10, finished))
            session.flush()
            session.execute(update(FactRow).values(updated_at=from_now(-age_hours * 3600)))

    assert is_due("here:1")
    save(finished=False)
    assert (is_due("here:1"), is_due("here:2")) == (True, False)
    save(finished=False, age_hours=0.1)
    assert is_due("here:2"), "the other process has ended"
    save(finished=True)
    assert (is_due("here:1"), is_due("here:2")) == (False, False)
    save(finished=True, age_hours=25)
    assert is_due("here:1")
