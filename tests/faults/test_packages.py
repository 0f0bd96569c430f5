"""The packages of the how-to pages, built and installed as a reader would: a worker runs jobs with them."""

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.settings import Settings
from tests.instance import Instance, instance_of, stop, wait_for
from tests.readme.documents import ROOT, blocks

PACKAGES = {"fade": "docs/how-to/add-a-strategy.md", "bars": "docs/how-to/add-a-dataset.md"}
FADE = {"name": "palimpsest-fade", "version": "1.0"}
BARS = {"name": "palimpsest-bars", "version": "1.0"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the packages of the pages are installed, without a network."""
    folder = tmp_path_factory.mktemp("packages")
    for name, document in PACKAGES.items():
        (folder / name).mkdir()
        program = "\n\n".join(blocks(document, "python"))
        # Too few images for a judge, whose training would take a minute.
        (folder / name / f"palimpsest_{name}.py").write_text(program.replace("COUNT = 200", "COUNT = 20"))
        (folder / name / "pyproject.toml").write_text("\n".join(blocks(document, "toml")))
    install = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--target", str(folder / "site")]
    offline = ["--python", sys.executable, "--no-deps", "--no-build-isolation", "--offline", "--quiet"]
    subprocess.run([*install, *offline, *(str(folder / name) for name in PACKAGES)], check=True)
    return folder / "site"


@pytest.fixture(scope="module")
def running(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    folder = tmp_path_factory.mktemp("running")
    with instance_of(Settings(home=folder / "home", port=0), folder) as instance:
        instance.up(PYTHONPATH=os.pathsep.join([str(ROOT), str(site)]))
        yield instance


def offered(instance: Instance) -> dict[str, dict[str, Any]]:
    """{name: entry} of what the catalog says is of a package."""
    catalog = instance.request("GET", "/v1/catalog", status=200)
    return {one["name"]: one for entries in catalog.values() for one in entries if one["package"]}


def test_jobs_use_the_strategy_the_network_and_the_dataset_of_the_pages(running: Instance) -> None:
    entries = wait_for("the worker offers the packages", lambda: offered(running))
    assert {name: one["package"] for name, one in entries.items()} == {
        "fade": FADE,
        "narrow": FADE,
        "bars": BARS,
    }
    network = {"architecture": "narrow", "encoder_widths": [8], "decoder_widths": [8], "latent": 2}
    running.request("POST", "/v1/models", {"name": "m", "dataset": "bars", "network": network}, status=201)
    learned = running.submit("learn", labels=["horizontal", "vertical"], steps=3)
    refused = {"labels": ["vertical"], "strategy": "fade", "params": {"share": 2}}
    problem = running.request("POST", "/v1/models/m/forget", refused, status=422)
    assert problem["errors"][0]["pointer"] == "/params/share"
    forgotten = running.submit("forget", labels=["vertical"], strategy="fade", params={"share": 0.5})
    running.succeeded(learned)
    running.succeeded(forgotten)

    first, second = (_manifest(running, number) for number in (1, 2))
    assert first["packages"] == {"network": FADE, "dataset": BARS}
    assert second["packages"] == {"strategy": FADE, "network": FADE, "dataset": BARS}
    assert second["job"]["params"] == {"share": 0.5}
    receipt = wait_for("the receipt is signed", lambda: _receipt(running, forgotten))
    assert receipt["package"] == FADE
    image = httpx2.get(f"{running.url}/v1/models/m/versions/2/images/horizontal/0.png")
    assert image.status_code == 200


def test_a_job_waits_while_no_worker_has_its_package_and_runs_when_one_has_again(
    running: Instance, site: Path
) -> None:
    """Follows the test above: the model has the label `horizontal`."""
    learn = running.submit("learn", labels=["vertical"], steps=100_000)
    forget = running.submit("forget", labels=["horizontal"], strategy="fade", params={})
    running.worker_in_training(learn)
    stop(running.processes[-1])
    running.up(PYTHONPATH=str(ROOT))
    wait_for("the worker sees the job", lambda: f"job {learn} stays queued" in running.log.read_text())
    answer = running.request("GET", f"/v1/jobs/{forget}", status=200)
    assert answer["waits_for"].startswith("no running worker offers the strategy fade of the package")
    problem = running.request(
        "POST", "/v1/models/m/forget", {"labels": ["vertical"], "strategy": "fade"}, status=409
    )
    assert problem["code"] == "strategy_not_offered"
    running.request("POST", f"/v1/jobs/{learn}/cancel", status=202)
    wait_for("it is not ready", lambda: "palimpsest-fade" in _readiness(running)["checks"]["worker"])
    examined = running.run("doctor")
    assert examined.wait(60) == 1
    assert "no running worker offers the strategy fade" in running.log.read_text()

    stop(running.processes[-2])
    running.up(PYTHONPATH=os.pathsep.join([str(ROOT), str(site)]))
    assert running.succeeded(forget).attempt == 1


def _readiness(instance: Instance) -> dict[str, Any]:
    return dict(httpx2.get(f"{instance.url}/readyz", timeout=30).json())


def _manifest(instance: Instance, number: int) -> dict[str, Any]:
    return dict(instance.request("GET", f"/v1/models/m/versions/{number}/files/manifest.json", status=200))


def _receipt(instance: Instance, job_id: str) -> dict[str, Any] | None:
    """Return what the receipt of the job states, once there is one."""
    answer = httpx2.get(f"{instance.url}/v1/jobs/{job_id}/receipt", timeout=30)
    if answer.status_code != 200:
        return None
    return dict(json.loads(b64decode(answer.json()["payload"]))["predicate"])
