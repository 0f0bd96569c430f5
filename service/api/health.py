"""GET /livez and /readyz: whether this process lives, and whether it can serve."""

import os
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text

from service.api.dependencies import Here, Instance
from service.api.route import Route
from service.queue.messages import messages_waiting
from service.registry import jobs
from service.registry.errors import DatabaseUnavailable

UNHEARD_SECONDS = 10.0

router = APIRouter(tags=["health"], route_class=Route)


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """`ready`; `degraded`: it serves, but something below is away; `unavailable`: it cannot serve."""

    status: Literal["ready", "degraded", "unavailable"]
    checks: dict[str, str]


@router.get("/livez")
async def live() -> Alive:
    """The process answers; it asks nothing of anything else."""
    return Alive()


@router.get("/readyz", responses={503: {"model": Readiness}})
def ready(here: Here, response: Response) -> Readiness:
    """What this process needs, each with `ok` or the reason why not."""
    response.headers["Cache-Control"] = "no-store"
    needed = {"database": _database(here), "artifacts": _artifacts(here)}
    wanted = {"broker": _broker(here), "worker": _worker(here)}
    if any(state != "ok" for state in needed.values()):
        response.status_code = 503
        return Readiness(status="unavailable", checks={**needed, **wanted})
    degraded = any(state != "ok" for state in wanted.values())
    return Readiness(status="degraded" if degraded else "ready", checks={**needed, **wanted})


def _database(here: Instance) -> str:
    try:
        with here.database.reading() as session:
            session.execute(text("SELECT 1 FROM models LIMIT 1"))
    except DatabaseUnavailable:
        return "the database does not answer, or `palimpsest migrate` has not been run"
    return "ok"


def _worker(here: Instance) -> str:
    """Told by the rows alone: wherever workers run, they take jobs."""
    try:
        with here.database.reading() as session:
            unheard = jobs.nobody_hears(session, seconds=UNHEARD_SECONDS)
    except DatabaseUnavailable:
        return "unknown while the database is away"
    return "jobs are queued and no worker takes them; start `palimpsest worker`" if unheard else "ok"


def _artifacts(here: Instance) -> str:
    folder = here.settings.artifacts
    present = folder if folder.exists() else folder.parent  # the first version creates it
    return "ok" if os.access(present, os.R_OK | os.W_OK | os.X_OK) else "the artifact folder cannot be used"


def _broker(here: Instance) -> str:
    if messages_waiting(here.settings) is None:
        return "the broker does not answer; jobs are accepted and start when it is back"
    return "ok"
