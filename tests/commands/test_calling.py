"""The commands that call a service, against one real server with a stand-in for its worker."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from commands.main import app
from tests.api.serving import Served
from tests.commands.calls import Calls
from tests.commands.terminal import CELL_SIZE, ROOT
from tests.reports.made_up import WEAK
from tests.requests.archives import as_npz, doodles, drawings, npz

GRAPHICS = {
    "kitty": {b"\x1b[c": b"\x1b[?62c", b"\x1b_G": b"\x1b_Gi=1;OK\x1b\\"},
    "sixel": {b"\x1b[c": b"\x1b[?62;4c"},
}
"""What a terminal answers that can show pixels, by its protocol."""


def test_a_model_is_created_listed_shown_and_deleted(served: Served, call: Calls) -> None:
    created = call.json(
        "models", "create", "shown", "--dataset", "mnist", "--accept", "forgotten_accuracy_max=0.1"
    )
    assert created == served.http.get("/v1/models/shown").json()
    assert created["acceptance"]["forgotten_accuracy_max"] == 0.1
    served.done("shown", "learn", labels=["0"])
    served.done("shown", "forget", labels=["0"])
    row = next(line for line in call("models").splitlines() if line.startswith("shown"))
    assert row.split()[:5] == ["shown", "mnist", "2", "-", "0"]
    assert "forgotten" in call("models", "show", "shown")
    call("models", "delete", "shown", code=1)
    assert "add --yes" in call.error
    call("models", "delete", "shown", "--yes")
    call("models", "show", "shown", code=1)
    assert call.error.startswith("palimpsest: There is no model")
    assert call.error.endswith("(model_not_found)\n")


def test_a_job_is_submitted_and_watched_to_its_end(served: Served, call: Calls, name: str) -> None:
    job = call("learn", name, "2", "--param", "steps=7", "--metadata", "ticket=9", "--seed", "3").strip()
    submitted = served.http.get(f"/v1/jobs/{job}").json()
    assert (submitted["params"]["steps"], submitted["metadata"], submitted["seed"]) == (7, {"ticket": "9"}, 3)
    finishing = threading.Thread(target=served.worker.work, args=(job,))
    finishing.start()
    shown = call("watch", job)
    finishing.join()
    assert "version 2 published" in shown
    assert "labels: 0 1 2" in shown
    forget = call("forget", name, "1", "--reference", "erasure 12").strip()
    served.worker.work(forget)
    assert call.json("watch", forget)["reference"] == "erasure 12"
    assert call("resize", name, "prune").startswith("job_")
    assert [one["operation"] for one in call.json("jobs", "--model", name)] == [
        "resize",
        "forget",
        "learn",
        "learn",
    ]


def test_a_resize_follows_a_job(served: Served, call: Calls, name: str) -> None:
    sized = call.json("models", "create", f"{name}-sized", "--dataset", "mnist", "--size-policy", "auto")
    assert sized["size_policy"] == "auto"
    assert "auto" in call("models", "show", f"{name}-sized")
    learn = call.json("learn", name, "2", "--resize", "auto", "--no-wait")
    resize = call.json("jobs", "show", learn["followed_by"])
    assert (resize["operation"], resize["strategy"], resize["follows"]) == (
        "resize",
        "auto_width",
        learn["id"],
    )
    assert learn["followed_by"] in call("jobs", "show", learn["id"])
    assert learn["id"] in call("jobs", "show", resize["id"])
    assert call.json("forget", name, "0", "--resize", "prune", "--no-wait")["followed_by"]
    assert call.json("forget", name, "1", "--no-wait")["followed_by"] is None
    by_policy = call.json("learn", f"{name}-sized", "1", "--no-wait")
    assert by_policy["followed_by"]
    assert call.json("learn", f"{name}-sized", "2", "--resize", "none", "--no-wait")["followed_by"] is None
    call("learn", name, "3", "--resize", "halve", code=1)
    assert "policy_not_found" in call.error
    terminal = call.at_terminal("learn", f"{name}-sized", "3", "--no-wait")
    assert terminal.end() == 0, terminal.shown
    assert "A resize follows it: palimpsest watch job_" in terminal.shown


def test_a_job_that_does_not_succeed_ends_with_3_and_its_reason(
    served: Served, call: Calls, name: str
) -> None:
    refused = call("learn", name, "3").strip()
    served.worker.refuse(served.worker.claim(refused))
    shown = call("watch", refused, code=3)
    assert "retained_accuracy_min: 95.1% (93.6% to 96.3%), not >= 0.99" in shown
    assert "rejected" in call("jobs", "show", refused)
    again = call.json("jobs", "retry", refused)
    assert again["retry_of"] == refused
    call("jobs", "cancel", again["id"])
    assert call.json("jobs", "--state", "cancelled", "--model", name)[0]["id"] == again["id"]
    assert call.json("jobs", "--operation", "evaluate", "--model", name) == []
    assert (
        call.json("audit", "--action", "job.cancel", "--resource", again["id"])[0]["resource"] == again["id"]
    )


def test_versions_are_shown_compared_and_reported(served: Served, call: Calls, name: str) -> None:
    served.done(name, "forget", labels=["1"])
    rows = call("versions", name).splitlines()
    assert [row.split()[0] for row in rows] == ["version", "2", "1"]
    assert "revoked" in rows[2]
    assert "decoder.onnx" in call("versions", name, "2")
    assert call.json("compare", name, "1", "2")["forgotten"] == ["1"]
    assert "retained" in call("compare", name, "1", "2")
    assert "1.2%" in call("report", name)
    evaluate = call("evaluate", name).strip()
    served.worker.measure(served.worker.claim(evaluate))
    assert "relearning" in call("report", name)
    assert "relearning" not in call("report", name, "--quick")
    assert call.json("report", evaluate)["level"] == "full"


def test_a_version_whose_judge_gives_no_verdict_is_shown_with_the_reason(
    served: Served, call: Calls, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.worker, "has_weak_judge", True)
    served.done(name, "forget", labels=["1"])
    assert f"no verdict, because {WEAK}" in " ".join(call("versions", name, "2").split())


def test_versions_are_promoted_and_rolled_back(served: Served, call: Calls, name: str) -> None:
    served.done(name, "resize", policy="prune")
    call("promote", name, "1", "production")
    assert call.json("promote", name, "head", "production", "--reason", "smaller")["version"] == 2
    assert call.json("rollback", name, "production")["version"] == 1
    history = [(one["action"], one["to"]) for one in call.json("aliases", name, "production")]
    assert history == [("rollback", 1), ("set", 2), ("set", 1)]
    assert "smaller" in call("aliases", name, "production")
    assert call("aliases", name).splitlines()[1].split()[:3] == ["production", "1", "yes"]
    assert call.json("versions", name, "production")["number"] == 1
    served.done(name, "forget", labels=["1"])
    call("promote", name, "2", "production", code=1)
    assert "version_revoked" in call.error
    call("aliases", name, "production", "--delete")
    assert "No aliases" in call("aliases", name)


def test_a_receipt_is_written_and_verified(served: Served, call: Calls, name: str, tmp_path: Path) -> None:
    forget = call("forget", name, "1").strip()
    served.worker.work(forget)
    served.sweep()
    file = tmp_path / "receipt.json"
    call("receipt", forget, "--output", str(file))
    assert call("receipt", forget).encode() == file.read_bytes()
    verified = call("verify", str(file), "--url", served.address)
    assert "is genuine" in verified


def test_a_sample_is_written_to_a_file_or_to_a_pipe(call: Calls, name: str, tmp_path: Path) -> None:
    for file, kind in (
        ("grid.png", b"\x89PNG"),
        ("grid.webp", b"RIFF"),
        ("all.npz", b"PK"),
        ("all.json", b"{"),
    ):
        call("sample", name, "0", "1", "--count", "3", "--seed", "5", "--output", str(tmp_path / file))
        assert (tmp_path / file).read_bytes().startswith(kind)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 3 * 28
    command = [sys.executable, "-m", "commands", "sample", name, "0", "1", "--count", "3", "--seed", "5"]
    env = {**os.environ, **call.environment}
    piped = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, check=True, stdin=subprocess.DEVNULL
    )
    assert piped.stdout == (tmp_path / "grid.png").read_bytes()
    assert len(call.json("sample", name, "0", "--count", "2")["data"]) == 2
    call("sample", name, "0", "--output", "grid.gif", code=2)


def test_at_a_terminal_a_sample_is_drawn_in_blocks(call: Calls, name: str) -> None:
    terminal = call.at_terminal("sample", name, "0", "--count", "6")
    assert terminal.end() == 0, terminal.shown
    assert terminal.shown.count("▄") == (5 * 18 - 2 + 16) * 9
    assert "drawn by version 1" in terminal.shown


@pytest.mark.parametrize(("protocol", "beginning"), [("kitty", "\x1b_G"), ("sixel", "\x1bP")])
def test_at_a_terminal_that_shows_pixels_a_sample_is_drawn_in_pixels(
    call: Calls, name: str, protocol: str, beginning: str
) -> None:
    terminal = call.at_terminal("sample", name, "0", answers={**GRAPHICS[protocol], **CELL_SIZE})
    assert terminal.end() == 0, terminal.shown
    assert "▄" not in terminal.shown
    assert any(len(part) > 200 for part in terminal.shown.split(beginning)[1:])


def test_at_a_terminal_a_job_is_waited_for_with_a_bar_and_the_next_step(
    served: Served, call: Calls, name: str
) -> None:
    terminal = call.at_terminal("learn", name, "4")
    terminal.wait_for("queued")
    [job] = served.http.get("/v1/jobs", params={"model": name, "state": "queued"}).json()["data"]
    claim = served.worker.claim(job["id"])
    served.worker.progress(claim, "training", 3, 9, 87.5)
    terminal.wait_for("training 3/9, loss 87.5")
    served.worker.finish(claim)
    assert terminal.end() == 0, terminal.shown
    assert "version 2 published" in terminal.shown
    assert f"palimpsest sample {name} 0 1 4" in terminal.shown


@pytest.mark.parametrize(("answer", "code", "state"), [("l", 0, "queued"), ("c", 3, "cancelled")])
def test_ctrl_c_asks_what_becomes_of_the_job(
    served: Served, call: Calls, name: str, answer: str, code: int, state: str
) -> None:
    terminal = call.at_terminal("learn", name, "5")
    terminal.wait_for("queued")
    terminal.interrupt()
    terminal.wait_for("[l/c/w]")
    terminal.type(answer)
    assert terminal.end() == code, terminal.shown
    [job, _] = served.http.get("/v1/jobs", params={"model": name}).json()["data"]
    assert job["state"] == state


def test_datasets_are_uploaded_and_deleted(call: Calls, tmp_path: Path) -> None:
    archive = tmp_path / "doodles.npz"
    archive.write_bytes(as_npz(doodles()))
    tried = call.json("datasets", "upload", "doodles", str(archive), "--dry-run")
    call("datasets", "upload", "doodles", str(archive), code=1)
    assert "add --yes" in call.error
    assert "doodles" not in call("datasets"), "neither has kept anything"
    uploaded = call.json("datasets", "upload", "doodles", str(archive), "--yes")
    assert {**tried, "previews": None} == uploaded
    assert uploaded["images"]
    label = uploaded["labels"][0]
    call("datasets", "examples", "doodles", label, "-n", "3", "-o", str(tmp_path / "three.png"))
    with Image.open(tmp_path / "three.png") as picture:
        assert picture.size == (3 * 28, 28)
    call("datasets", "delete", "doodles", "--label", label, "--yes")
    assert call.json("datasets", "show", "doodles")["deleted_labels"] == [label]
    assert "doodles" in call("datasets")
    call("datasets", "delete", "doodles", "--yes")
    assert "doodles" not in call("datasets")


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_images_are_shown_before_an_upload_is_kept(
    served: Served, call: Calls, tmp_path: Path, answer: str, code: int
) -> None:
    archive = tmp_path / "shown.npz"
    archive.write_bytes(npz(x=255 - np.concatenate([*drawings().values()]), y=np.repeat(["a", "b"], 6)))
    terminal = call.at_terminal("datasets", "upload", f"shown-{answer}", str(archive))
    terminal.wait_for("Keep")
    assert "▄" in terminal.shown, "images as blocks"
    for words in (
        "12 images of 2 labels, 2 of them to test with",
        "converted: read as images",
        "warning: the bor",
    ):
        assert words in terminal.shown
    terminal.type(f"{answer}\n")
    assert terminal.end() == code, terminal.shown
    assert served.http.get(f"/v1/datasets/shown-{answer}").status_code == (200 if answer == "y" else 404)


def test_keys_of_a_service_are_created_and_revoked_through_its_api(served: Served, call: Calls) -> None:
    there = ("--url", served.address)
    key = call("keys", "create", "ci", "--scope", "read", *there).strip()
    listed = [one for one in call.json("keys", "list", *there) if one["name"] == "ci"]
    assert listed[0]["scopes"] == ["read"]
    call("keys", "revoke", key, *there)
    assert "revoked" in call("keys", "list", *there)


def test_exit_codes_tell_programs_what_happened(served: Served, call: Calls, name: str) -> None:
    call("models", "create", name, "--dataset", "mnist", code=1)
    call("models", "create", code=2)
    call("learn", name, "6", "--param", "steps", code=2)
    call("models", "--url", "http://127.0.0.1:9", code=4)
    assert "palimpsest up" in call.error
    ended = CliRunner().invoke(
        app, ["models", "--url", served.address], env={"PALIMPSEST_API_KEY": "pal_x_y"}
    )
    assert (ended.exit_code, "PALIMPSEST_API_KEY" in ended.stderr) == (5, True)
    call("learn", name, "6", "nine", "6", code=1)
    assert len(call.error.splitlines()) >= 1


def test_a_shell_completes_the_commands() -> None:
    env = {
        **os.environ,
        "_PALIMPSEST_COMPLETE": "complete_bash",
        "COMP_WORDS": "palimpsest mod",
        "COMP_CWORD": "1",
    }
    script = "from commands.main import app; app(prog_name='palimpsest')"
    ended = subprocess.run([sys.executable, "-c", script], env=env, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.split() == ["models"], ended.stderr


def test_a_call_imports_no_library_of_the_service_or_the_worker(served: Served, name: str) -> None:
    heavy = ("alembic", "celery", "fastapi", "onnxruntime", "sqlalchemy", "torch", "service", "worker")
    probe = (
        "import sys; from typer.testing import CliRunner; from commands.main import app\n"
        f"for command in (['models'], ['versions', {name!r}], ['jobs']):\n"
        f"    assert CliRunner().invoke(app, [*command, '--url', {served.address!r}]).exit_code == 0\n"
        "import commands.following, commands.pictures\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"
