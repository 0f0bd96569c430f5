"""`palimpsest export` and `exports`, against a real server with a stand-in for its worker."""

import json
import threading
from pathlib import Path

from tests.api.serving import Served
from tests.commands.calls import Calls
from tests.instance import wait_for


def test_an_export_is_made_and_downloaded(served: Served, call: Calls, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "digits"

    def work() -> None:
        path = f"/v1/exports?model={name}"
        [export] = wait_for("there is an export", lambda: served.http.get(path).json()["data"])
        served.worker.export(export["id"])

    working = threading.Thread(target=work)
    working.start()
    options = ("--count", "3", "--labels", "0", "--labels", "1", "--seed", "5", "--shard-images", "4")
    call("export", name, *options, "--out", str(folder))
    working.join()
    assert "6 images in 2 files" in call.error
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [(folder / one["file"]).stat().st_size for one in manifest["shards"]] == [
        one["bytes"] for one in manifest["shards"]
    ]


def test_exports_are_listed_shown_cancelled_and_deleted(served: Served, call: Calls, name: str) -> None:
    export = call.json("export", name, "--count", "3", "--format", "webdataset")
    assert export == served.http.get(f"/v1/exports/{export['id']}").json()
    assert "queued" in call("exports", "--model", name)
    assert "0 of 6 images" in call("exports", "show", export["id"])
    served.worker.export(export["id"], shards=1)
    assert "shard-00000.tar" in call("exports", "shards", export["id"])
    assert "cancelled" in call("exports", "cancel", export["id"])
    call("exports", "download", export["id"], "--out", "never", code=3)
    call("exports", "delete", export["id"], code=1)
    call("exports", "delete", export["id"], "--yes")
    assert call.json("exports", "--model", name) == []


def test_a_download_prints_the_export_as_json(served: Served, call: Calls, name: str, tmp_path: Path) -> None:
    export = call.json("export", name, "--count", "2")
    served.worker.export(export["id"])
    done = call.json("exports", "download", export["id"], "--out", str(tmp_path / "digits"))
    assert (done["id"], done["state"]) == (export["id"], "succeeded")
    assert (tmp_path / "digits" / "manifest.json").is_file()
