"""The commands about projects, webhooks, the audit log and samples; describing and deleting."""

import json
from pathlib import Path

from tests.api.serving import Served
from tests.commands.calls import Calls


def test_a_project_is_created_used_and_deleted(call: Calls) -> None:
    created = call.json("projects", "create", "research")
    assert call.json("projects", "show", "research") == created
    assert created in call.json("projects")
    call("models", "create", "theirs", "--dataset", "mnist", "--project", "research")
    assert "theirs" not in call("models")
    call("projects", "delete", "research", code=1)
    assert "- Its revoked and expired API keys" in call.error
    call("projects", "delete", "research", "--yes", code=1)
    assert "project_in_use" in call.error
    call("projects", "create", "empty")
    call("projects", "delete", "empty", "--yes")
    assert "empty" not in call("projects")


def test_a_webhook_is_created_tried_and_deleted(call: Calls) -> None:
    address = "https://192.0.2.1/hook"  # never answers; sending is not what is tested here
    call("webhooks", "create", address, "--type", "job.finished", code=1)
    assert "invalid_url" in call.error
    created = call.json("webhooks", "create", "https://1.1.1.1/hook", "--type", "job.finished")
    hook = created.pop("id")
    assert created["secret"].startswith("whsec_")
    secret = call("webhooks", "create", "https://1.1.1.1/two", "--type", "job.finished").strip()
    assert secret.startswith("whsec_")
    assert secret not in call("webhooks")
    assert call.json("webhooks", "show", hook)["url"] == "https://1.1.1.1/hook"
    message = call.json("webhooks", "test", hook)
    assert [one["id"] for one in call.json("webhooks", "deliveries", hook)] == [message["id"]]
    assert "pending" in call("webhooks", "deliveries", hook)
    call("webhooks", "delete", hook, code=1)
    assert "- https://1.1.1.1/hook is told nothing any more" in call.error
    call("webhooks", "delete", hook, "--yes")
    assert hook not in call("webhooks")


def test_a_model_and_a_version_are_described(call: Calls, name: str) -> None:
    call("describe", name, "--description", "For the shop", "--set", "team=vision", "--set", "size=s")
    changed = call.json("describe", name, "--unset", "size")
    assert (changed["description"], changed["metadata"]) == ("For the shop", {"team": "vision"})
    assert [one["name"] for one in call.json("models", "list", "--metadata", "team=vision")] == [name]
    assert call.json("describe", name, "--description", "")["description"] is None
    version = call.json("describe", name, "--version", "1", "--description", "the first", "--set", "a=b")
    assert (version["description"], version["metadata"]) == ("the first", {"a": "b"})
    assert [one["number"] for one in call.json("versions", name, "--metadata", "a=b")] == [1]
    call("describe", name, code=2)


def test_a_version_is_deleted_after_it_was_said_what_happens(served: Served, call: Calls, name: str) -> None:
    served.done(name, "resize", policy="prune")
    call("versions", name, "1", "--delete", code=1)
    assert "It holds 0, 1" in call.error
    assert "add --yes" in call.error
    assert call.json("versions", name, "1")["state"] == "usable"
    call("versions", name, "1", "--delete", "--yes")
    assert [one["number"] for one in call.json("versions", name, "--state", "deleted")] == [1]
    call("versions", name, "head", "--delete", "--yes", code=1)
    assert "version_in_use" in call.error
    call("versions", name, "--delete", code=2)


def test_at_a_terminal_a_deletion_asks(call: Calls, name: str) -> None:
    terminal = call.at_terminal("models", "delete", name)
    terminal.wait_for("for ever?")
    assert f"{name} has 1 version" in terminal.shown
    terminal.type("n")
    assert terminal.end() == 1
    assert call.json("models", "show", name)["head"] == 1


def test_a_purged_model_has_a_receipt(served: Served, call: Calls, name: str) -> None:
    deletion = call.json("models", "delete", name, "--purge", "--yes")
    served.sweep()
    assert "done" in call("models", "deletion", deletion["model"])
    assert json.loads(call("receipt", deletion["model"]))["payloadType"]


def test_samples_are_listed_drawn_again_and_deleted(call: Calls, name: str, tmp_path: Path) -> None:
    first = tmp_path / "first.png"
    call("sample", name, "1", "--count", "2", "--output", str(first))
    [sample] = call.json("samples", "list", "--model", name, "--version", "1", "--label", "1")
    assert sample["id"] in call("samples")
    assert call.json("samples", "show", sample["id"]) == sample
    call("samples", "draw", sample["id"], "--output", str(tmp_path / "again.png"))
    assert (tmp_path / "again.png").read_bytes() == first.read_bytes()
    call("samples", "delete", sample["id"], "--yes")
    assert call.json("samples", "list", "--model", name) == []


def test_lineage_files_relapse_strategies_and_status(
    served: Served, call: Calls, name: str, tmp_path: Path
) -> None:
    served.done(name, "forget", labels=["1"])
    assert [row.split()[:2] for row in call("lineage", name).splitlines()[1:]] == [["2", "1"], ["1", "-"]]
    assert "stayed forgotten" in call("relapse", name)
    call("download", name, "2", "decoder.onnx", "--output", str(tmp_path / "decoder"))
    assert (
        len((tmp_path / "decoder").read_bytes())
        == (call.json("versions", name, "2")["files"]["decoder.onnx"]["bytes"])
    )
    strategy = call.json("strategies")[0]["name"]
    assert call.json("strategies", strategy)["name"] == strategy
    assert strategy in call("strategies")
    assert strategy in call("strategies", strategy)
    call("strategies", "nothing", code=1)
    assert "artifacts" in call("status")


def test_the_audit_log_is_listed(call: Calls) -> None:
    call("projects", "create", "noted")
    newest = call.json("audit", "--limit", "1")
    assert newest[0]["action"] == "project.create"
    assert "project.create" in call("audit", "list", "--limit", "1")
