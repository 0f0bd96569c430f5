"""Build the HTTP application: its shared state, its routers, its error handlers and its middleware."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import (
    aliases,
    audit,
    catalog,
    datasets,
    deletions,
    events,
    examples,
    export_files,
    exports,
    health,
    images,
    jobs,
    keys,
    metrics,
    models,
    operations,
    pages,
    problems,
    projects,
    reference,
    reports,
    samples,
    session,
    signing_keys,
    versions,
    webhooks,
)
from service.api.access import WATCH_SECONDS, Access
from service.api.context import ApiContext
from service.api.image_answers import ImageAnswers
from service.api.middleware import RequestMiddleware
from service.api.openapi import complete_document
from service.api.origins import OriginMiddleware
from service.api.plain_requests import PlainRequests
from service.api.polls import PollAnswers, Polls
from service.api.rates import RateLimits
from service.api.slots import Slots
from service.api.space import require_space
from service.api.streams import EventStreams
from service.api.threads import DATABASE_THREADS, DatabaseThreads
from service.api.version_lookup import VersionLookup
from service.drawing.decoders import BUCKET_UNLOAD_SECONDS, UNLOAD_SECONDS, Generator
from service.drawing.image_cache import ImageCache
from service.hanging import BoundedCalls
from service.queue.sender import MessageSender
from service.registry import artifact_references, drawable_versions
from service.registry.artifacts import PromptArtifacts
from service.registry.database import Database
from service.registry.errors import DatabaseUnavailable
from service.registry.opening import open_prompt_artifacts
from service.registry.statistics import RecentStatistics
from service.requests.catalog import Catalog, read_catalog
from service.settings import Settings

RESOURCES = (
    models,
    deletions,
    operations,
    reports,
    versions,
    aliases,
    images,
    samples,
    exports,
    export_files,
    jobs,
    events,
    datasets,
    examples,
    catalog,
    projects,
    signing_keys,
    keys,
    webhooks,
    audit,
    session,
    health,
    metrics,
    pages,
    reference,
)
"""The modules whose routers make up the API. /openapi.json lists their routes in this order."""

RECORD_USES_SECONDS = 5.0
DISK_SECONDS = 1.0
"""How long a request waits for a disk: with what it waits for the database, it is answered within 2 s."""


def create_app(settings: Settings, *, offered: Catalog | None = None) -> FastAPI:
    """Build the application of one deployment. Tests pass a small catalog as `offered`."""
    database = Database(
        settings.database_url, wait_seconds=settings.database_wait_seconds, connections=DATABASE_THREADS
    )
    artifacts = open_prompt_artifacts(settings, BoundedCalls(DISK_SECONDS))
    generator = Generator(artifacts)
    threads = DatabaseThreads(database)
    access = Access(database, threads, settings)
    polls = Polls(database)
    version_lookup = VersionLookup(database)
    cache = ImageCache()
    streams = EventStreams(database, most=settings.max_streams)
    rates = RateLimits(
        per_second=settings.requests_per_second,
        per_second_of_loopback=settings.requests_per_second_of_loopback,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        background = [
            asyncio.create_task(_unload_purged_files(database, generator, artifacts)),
            asyncio.create_task(_drop_revoked_images(database, cache)),
            asyncio.create_task(_record_uses(access)),
            asyncio.create_task(_watch_keys(access)),
        ]
        yield
        for task in background:
            task.cancel()
        streams.close()
        polls.close()
        version_lookup.close()
        database.dispose()

    app = Application(
        title="Palimpsest",
        version="1",
        summary="A service for generative models that learn and forget labels on request.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load their scripts from another host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = ApiContext(
        settings=settings,
        database=database,
        database_threads=threads,
        artifacts=artifacts,
        disk=BoundedCalls(DISK_SECONDS),
        generator=generator,
        statistics=RecentStatistics(database),
        catalog=offered or read_catalog(),
        uploads=Slots("receiving uploads", threads=1, requests=settings.max_uploads),
        streams=streams,
        rates=rates,
        drawing=Slots("drawing images", threads=settings.drawing_threads, requests=settings.max_drawing),
        access=access,
        wake_worker=MessageSender(settings).wake_worker,
    )
    app.state.access = access
    app.state.streams = streams
    app.state.image_cache = cache
    for resource in RESOURCES:
        app.include_router(
            resource.router,
            dependencies=[Depends(require_space)],
        )
    problems.install_handlers(app)
    complete_document(app, [resource.router for resource in RESOURCES])
    app.put_before(lambda inner: OriginMiddleware(inner, settings))
    app.put_before(RequestMiddleware)
    frequent = (PollAnswers(polls), ImageAnswers(version_lookup, generator, cache))
    app.put_before(lambda inner: PlainRequests(inner, frequent, access, rates, settings))
    return app


class Application(FastAPI):
    """FastAPI with middleware before its own, which costs a frequent request more than its answer does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._first: ASGIApp = super().__call__
        self.add_exception_handler(Exception, _raise_again)

    def put_before(self, middleware: Callable[[ASGIApp], ASGIApp]) -> None:
        """Put middleware before all that there is."""
        self._first = middleware(self._first)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._first(scope, receive, send)


async def _raise_again(_: Request, error: Exception) -> Response:
    """Leave an unexpected error to RequestMiddleware. Starlette would answer it as plain text."""
    raise error


async def _unload_purged_files(database: Database, generator: Generator, artifacts: PromptArtifacts) -> None:
    """Now and then, remove decoders and copies of files that a purge has deleted from this process."""
    while True:
        await asyncio.sleep(BUCKET_UNLOAD_SECONDS if artifacts.store.is_bucket else UNLOAD_SECONDS)
        with suppress(DatabaseUnavailable, OSError):
            await run_in_threadpool(_unload_unreferenced, database, generator, artifacts)


async def _drop_revoked_images(database: Database, cache: ImageCache) -> None:
    """Every UNLOAD_SECONDS, remove the images of versions that may not be drawn from any more."""
    while True:
        await asyncio.sleep(UNLOAD_SECONDS)
        if cached := cache.versions():
            with suppress(DatabaseUnavailable):
                cache.drop(cached - await run_in_threadpool(drawable_versions.find_usable, database, cached))


async def _record_uses(access: Access) -> None:
    """Every few seconds, record when keys were last used: beside the requests, so that none waits for it."""
    while True:
        await asyncio.sleep(RECORD_USES_SECONDS)
        with suppress(DatabaseUnavailable):
            await run_in_threadpool(access.record_uses)


async def _watch_keys(access: Access) -> None:
    """Keep asking whether another process ended a key."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        with suppress(DatabaseUnavailable):
            await run_in_threadpool(access.watch)


def _unload_unreferenced(database: Database, generator: Generator, artifacts: PromptArtifacts) -> None:
    without_file = generator.find_without_file() | artifacts.find_copies_without_file()
    if without_file:
        with database.reading() as session:
            purged = without_file - artifact_references.find_referenced(session)
        generator.unload(purged)
        artifacts.drop_copies(purged)
