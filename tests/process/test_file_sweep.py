"""A sweep of files goes on past what fails, and says what did."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.process.file_sweep import sweep_files
from service.registry import purging, snapshots
from service.registry.tables import PurgeRow, ReceiptRow
from service.settings import Settings
from tests.api.serving import Served, serving


@pytest.fixture
def served(tmp_path: Path) -> Any:
    with serving(Settings(home=tmp_path)) as served:
        yield served


def states(served: Served) -> dict[str, str]:
    with served.worker.database.reading() as session:
        return {row.job_id: row.state for row in session.scalars(select(PurgeRow))}


def test_an_item_or_a_step_that_fails_stops_no_other(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if it fails with an error that nobody expected: the receipts of all projects come after it."""
    forgot = []
    for model in ("m", "n"):
        served.model(model)
        served.done(model, "learn", labels=["1", "2"])
        forgot.append(served.done(model, "forget", labels=["2"], purge=True).job_id)
    broken, fine = forgot
    original = purging.delete_files

    def fail(session: Any, job_id: str, artifacts: Any) -> bool:
        if job_id == broken:
            raise ValueError("a row that nobody understands")
        return original(session, job_id, artifacts)

    def fail_always(session: Any) -> list[str]:
        raise KeyError("unexpected")

    with monkeypatch.context() as patch:
        patch.setattr(purging, "delete_files", fail)
        patch.setattr(snapshots, "find_obsolete", fail_always)
        sweep_files(served.worker.database, served.settings)
    assert states(served) == {broken: "pending", fine: "done"}
    with served.worker.database.reading() as session:
        signed = select(ReceiptRow.job_id).where(ReceiptRow.envelope.is_not(None))
        assert session.scalars(signed).all() == [fine]
    assert f"job {broken}: delete the files that it purges: failed" in caplog.text
    assert "find snapshots of jobs that have ended: failed" in caplog.text
    sweep_files(served.worker.database, served.settings)
    assert states(served) == {broken: "done", fine: "done"}
