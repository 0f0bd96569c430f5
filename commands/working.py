"""Run the workers of a machine, and ask workers to end. Imports nothing of the API."""

import os
import socket
import time
from contextlib import suppress

import typer

from commands.deployment import loaded_deployment, open_database
from commands.failure import fail
from service import early_signals
from service.process.stopping import stop_on_signals
from service.process.worker_group import run_workers
from service.process.worker_launch import (
    check_worker_package,
    count_gpus,
    plan_workers,
    worker_command,
    worker_environment,
)
from service.queue_names import parse_queues
from service.registry import store_identity, workers
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.opening import open_artifacts
from service.registry.tables import DrainMode

POLL_SECONDS = 0.5


def work(*, queues: str | None, device: str | None) -> None:
    """Replace this process with a worker; on a machine with several GPUs, run one worker for each."""
    with loaded_deployment() as deployment:
        try:
            given = {"queues": None if queues is None else parse_queues(queues), "device": device}
        except ValueError as error:
            fail(f"--queues: {error}", 2)
        deployment = deployment.model_copy(update={name: one for name, one in given.items() if one})
        database = open_database(deployment)
        with suppress(DatabaseUnavailable):  # the worker checks it again before its first job
            store_identity.check_store(database, open_artifacts(deployment))
        check_worker_package()
        planned = plan_workers(deployment, lambda: count_gpus(worker_environment(deployment)))
        if len(planned) > 1:
            run_workers(planned, database, stop_on_signals())
            return
        database.dispose()
        command = worker_command()
        early_signals.hold_sigterm()  # until the worker handles it
        os.execve(command[0], command, worker_environment(deployment))


def drain(
    worker: str | None, *, everywhere: bool, hand_back: bool, wait: bool, timeout: float | None
) -> None:
    """Ask workers to take no more jobs and to end; with `wait`, return when they have ended."""
    with loaded_deployment() as deployment:
        database = open_database(deployment)
        mode: DrainMode = "hand_back" if hand_back else "finish"
        with database.transaction() as session:
            running = [row.name for row in workers.list_live(session)]
            names = _choose(running, worker, everywhere=everywhere)
            workers.request_drain(session, names, mode)
        typer.echo(f"asked to end: {', '.join(names)}")
        if wait:
            _wait_for_end(database, names, timeout)


def _choose(running: list[str], worker: str | None, *, everywhere: bool) -> list[str]:
    """Return the names of the workers that are meant."""
    if worker is not None:
        if worker not in running:
            fail(f"no worker {worker} runs; running: {', '.join(sorted(running)) or 'none'}")
        return [worker]
    here = socket.gethostname()
    names = running if everywhere else [name for name in running if name.rpartition(":")[0] == here]
    if not names:
        elsewhere = f"; elsewhere: {', '.join(sorted(running))}" if running else ""
        fail(f"no worker runs {'at all' if everywhere else f'on this machine, {here}'}{elsewhere}")
    return names


def _wait_for_end(database: Database, names: list[str], timeout: float | None) -> None:
    """Return once none of these workers runs any more. One that was started again under its name counts not.

    It goes on while the database does not answer.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    left = names
    while left:
        with suppress(DatabaseUnavailable), database.reading() as session:
            left = [row.name for row in workers.list_live(session) if row.name in names and row.drain]
        if left and deadline is not None and time.monotonic() > deadline:
            fail(f"still running after {timeout:g} s: {', '.join(left)}; they end after their jobs")
        if left:
            time.sleep(POLL_SECONDS)
    typer.echo("all have ended")
