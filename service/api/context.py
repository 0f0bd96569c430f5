"""The context that every endpoint works with: settings, database, artifacts, generator and catalog."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import Depends, Request

from service.api.access import NOBODY, Access, Caller
from service.api.polls import Polls
from service.api.rates import RateLimits
from service.api.slots import Slots
from service.drawing.decoders import Generator
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.statistics import RecentStatistics
from service.requests.catalog import Catalog
from service.settings import Settings


@dataclass(frozen=True)
class ApiContext:
    """What the endpoints of one API process share. `create_app` stores it in `app.state.context`."""

    settings: Settings
    database: Database
    artifacts: FolderArtifacts
    generator: Generator
    statistics: RecentStatistics
    catalog: Catalog
    """It lacks the uploaded datasets: `catalog.with_uploads(session, project)` adds them."""
    drawing: Slots
    """The threads that draw images."""
    uploads: Slots
    """The threads that unpack uploads."""
    polls: Polls
    rates: RateLimits
    """How many requests each client may send."""
    wake_worker: Callable[[str], object]
    """Send the workers a wake-up message for the job of this id. Call it after the job has been committed."""
    access: Access
    keys_in_flight: set[tuple[str, str]] = field(default_factory=set)
    """(project, idempotency key) of the requests that this process is answering. Used on the event loop."""
    caller: Caller = NOBODY
    """Who sent the request that the endpoint answers."""

    @property
    def project(self) -> str:
        """The id of the project that the request is about. Nothing of another project may be shown."""
        return self.caller.project


async def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return replace(context, caller=request.state.caller)


Context = Annotated[ApiContext, Depends(_context)]
"""The type of an endpoint's parameter through which FastAPI passes it the ApiContext."""
