"""The HTTP application: one include line per resource."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from service.api import (
    catalog,
    datasets,
    health,
    images,
    jobs,
    keys,
    models,
    operations,
    pages,
    problems,
    reports,
    samples,
    versions,
)
from service.api.dependencies import Instance
from service.api.envelope import Envelope
from service.api.openapi import document
from service.drawing.decoders import FORGET_SECONDS, Generator
from service.queue.messages import wake_worker
from service.registry import artifact_references
from service.registry.artifacts import FolderArtifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.requests.catalog import Catalog, read_catalog
from service.settings import Settings

RESOURCES = (
    models,
    operations,
    reports,
    versions,
    images,
    samples,
    jobs,
    datasets,
    catalog,
    keys,
    health,
    pages,
)


def create_app(deployment: Settings, *, offered: Catalog | None = None) -> FastAPI:
    """The application of one deployment; `offered` replaces the committed catalog."""
    database = Database(deployment.database_url)
    artifacts = FolderArtifacts(deployment.artifacts)
    generator = Generator(artifacts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(_forget_purged(database, generator))
        yield
        forgetting.cancel()
        database.dispose()

    app = FastAPI(
        title="Palimpsest",
        version="1",
        summary="Generative models that learn and forget on request.",
        lifespan=lifespan,
        docs_url=None,  # the stock pages load their scripts from another host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.instance = Instance(
        settings=deployment,
        database=database,
        artifacts=artifacts,
        generator=generator,
        catalog=offered or read_catalog(),
        wake=partial(wake_worker, deployment=deployment),
    )
    for resource in RESOURCES:
        app.include_router(resource.router, responses=problems.refusals(406, 422, 500, 503))
    problems.install(app)
    document(app)
    app.add_middleware(Envelope)
    return app


async def _forget_purged(database: Database, generator: Generator) -> None:
    """Beside the requests: a decoder that no row refers to any more leaves this process's memory too."""
    while True:
        await asyncio.sleep(FORGET_SECONDS)
        with suppress(DatabaseUnavailable):
            await run_in_threadpool(_look_for_purged, database, generator)


def _look_for_purged(database: Database, generator: Generator) -> None:
    away = generator.without_file()
    if away:
        with database.reading() as session:
            generator.forget(away - artifact_references.referred_to(session))
