"""From the request to the verified receipt, with real processes on each backing."""

import json
import os
import re
import sys
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess, run

import httpx2
import pytest

from service.settings import Settings
from tests.instance import instance_of, wait_for
from worker.jobs.code_version import CODE

PATIENCE_SECONDS = 120.0
"""The worker imports torch first, which on a busy machine takes its time."""


@pytest.mark.slow
def test_a_real_forget_is_purged_and_its_receipt_verified_against_the_artifact_folder(
    deployment: Settings, tmp_path: Path
) -> None:
    with instance_of(deployment, tmp_path) as instance:
        instance.up()
        instance.create()
        instance.succeeded(instance.submit("learn", labels=["0", "1"]), PATIENCE_SECONDS)
        bounds = {"retained_accuracy_min": 0.0, "forgotten_accuracy_max": 1.0}
        job_id = instance.submit("forget", labels=["1"], purge=True, acceptance=bounds)
        instance.succeeded(job_id, PATIENCE_SECONDS)
        address = f"{instance.url}/v1/jobs/{job_id}"
        wait_for("the purge is done", lambda: httpx2.get(address).json()["purge"]["state"] == "done")
        receipt = tmp_path / "receipt.json"
        receipt.write_bytes(httpx2.get(f"{address}/receipt").raise_for_status().content)
        payload = json.loads(b64decode(json.loads(receipt.read_bytes())["payload"]))
        for file in payload["predicate"]["purge"]["keys_gone"]:
            assert not (deployment.artifacts / file["sha256"][:2] / file["sha256"]).exists()
        verified = verify(receipt, "--url", instance.url, "--files", deployment.artifacts)
    assert verified.returncode == 0, verified.stderr
    assert "; 5 files match the receipt" in verified.stdout
    assert re.search(r"^criteria +2 of 2 met", verified.stdout, flags=re.MULTILINE)
    assert CODE.rpartition(":")[2] in "".join(verified.stdout.split()), "of the worker's own process"
    own = verify(receipt, env=deployment.as_environment())  # this home's own key, and no service any more
    assert own.returncode == 0, own.stderr


def verify(receipt: Path, *options: object, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
    command = [sys.executable, "-m", "commands", "verify", str(receipt), *map(str, options)]
    return run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})
