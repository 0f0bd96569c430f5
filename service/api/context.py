"""What every endpoint works with: settings, database, artifacts, generator and catalog."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from service.drawing.decoders import Generator
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.requests.catalog import Catalog
from service.settings import Settings


@dataclass(frozen=True)
class ApiContext:
    """What one API process serves from. `create_app` builds it once, and keeps it in `app.state.context`."""

    settings: Settings
    database: Database
    artifacts: FolderArtifacts
    generator: Generator
    catalog: Catalog
    """Without the uploaded datasets: `catalog.with_uploads(session)` adds those."""
    wake_worker: Callable[[str], object]
    """Sends the wake-up message of the job of that id, after the transaction that recorded it."""


async def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return context


Context = Annotated[ApiContext, Depends(_context)]
"""Declares a parameter of an endpoint that is given the process's ApiContext."""
