"""Exports survive their workers: each shard is published once, with the same bytes, or all are deleted."""

import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from service.registry.artifacts import FolderArtifacts
from service.registry.tables import ExportRow, ExportShardRow, JobRow
from tests import invariants
from tests.faults.failing import Failpoints
from tests.instance import Instance, is_suspended, stop, wait_for

BODY: dict[str, Any] = {"count": 3000, "seed": 5, "shard_images": 2000}
"""6,000 images in three shards of two blocks each."""
FEW_SHARDS = 3


def learn(instance: Instance) -> None:
    instance.create()
    instance.succeeded(instance.submit("learn", labels=["0", "1"]))


def export(instance: Instance) -> str:
    """Request an export; return its id."""
    return str(instance.request("POST", "/v1/models/m/exports", BODY, status=202)["id"])


def wait_until_done(instance: Instance, export_id: str) -> ExportRow:
    """Wait until the export has ended; return its row."""

    def ended() -> ExportRow | None:
        with instance.database.reading() as session:
            row = session.get_one(ExportRow, export_id)
            return row if row.done else None

    return wait_for(f"export {export_id} ends", ended)


def hashes(instance: Instance, export_id: str) -> list[str]:
    """Return the sha256 of the finished shards in their order."""
    with instance.database.reading() as session:
        query = select(ExportShardRow.sha256).where(ExportShardRow.export_id == export_id)
        return list(session.scalars(query.order_by(ExportShardRow.number)))


def claimed(instance: Instance, attempt: int) -> JobRow | None:
    """Return the job of an export that is claimed for that time, if there is one."""
    with instance.database.reading() as session:
        query = select(JobRow).where(JobRow.export_id.is_not(None), JobRow.state == "running")
        return session.scalar(query.where(JobRow.attempt == attempt).limit(1))


@pytest.mark.parametrize("point", ["export.block", "export.after_store"])
def test_a_killed_worker_costs_an_export_no_shard_and_no_byte(
    instance: Instance, tmp_path: Path, point: str
) -> None:
    points = Failpoints(tmp_path, {point: "kill"})
    instance.up(**points.environment)
    learn(instance)
    points.arm(point)
    disturbed = export(instance)
    points.wait_until_reached(point)
    assert wait_until_done(instance, disturbed).state == "succeeded"
    undisturbed = export(instance)
    assert wait_until_done(instance, undisturbed).state == "succeeded"
    assert hashes(instance, disturbed) == hashes(instance, undisturbed)
    assert len(hashes(instance, disturbed)) == FEW_SHARDS
    invariants.check(instance.deployment, instance.database, ended=True)


def test_a_worker_that_wakes_late_publishes_no_shard(instance: Instance, tmp_path: Path) -> None:
    points = Failpoints(tmp_path, {"export.after_store": "hang"})
    instance.up("serve", PALIMPSEST_LEASE_SECONDS="2")
    first = instance.run("worker", env={**points.environment, "PALIMPSEST_LEASE_SECONDS": "2"})
    learn(instance)
    points.arm("export.after_store")
    export_id = export(instance)
    points.wait_until_reached("export.after_store")
    late = wait_for("the shard is being drawn", lambda: claimed(instance, 1))
    pid = int((late.worker or "").partition(":")[2])
    os.kill(pid, signal.SIGSTOP)
    wait_for("the worker is suspended", lambda: is_suspended(pid))
    instance.run("worker", env={"PALIMPSEST_LEASE_SECONDS": "2"})
    done = wait_until_done(instance, export_id)
    found = hashes(instance, export_id)
    os.kill(pid, signal.SIGCONT)
    points.release("export.after_store")
    assert stop(first) == 0  # it has tried to publish by then
    assert (done.state, done.images_done, len(found)) == ("succeeded", 6000, FEW_SHARDS)
    assert hashes(instance, export_id) == found
    invariants.check(instance.deployment, instance.database, ended=True)


def test_a_forget_while_an_export_runs_deletes_every_image_of_it(instance: Instance, tmp_path: Path) -> None:
    points = Failpoints(tmp_path, {"export.block#4": "hang"})
    instance.up("serve")
    instance.run("worker", env=points.environment)
    learn(instance)
    points.arm("export.block#4")
    export_id = export(instance)
    points.wait_until_reached("export.block#4")
    drawn = hashes(instance, export_id)
    instance.run("worker")
    forget = instance.submit("forget", labels=["1"])
    instance.succeeded(forget)
    assert wait_until_done(instance, export_id).state == "revoked"
    assert httpx2.get(f"{instance.url}/v1/jobs/{forget}/receipt").json()["code"] == "receipt_not_ready"
    points.release("export.block#4")
    receipt = f"{instance.url}/v1/jobs/{forget}/receipt"
    wait_for("the receipt is signed", lambda: httpx2.get(receipt).status_code == 200)
    artifacts = FolderArtifacts(instance.deployment.artifacts)
    assert len(drawn) == 1
    assert not any(artifacts.exists(sha256) for sha256 in drawn)
    assert hashes(instance, export_id) == []
    invariants.check(instance.deployment, instance.database, ended=True)


def test_two_workers_draw_an_export_together_as_one_does(instance: Instance) -> None:
    instance.up()
    learn(instance)
    first = export(instance)
    wait_until_done(instance, first)
    instance.run("worker")
    together = export(instance)
    assert wait_until_done(instance, together).state == "succeeded"
    assert hashes(instance, together) == hashes(instance, first)
    invariants.check(instance.deployment, instance.database, ended=True)
