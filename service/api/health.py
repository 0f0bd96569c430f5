"""GET /livez and /readyz: whether this process is alive, and whether it can serve requests."""

import os
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text

from service.api.access import needs_no_key
from service.api.context import ApiContext, Context
from service.api.route import Route
from service.queue.messages import count_waiting_messages
from service.registry import jobs
from service.registry.errors import DatabaseUnavailable
from service.registry.scrub import read_statistics
from service.registry.space import describe_lack

STALLED_QUEUE_SECONDS = 10.0
"""How long jobs may stay queued, with no worker taking one, before /readyz reports a missing worker."""

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
def ready(context: Context, response: Response) -> Readiness:
    """Check everything this process depends on. The result of a check is `ok`, or what is wrong."""
    response.headers["Cache-Control"] = "no-store"
    required = {"database": _check_database(context), "artifacts": _check_artifacts(context)}
    optional = {
        "broker": _check_broker(context),
        "worker": _check_worker(context),
        "files": _check_files(context),
        "space": describe_lack(context.settings) or "ok",
    }
    if any(state != "ok" for state in required.values()):
        response.status_code = 503
        return Readiness(status="unavailable", checks={**required, **optional})
    degraded = any(state != "ok" for state in optional.values())
    return Readiness(status="degraded" if degraded else "ready", checks={**required, **optional})


def _check_database(context: ApiContext) -> str:
    try:
        with context.database.reading() as session:
            session.execute(text("SELECT 1 FROM models LIMIT 1"))
    except DatabaseUnavailable:
        return "the database does not answer, or has no tables; check that it runs and is migrated"
    return "ok"


def _check_worker(context: ApiContext) -> str:
    """Judge by the job rows alone, because a worker may run on any machine."""
    try:
        with context.database.reading() as session:
            stalled = jobs.is_queue_stalled(session, seconds=STALLED_QUEUE_SECONDS)
    except DatabaseUnavailable:
        return "unknown, because the database does not answer"
    return "jobs are queued and no worker takes them; start `palimpsest worker`" if stalled else "ok"


def _check_artifacts(context: ApiContext) -> str:
    folder = context.settings.artifacts
    present = folder if folder.exists() else folder.parent  # the folder is created with the first artifact
    if os.access(present, os.R_OK | os.W_OK | os.X_OK):
        return "ok"
    return "the artifact folder cannot be read and written; check its permissions"


def _check_files(context: ApiContext) -> str:
    """Say what the scrub has found: some versions cannot be drawn or continued from, all others can."""
    try:
        faults = read_statistics(context.database).faults
    except DatabaseUnavailable:
        return "unknown, because the database does not answer"
    found = ", ".join(f"{count} {fault}" for fault, count in faults.items() if count)
    return f"artifacts are damaged ({found}); run `palimpsest doctor`" if found else "ok"


def _check_broker(context: ApiContext) -> str:
    if count_waiting_messages(context.settings) is None:
        return "the broker does not answer; jobs are accepted, and start once it answers again"
    return "ok"
