"""GET /livez and /readyz: whether this process is alive, and whether it can serve requests."""

import os
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text

from service.api.context import ApiContext, Context
from service.api.route import Route
from service.queue.messages import count_waiting_messages
from service.registry import jobs
from service.registry.errors import DatabaseUnavailable

UNTAKEN_SECONDS = 10.0
"""How long jobs may be queued without a worker taking one before /readyz says that there is no worker."""

router = APIRouter(tags=["health"], route_class=Route)


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """`degraded`: requests are served, but jobs may not be run. `unavailable`: no request is served."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]


@router.get("/livez")
async def live() -> Alive:
    """Answer at once: nothing but this process is looked at."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness}})
def ready(context: Context, response: Response) -> Readiness:
    """Check everything this process depends on. Each check is `ok`, or says what is wrong."""
    response.headers["Cache-Control"] = "no-store"
    required = {"database": _check_database(context), "artifacts": _check_artifacts(context)}
    optional = {"broker": _check_broker(context), "worker": _check_worker(context)}
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
        return "the database does not answer, or `palimpsest migrate` has not been run"
    return "ok"


def _check_worker(context: ApiContext) -> str:
    """Look at the job rows only: a worker may run on any machine, but it takes its jobs from there."""
    try:
        with context.database.reading() as session:
            untaken = jobs.is_queue_stalled(session, seconds=UNTAKEN_SECONDS)
    except DatabaseUnavailable:
        return "unknown while the database is away"
    return "jobs are queued and no worker takes them; start `palimpsest worker`" if untaken else "ok"


def _check_artifacts(context: ApiContext) -> str:
    folder = context.settings.artifacts
    present = folder if folder.exists() else folder.parent  # the folder is created with the first artifact
    return "ok" if os.access(present, os.R_OK | os.W_OK | os.X_OK) else "the artifact folder cannot be used"


def _check_broker(context: ApiContext) -> str:
    if count_waiting_messages(context.settings) is None:
        return "the broker does not answer; jobs are accepted and start when it is back"
    return "ok"
