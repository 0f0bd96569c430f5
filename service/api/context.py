"""The context that every endpoint works with: settings, database, artifacts, generator and catalog."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from service.api.access import NOBODY, Access, Caller
from service.api.rates import RateLimits
from service.api.slots import Slots
from service.api.streams import EventStreams
from service.api.threads import DatabaseThreads
from service.drawing.decoders import Generator
from service.hanging import BoundedCalls
from service.registry import audit
from service.registry.artifacts import PromptArtifacts
from service.registry.database import Database
from service.registry.statistics import RecentStatistics
from service.requests.catalog import Catalog
from service.requests.offers import with_offers
from service.settings import Settings


@dataclass(frozen=True)
class ApiContext:
    """What the endpoints of one API process share. `create_app` stores it in `app.state.context`."""

    settings: Settings
    database: Database
    database_threads: DatabaseThreads
    """Where a coroutine runs what uses the database. An endpoint that is a plain function runs there."""
    artifacts: PromptArtifacts
    disk: BoundedCalls
    """For what else is asked of the disks, which may hang."""
    generator: Generator
    statistics: RecentStatistics
    catalog: Catalog
    """What is built in. `find_catalog` adds what workers offer, and the uploaded datasets."""
    drawing: Slots
    """The threads that draw images."""
    uploads: Slots
    """The threads that unpack uploads."""
    streams: EventStreams
    """The streams of events that are being sent."""
    rates: RateLimits
    """How many requests each client may send."""
    wake_worker: Callable[[str, str], object]
    """Send the workers of a queue a wake-up message for the job of this id. (job id, queue). Call it after
    the job has been committed."""
    access: Access
    keys_in_flight: set[tuple[str, str]] = field(default_factory=set)
    """(project, idempotency key) of the requests that this process is answering. Used on the event loop."""
    caller: Caller = NOBODY
    """Who sent the request that the endpoint answers."""
    request_id: str | None = None

    @property
    def project(self) -> str:
        """The id of the project that the request is about. Nothing of another project may be shown."""
        return self.caller.project

    def find_catalog(self, session: Session) -> Catalog:
        """Return all that a request may name now, in the project that it is about."""
        return with_offers(self.catalog, session).with_uploads(session, self.project)

    def append_to_audit_log(self, session: Session, action: str, resource: str, **details: Any) -> None:
        """Record what the caller did, in the transaction that does it. See service/registry/audit.py."""
        audit.append(
            session,
            action,
            resource,
            actor=self.caller.key_id,
            project_id=self.project,
            request_id=self.request_id,
            details={name: value for name, value in details.items() if value is not None},
        )


async def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return replace(context, caller=request.state.caller, request_id=request.state.request_id)


Context = Annotated[ApiContext, Depends(_context)]
"""The type of an endpoint's parameter through which FastAPI passes it the ApiContext."""
