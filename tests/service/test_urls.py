"""Every path can be written in a URL, and no malformed URL shows a part of its password."""

import os
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from service import urls
from service.queue.messages import count_waiting_messages, wake_worker
from service.registry.database import Database
from service.settings import Settings

NAMES = [
    "what?",
    "what?timeout=1",
    "100%",
    "a%20b",
    "a#b",
    "a b ",
    'it\'s "quoted"',
    "a&b=c;d",
    "Ölbild 画",
    "two\nlines",
    os.fsdecode(b"not \xff utf-8"),
    "~nobody-of-this-name",
    ":memory:",
    "[x]{home}",
    "back\\slash",
    "a@b:c",
]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PALIMPSEST_{name.upper()}", raising=False)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("form", ["absolute", "relative"])
def test_a_home_of_any_name_holds_its_own_database_and_queue(
    name: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALIMPSEST_HOME", str(tmp_path / name) if form == "absolute" else f"./{name}")
    deployment = Settings()
    for variable, value in deployment.as_environment().items():
        monkeypatch.setenv(variable, value)
    assert Settings() == deployment, "a child process gets the same settings"
    database = Database(deployment.database_url)
    database.engine.connect().close()
    database.dispose()
    assert wake_worker("job_1", deployment)
    assert count_waiting_messages(deployment) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {path.name for path in (tmp_path / name).iterdir()} == {"palimpsest.db", "queue"}


def test_a_home_that_is_a_link_is_used_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    deployment = Settings(home=tmp_path / "link")
    Database(deployment.database_url).engine.connect().close()
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["palimpsest.db"]


def test_a_relative_database_and_queue_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    deployment = Settings(database_url="sqlite:///here/a%3Fb.db", broker_url="folder://queue")
    assert urls.sqlite_file(deployment.database_url) == tmp_path / "here" / "a?b.db"
    assert urls.broker_folder(deployment.broker_url) == tmp_path / "queue"


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:////a?b.db", "sqlite://host/a.db"]
)
def test_an_sqlite_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"sqlite:///FILE|%3F"):
        Settings(database_url=url)


PASSWORD = "hunter2secret"
MALFORMED = [
    "postgresql://me:{0}@{0}@db/pages",
    "postgresql://me:x@{0}/y@db/pages",
    "postgresql://me:x@{0}?y@db/pages",
    "postgresql://me:x@{0}#y@db/pages",
    "postgresql://me:x@y:{0}@db/pages",
    "postgresql://me/{0}:x@db/pages",
    "postgresql://me:x@db:{0}/pages",
    "mysql://me:{0}@db/pages",
    "postgresql:/me:{0}@db",
    "{0}",
    "sqlite://me:{0}@db",
]
MALFORMED_BROKERS = [
    "redis://:x/{0}@broker/0",
    "redis://:x?{0}@broker/0",
    "redis://:x#{0}@broker/0",
    "redis://:1/{0}@broker/0",
    "redis://:1#{0}@broker",
    "redis://broker:{0}/0",
    "redis://:[{0}@broker/0",
    "amqp://me:{0}@broker",
    "{0}",
]


@pytest.mark.parametrize(
    ("variable", "pattern"),
    [("database_url", one) for one in MALFORMED] + [("broker_url", one) for one in MALFORMED_BROKERS],
)
def test_a_malformed_url_is_refused_without_a_part_of_its_password(
    variable: str, pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PALIMPSEST_{variable.upper()}", pattern.format(PASSWORD))
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("password", ["p/a", "p?a", "p#a", "p:a", "p%40a", "p%25a", "påss"])
def test_a_password_that_can_be_told_from_the_host_is_accepted(password: str) -> None:
    deployment = Settings(database_url=f"postgresql://me:{password}@db/pages")
    assert password not in repr(deployment)
    assert deployment.database_url == f"postgresql+psycopg://me:{password}@db/pages"
