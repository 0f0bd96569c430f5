"""A database file that is moved under the running service is noticed before anything is lost."""

import shutil
from pathlib import Path

from service.settings import Settings
from tests.api.serving import serving


def test_nothing_is_written_while_the_database_file_is_not_the_one_that_was_opened(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file, aside, copy = home / "palimpsest.db", home / "aside.db", home / "copy.db"
    with serving(Settings(home=home)) as served:

        def create(name: str) -> int:
            return served.http.post("/v1/projects", json={"name": name}).status_code

        def is_refused() -> bool:
            ready = served.http.get("/readyz")
            return (
                create("lost") == 503
                and ready.status_code == 503
                and "moved" in ready.json()["checks"]["database"]
            )

        assert create("first") == 201
        file.rename(aside)
        assert is_refused()
        assert not file.exists(), "no empty database is made in its place"
        shutil.copy(aside, copy)
        copy.rename(file)
        assert is_refused()
        aside.rename(file)
        assert served.http.get("/readyz").json()["checks"]["database"] == "ok"
        assert create("second") == 201
        home.rename(tmp_path / "elsewhere")
        assert is_refused()
        (tmp_path / "elsewhere").rename(home)
