"""`palimpsest keys`, and what a service without keys refuses."""

import subprocess
import sys
from pathlib import Path

import httpx2
from typer.testing import CliRunner

from commands.main import app
from service.registry.keys import PATTERN
from service.settings import Settings
from tests.instance import instance_of, stop, wait_for


def palimpsest(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "commands", *arguments],
        env={"PALIMPSEST_HOME": str(home), "PATH": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def test_keys_are_created_before_any_service_runs_and_then_it_listens_everywhere(tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = Settings(home=home, host="0.0.0.0", port=0)
    with instance_of(settings, tmp_path) as instance:
        refused = instance.run("serve")
        assert refused.wait(60) == 1
        [line] = [one for one in instance.log.read_text().splitlines() if one.startswith("palimpsest: ")]
        assert "palimpsest keys create" in line
        assert "--without-keys" in line
        created = palimpsest(
            home, "keys", "create", "operator", "--scope", "admin", "--scope", "read", "--deployment"
        )
        key = created.stdout.strip()
        assert PATTERN.fullmatch(key), created.stderr
        assert key not in created.stderr
        instance.up("serve", PALIMPSEST_LOG_LEVEL="debug")
        assert httpx2.get(f"{instance.url}/v1/models").status_code == 401
        own = {"Authorization": f"Bearer {key}"}
        assert httpx2.get(f"{instance.url}/v1/models", headers=own).status_code == 200
        httpx2.get(f"{instance.url}/livez?key={key}")
        wait_for("the request is logged", lambda: "/livez?key=pal_" in instance.log.read_text())
        assert key.split("_")[2] not in instance.log.read_text(), "no log has the secret of a key"
        listed = palimpsest(home, "keys", "list").stdout
        assert "operator" in listed
        assert key.split("_")[2] not in listed
        revoked = palimpsest(home, "keys", "revoke", listed.split()[0])
        assert revoked.returncode == 0
        keys = f"{instance.url}/v1/keys"
        wait_for("the key is refused", lambda: httpx2.get(keys, headers=own).status_code == 401)
        stop(instance.processes[-1])


def test_without_keys_is_an_explicit_choice_that_warns(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", host="0.0.0.0", port=0)
    with instance_of(settings, tmp_path) as instance:
        process = instance.run("serve", "--without-keys")
        wait_for("it is ready", lambda: "Palimpsest is ready" in instance.log.read_text())
        assert "no API key is required" in instance.log.read_text()
        assert stop(process) == 0


def test_a_bad_key_command_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    for arguments, reason in (
        (("create", "ci"), "--scope"),
        (("create", "ci", "--scope", "root"), "read, sample, learn, forget, admin"),
        (("create", "c i", "--scope", "read"), "the name of a key"),
        (("create", "ci", "--scope", "read", "--project", "nobody"), "no project 'nobody'"),
        (("revoke", "key_0"), "no API key 'key_0'"),
    ):
        ended = CliRunner().invoke(app, ["keys", *arguments], env={"PALIMPSEST_HOME": str(tmp_path)})
        assert (ended.exit_code, ended.stdout) == (1, "")
        assert ended.stderr.startswith("palimpsest: ")
        assert reason in ended.stderr
        assert len(ended.stderr.splitlines()) == 1
