"""Refuse new work while less space is free than the reserve (PALIMPSEST_RESERVE_BYTES).

Reading, drawing, cancelling and forgetting go on: forget requests are what the reserve is for.
"""

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from service.api.context import ApiContext, Context
from service.registry.errors import StorageFull
from service.registry.space import describe_lack

STORING_METHODS = ("POST", "PUT")
ALLOWED = ("/forget", "/samples", "/cancel", "/retry", "/session", "/rollback", "/aliases/{alias}")
"""The ends of the paths of requests that are accepted all the same: they store a row at most. A retry
of a job that is no forget is refused by its endpoint."""


async def require_space(request: Request, context: Context) -> None:
    """Raise StorageFull if the request would store something new and there is too little space."""
    if request.method not in STORING_METHODS or request.scope["route"].path.endswith(ALLOWED):
        return
    if lack := await run_in_threadpool(find_lack, context):
        raise StorageFull(lack)


def find_lack(context: ApiContext) -> str | None:
    """Say where there is too little space; None if there is enough, and if a disk hangs: /readyz says so."""
    try:
        return context.disk.call(describe_lack, context.settings)
    except TimeoutError:
        return None
