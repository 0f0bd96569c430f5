"""Settings come from variables PALIMPSEST_*, and all have defaults."""

from pathlib import Path
from subprocess import run
from sys import executable

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PALIMPSEST_{name.upper()}", raising=False)


def test_without_variables_everything_is_in_one_folder() -> None:
    found = Settings()
    home = Path("~/.palimpsest").expanduser()
    assert (found.home, found.data, found.artifacts) == (home, home / "datasets", home / "artifacts")
    assert found.database_url == f"sqlite:///{home}/palimpsest.db"
    assert found.broker_url == f"folder://{home}/queue"


def test_two_variables_move_it_to_postgresql_and_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_DATABASE_URL", "postgresql://me@db/pages")
    monkeypatch.setenv("PALIMPSEST_BROKER_URL", "redis://broker/0")
    found = Settings()
    assert found.database_url == "postgresql+psycopg://me@db/pages"
    assert found.broker_url == "redis://broker/0"


def test_a_relative_home_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(home=Path("here")).database_url == f"sqlite:///{tmp_path}/here/palimpsest.db"


def test_a_child_process_gets_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = Settings(home=tmp_path, port=0, lease_seconds=1.5, log_level="debug", data=tmp_path / "data")
    for name, value in parent.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == parent


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_PORT", "")
    assert Settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "70000"), ("LEASE_SECONDS", "0"), ("PURGE_AFTER_DAYS", "-1"), ("LOG_LEVEL", "loud")],
)
def test_a_value_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"PALIMPSEST_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_variable_with_its_old_name_is_refused_and_the_new_name_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PALIMPSEST_RING_AGAIN_SECONDS", "5")
    with pytest.raises(ValidationError, match="unset it and set PALIMPSEST_NOTIFY_AGAIN_SECONDS"):
        Settings()


def test_start_up_with_an_old_variable_fails_with_one_line(tmp_path: Path) -> None:
    environment = {"PALIMPSEST_HOME": str(tmp_path), "PALIMPSEST_RING_AGAIN_SECONDS": "5"}
    command = [executable, "-m", "commands", "sweep", "--once"]
    ended = run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("palimpsest: PALIMPSEST_NOTIFY_AGAIN_SECONDS: ")


@pytest.mark.parametrize("url", ["garbage", "mysql://me@db/pages", "postgresql://db:notaport/pages", "://"])
def test_an_unsupported_database_is_refused_and_the_supported_ones_are_named(url: str) -> None:
    with pytest.raises(ValidationError, match="sqlite:///FILE or postgresql://USER@HOST/NAME"):
        Settings(database_url=url)


@pytest.mark.parametrize("url", ["garbage", "amqp://broker", "redis://h:notaport/0"])
def test_an_unsupported_broker_is_refused_and_the_supported_ones_are_named(url: str) -> None:
    with pytest.raises(ValidationError, match="folder://FOLDER or redis://HOST/NUMBER"):
        Settings(broker_url=url)


@pytest.mark.parametrize(
    ("text", "names"),
    [("default", ("default",)), (" gpu, default ,gpu", ("gpu", "default")), ("a-1", ("a-1",))],
)
def test_queues_are_a_list_without_repetitions(
    monkeypatch: pytest.MonkeyPatch, text: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PALIMPSEST_QUEUES", text)
    assert Settings().queue_names == names


TOO_MANY = ",".join(f"q{number}" for number in range(21))


@pytest.mark.parametrize("text", [",", "GPU", "a.b", "1a", "a" * 33, "../x", TOO_MANY])
def test_queues_with_other_names_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("PALIMPSEST_QUEUES", text)
    with pytest.raises(ValidationError, match="queue"):
        Settings()
