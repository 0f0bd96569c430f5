"""A PostgreSQL database is lent to one test after another, each time as it was after the migrations."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import POSTGRESQL, new_postgresql_database
from tests.emptied_databases import EmptiedDatabases

PROJECTS = "SELECT id, name FROM projects"


@pytest.fixture
def databases() -> Iterator[EmptiedDatabases]:
    databases = EmptiedDatabases(new_postgresql_database, POSTGRESQL)
    yield databases
    databases.drop()


@pytest.mark.parametrize(
    ("statement", "is_lent_again"),
    [
        ("DELETE FROM projects", True),
        ("DROP INDEX one_running_job_per_model", False),
        ("ALTER TABLE jobs DISABLE TRIGGER ALL", False),
    ],
)
def test_a_database_is_lent_again_as_it_was_unless_its_schema_changed(
    statement: str, is_lent_again: bool, databases: EmptiedDatabases
) -> None:
    with databases.lend() as url, psycopg.connect(url) as connection:
        projects = connection.execute(PROJECTS).fetchall()
        connection.execute(statement)
    with databases.lend() as next_url, psycopg.connect(next_url) as connection:
        assert (next_url == url) == is_lent_again
        assert connection.execute(PROJECTS).fetchall() == projects != []


def test_a_database_is_lent_again_after_an_error(databases: EmptiedDatabases) -> None:
    with pytest.raises(ZeroDivisionError), databases.lend() as url:
        raise ZeroDivisionError
    with databases.lend() as next_url:
        assert next_url == url
