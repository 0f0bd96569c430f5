"""Every column that holds the sha256 of an artifact is found, in new tables as well."""

from service.registry import artifact_references, reports
from service.registry.tables import ArtifactHash, DatasetRow, Digest, Row
from tests.registries import FILES, Registry
from tests.reports.made_up import full_report, quick_report


def test_every_column_that_looks_like_an_artifact_hash_is_marked_as_one() -> None:
    candidates = {
        column
        for table in Row.metadata.tables.values()
        for column in table.columns
        if "sha256" in column.name or getattr(column.type, "length", None) == 64
    }
    assert candidates
    assert {
        str(column) for column in candidates if not isinstance(column.type, ArtifactHash | Digest)
    } == set()


def test_files_of_versions_and_marked_columns_of_every_table_count_as_references(registry: Registry) -> None:
    registry.publish_job("learn", "1")
    claim = registry.claim(registry.submit("evaluate"))
    with registry.database.transaction() as session:
        measured = reports.MeasuredReport("full", "f" * 64, full_report(quick_report(["1"], {})))
        reports.record(session, claim, measured, {})
        session.add(DatasetRow(name="doodles", images={"a": 1}, sha256="a" * 64))
    with registry.database.reading() as session:
        expected = {"f" * 64, "a" * 64, *(str(file["sha256"]) for file in FILES.values())}
        assert artifact_references.find_referenced(session) == expected
