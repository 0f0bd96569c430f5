"""GET /livez and /readyz: whether this process is alive, and whether it can serve requests."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text

from service.api.access import needs_no_key
from service.api.context import ApiContext, Context
from service.api.route import Route
from service.receipts.signing_keys import describe_loss
from service.registry import jobs, workers
from service.registry.errors import DatabaseMoved, DatabaseUnavailable
from service.registry.scrub import read_statistics
from service.registry.space import describe_lack

STALLED_QUEUE_SECONDS = 10.0
"""How long jobs may stay queued, with no worker taking one, before /readyz reports a missing worker."""
CHECK_SECONDS = 1.6
"""How long /readyz waits for its checks, which run at the same time."""

log = logging.getLogger(__name__)

router = APIRouter(tags=["health"], route_class=Route)


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """Whether requests are served: `degraded` if jobs may have to wait, `unavailable` if none is served."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]


@router.get("/livez")
@needs_no_key
async def live() -> Alive:
    """Answer that this process is alive, without checking what it depends on."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness}})
@needs_no_key
async def ready(context: Context, response: Response) -> Readiness:
    """Check everything this process depends on. The result of a check is `ok`, or what is wrong."""
    response.headers["Cache-Control"] = "no-store"
    results = await asyncio.gather(*(_running.result(name, check, context) for name, check in CHECKS.items()))
    checks = dict(zip(CHECKS, results, strict=True))
    if any(checks[name] != "ok" for name in REQUIRED):
        response.status_code = 503
        return Readiness(status="unavailable", checks=checks)
    degraded = any(state != "ok" for state in checks.values())
    return Readiness(status="degraded" if degraded else "ready", checks=checks)


class _RunningChecks:
    """Runs checks in threads of their own, so that one that hangs delays nothing else.

    A check that hangs, for example on a network disk, cannot be ended. Then it is not started a second time,
    and its thread does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[tuple[str, int], Future[str]] = {}

    async def result(self, name: str, check: Callable[[ApiContext], str], context: ApiContext) -> str:
        """Return the result of the check, or that it takes too long."""
        running = asyncio.wrap_future(self._start(name, check, context))
        done, _ = await asyncio.wait([running], timeout=CHECK_SECONDS)
        if not done:
            return f"does not answer within {CHECK_SECONDS:g} s"
        return running.result()

    def _start(self, name: str, check: Callable[[ApiContext], str], context: ApiContext) -> Future[str]:
        key = name, id(context)
        with self._lock:
            if key in self._running:
                return self._running[key]
            future: Future[str] = Future()
            self._running[key] = future

        def run() -> None:
            try:
                result = check(context)
            except Exception:
                log.exception("/readyz: the check of the %s failed with an unexpected error", name)
                result = "the check failed with an unexpected error; the log has the reason"
            with self._lock:
                del self._running[key]
            future.set_result(result)

        Thread(target=run, name=f"check of the {name}", daemon=True).start()
        return future


_running = _RunningChecks()


def _check_database(context: ApiContext) -> str:
    try:
        context.database.check_file()
        with context.database.reading() as session:
            session.execute(text("SELECT 1 FROM models LIMIT 1"))
    except DatabaseMoved as error:
        return error.message
    except DatabaseUnavailable:
        return "the database does not answer, or has no tables; check that it runs and is migrated"
    return "ok"


def _check_worker(context: ApiContext) -> str:
    """Judge by the job rows alone, because a worker may run on any machine."""
    try:
        with context.database.reading() as session:
            stalled = jobs.is_queue_stalled(session, seconds=STALLED_QUEUE_SECONDS)
            waiting = workers.count_waiting(session, seconds=STALLED_QUEUE_SECONDS)
    except DatabaseUnavailable:
        return "unknown, because the database does not answer"
    if waiting:
        found = "; ".join(f"{reason} ({count} queued)" for reason, count in waiting.items())
        return f"{found}; start one that can run them (`palimpsest worker`)"
    return "jobs are queued and no worker takes them; start `palimpsest worker`" if stalled else "ok"


def _check_artifacts(context: ApiContext) -> str:
    return context.artifacts.store.describe_fault() or "ok"


def _check_files(context: ApiContext) -> str:
    """Say what the scrub has found: some versions cannot be drawn or continued from, all others can."""
    try:
        faults = read_statistics(context.database).faults
    except DatabaseUnavailable:
        return "unknown, because the database does not answer"
    found = ", ".join(f"{count} {fault}" for fault, count in faults.items() if count)
    return f"artifacts are damaged ({found}); run `palimpsest doctor`" if found else "ok"


def _check_broker(context: ApiContext) -> str:
    from service.queue.messages import count_waiting_messages  # it imports Celery: service/queue/sender.py

    if count_waiting_messages(context.settings) is None:
        return "the broker does not answer; jobs are accepted, and start once it answers again"
    return "ok"


def _check_signing_key(context: ApiContext) -> str:
    if not context.settings.signer:
        return "ok"
    try:
        return describe_loss(context.database, context.settings.keys) or "ok"
    except DatabaseUnavailable:
        return "unknown, because the database does not answer"


def _check_space(context: ApiContext) -> str:
    return describe_lack(context.settings) or "ok"


CHECKS: dict[str, Callable[[ApiContext], str]] = {
    "database": _check_database,
    "artifacts": _check_artifacts,
    "broker": _check_broker,
    "worker": _check_worker,
    "files": _check_files,
    "space": _check_space,
    "signing key": _check_signing_key,
}
REQUIRED = ("database", "artifacts")
