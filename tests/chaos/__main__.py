"""Run the faults of one seed under load, restore everything, and check the rules."""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from threading import Event

import httpx2
from sqlalchemy import select

from service.registry.errors import DatabaseUnavailable
from service.registry.tables import UNFINISHED_STATES, JobRow, PurgeRow, ReceiptRow, Row
from tests import invariants
from tests.chaos.load import Client, Poller, Record, start
from tests.chaos.schedule import BACKINGS, make_schedule
from tests.chaos.stage import Stage, staged
from tests.invariants import Evidence

CLIENTS = 3
START_SECONDS = 180.0
TICK_SECONDS = 0.02


def main(arguments: list[str]) -> int:
    options = _parse(arguments)
    seed = random.randrange(10**6) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{options.backing}-{seed}-"))
    print(f"seed {seed}, {options.backing}, {options.seconds:g} s, in {folder}", flush=True)  # noqa: T201
    with staged(options.backing, folder) as stage:
        violations = run(stage, seed, options)
        if violations:
            shutil.copytree(stage.deployment.home, folder / "kept", ignore=shutil.ignore_patterns("filler"))
            _save_rows(stage, folder / "rows.json")
    for violation in violations:
        print(f"VIOLATION: {violation}")  # noqa: T201
    if violations:
        print(f"{len(violations)} violations; the log, the home folder and the rows are in {folder}")  # noqa: T201
        return 1
    shutil.rmtree(folder)
    return 0


def run(stage: Stage, seed: int, options: argparse.Namespace) -> list[str]:
    """Run the faults under load; return what was broken when everything had been restored."""
    faults = make_schedule(seed, options.backing, options.seconds)
    record, stop, give_up = Record(), Event(), Event()
    _wait_until_ready(stage)
    clients = [Client(number, stage.url, seed, record, stop, give_up) for number in range(CLIENTS)]
    threads = start(clients, Poller(stage.url, record, give_up))
    begun = time.monotonic()
    for fault in faults:
        while (elapsed := time.monotonic() - begun) < fault.at:
            stage.tick(elapsed)
            time.sleep(TICK_SECONDS)
        stage.tick(elapsed)  # a server may have taken long to start: first end what is over
        if options.verbose:
            print(fault, flush=True)  # noqa: T201
        stage.begin(fault)
    while (elapsed := time.monotonic() - begun) < options.seconds:
        stage.tick(elapsed)
        time.sleep(TICK_SECONDS)
    stop.set()
    stage.restore()
    violations = _wait_until_all_ended(stage, options.patience)
    give_up.set()
    for thread in threads:
        thread.join(30)
    if not violations:
        violations += invariants.find_drawable(stage.url, stage.database)
    stage.stop()
    evidence = Evidence(record.accepted, record.seen)
    violations += record.violations
    violations += invariants.find_violations(
        stage.deployment, stage.database, evidence, ended=True, swept=True
    )
    violations += _doubled(stage)
    if not record.accepted:
        violations.append("no job was accepted, so nothing was tested: the machine is too slow, or busy")
    _summarise(stage, record, len(faults), time.monotonic() - begun)
    return violations


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults happen")
    parser.add_argument("--seed", type=int, help="decides the faults; by default a new one")
    parser.add_argument("--backing", choices=sorted(BACKINGS), default="sqlite")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds in which all jobs must end")
    parser.add_argument("--verbose", action="store_true", help="print a line for every fault")
    return parser.parse_args(arguments)


def _wait_until_ready(stage: Stage) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        stage.tick(0.0)
        try:
            if httpx2.get(f"{stage.url}/livez", timeout=1).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(TICK_SECONDS)
    raise SystemExit(f"the service did not start; its log is {stage.log}")


def _wait_until_all_ended(stage: Stage, patience: float) -> list[str]:
    """Wait until no job is unfinished, no purge pending and no receipt unsigned."""
    deadline, quiet = time.monotonic() + patience, 0
    left: list[str] = ["nothing was read"]
    while time.monotonic() < deadline:
        stage.tick(float("inf"))
        try:
            left = _unfinished(stage)
        except DatabaseUnavailable as error:
            left = [f"the database does not answer: {error.reason}"]
        quiet = 0 if left else quiet + 1
        if quiet > 5 and _answers(stage):  # clients may still be answered, and a job be accepted, in between
            return []
        time.sleep(0.2)
    return [f"{patience:g} s after everything was restored: {line}" for line in left or ["no answer"]]


def _unfinished(stage: Stage) -> list[str]:
    with stage.database.reading() as session:
        jobs = session.scalars(select(JobRow).where(JobRow.state.in_(UNFINISHED_STATES))).all()
        unsigned = session.scalars(select(ReceiptRow.job_id).where(ReceiptRow.envelope.is_(None))).all()
        purges = session.scalars(
            select(PurgeRow.job_id)
            .join(JobRow, JobRow.id == PurgeRow.job_id)
            .where(PurgeRow.state != "done", JobRow.state == "succeeded")
        ).all()
    return [
        *(f"{job.id} is {job.public_state}, attempt {job.attempt}, {job.progress}" for job in jobs),
        *(f"the receipt of {job_id} is not signed" for job_id in unsigned),
        *(f"the purge of {job_id} is not done" for job_id in purges),
    ]


def _answers(stage: Stage) -> bool:
    try:
        return httpx2.get(f"{stage.url}/readyz", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def _doubled(stage: Stage) -> list[str]:
    """A request that was sent several times with one key made one job, besides a resize that follows it."""
    with stage.database.reading() as session:
        made = Counter(session.scalars(select(JobRow.request_id).where(JobRow.follows.is_(None))))
    return [f"request {name} made {count} jobs" for name, count in made.items() if name and count > 1]


def _save_rows(stage: Stage, file: Path) -> None:
    """Write the rows of every table, because the database ends with the run."""
    with stage.database.reading() as session:
        rows = {
            name: [dict(row._mapping) for row in session.execute(select(table))]
            for name, table in Row.metadata.tables.items()
        }
    file.write_text(json.dumps(rows, indent=1, default=str))


def _summarise(stage: Stage, record: Record, faults: int, seconds: float) -> None:
    with stage.database.reading() as session:
        jobs = session.scalars(select(JobRow)).all()
    states = Counter(job.state for job in jobs)
    codes = Counter((job.error or {}).get("code") for job in jobs if job.state == "failed")
    print(  # noqa: T201
        f"{faults} faults; {len(jobs)} jobs: {dict(states)}, failures: {dict(codes)}; most attempts "
        f"{max((job.attempt for job in jobs), default=0)}; answers: {dict(record.statuses)}, "
        f"{record.unanswered} unanswered, slowest {record.slowest_seconds:.1f} s; heads seen "
        f"{len({(one.model_id, one.number) for one in record.seen})}; process starts "
        f"{[role.restarts + 1 for role in stage.roles]}; {seconds:.0f} s in all"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
