"""The two clients: `Palimpsest` waits for answers, `AsyncPalimpsest` awaits them."""

import os
from types import TracebackType
from typing import Any, Self

import httpx2

from palimpsest.calls import AsyncResource, SyncResource
from palimpsest.requests import PROJECT_HEADER
from palimpsest.resources import aliases, exports, images, jobs, models, registry, versions
from palimpsest.transports import AsyncTransport, SyncTransport

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `palimpsest up` listens."""
TIMEOUT = 60.0
CONNECT_SECONDS = 10.0
MAX_RETRIES = 2


class Palimpsest:
    """A client of one server. Close it, or use it as a context manager.

        with Palimpsest() as client:
            client.models.create("numbers", dataset="digits")
            job = client.jobs.wait(client.models.learn("numbers", ["0", "1"]))
            client.images.draw("numbers", "0").save("zero.png")

    Every method raises a RequestRefused when the server answers with an error, and ServerUnreachable when
    there is no answer. Requests are sent again after an outage or a limit, where that does nothing twice.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        project: str | None = None,
        timeout: float = TIMEOUT,
        max_retries: int = MAX_RETRIES,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """base_url: by default that in PALIMPSEST_URL, or http://127.0.0.1:8000.

        api_key: by default that in PALIMPSEST_API_KEY, or none. project: the name of the project to work in;
        by default that of the key. timeout: seconds to wait for each answer. max_retries: how often a request
        is sent again at most. transport: replaces the network.
        """
        options = _options(base_url, api_key, project, timeout)
        self._http = httpx2.Client(transport=transport, **options)
        sender = SyncTransport(self._http, max_retries)
        self.models = Models(sender)
        self.jobs = Jobs(sender)
        self.versions = Versions(sender)
        self.aliases = Aliases(sender)
        self.images = Images(sender)
        self.samples = Samples(sender)
        self.exports = Exports(sender)
        self.datasets = Datasets(sender)
        self.catalog = Catalogs(sender)
        self.receipts = Receipts(sender)
        self.signing_keys = SigningKeys(sender)
        self.projects = Projects(sender)
        self.keys = Keys(sender)
        self.webhooks = Webhooks(sender)
        self.audit = Audit(sender)
        self.service = Service(sender)

    @property
    def base_url(self) -> str:
        """The address of the server."""
        return str(self._http.base_url).rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncPalimpsest:
    """The same client for asyncio and Trio: its methods are awaited, and its lists are async iterators.

    async with AsyncPalimpsest() as client:
        job = await client.jobs.wait(await client.models.learn("numbers", ["0", "1"]))
        async for version in client.versions.list("numbers"):
            print(version.number)
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        project: str | None = None,
        timeout: float = TIMEOUT,
        max_retries: int = MAX_RETRIES,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """The arguments are those of `Palimpsest`."""
        options = _options(base_url, api_key, project, timeout)
        self._http = httpx2.AsyncClient(transport=transport, **options)
        sender = AsyncTransport(self._http, max_retries)
        self.models = AsyncModels(sender)
        self.jobs = AsyncJobs(sender)
        self.versions = AsyncVersions(sender)
        self.aliases = AsyncAliases(sender)
        self.images = AsyncImages(sender)
        self.samples = AsyncSamples(sender)
        self.exports = AsyncExports(sender)
        self.datasets = AsyncDatasets(sender)
        self.catalog = AsyncCatalogs(sender)
        self.receipts = AsyncReceipts(sender)
        self.signing_keys = AsyncSigningKeys(sender)
        self.projects = AsyncProjects(sender)
        self.keys = AsyncKeys(sender)
        self.webhooks = AsyncWebhooks(sender)
        self.audit = AsyncAudit(sender)
        self.service = AsyncService(sender)

    @property
    def base_url(self) -> str:
        """The address of the server."""
        return str(self._http.base_url).rstrip("/")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _options(
    base_url: str | None, api_key: str | None, project: str | None, timeout: float
) -> dict[str, Any]:
    key = api_key or os.environ.get("PALIMPSEST_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if project is not None:
        headers[PROJECT_HEADER] = project
    return {
        "base_url": base_url or os.environ.get("PALIMPSEST_URL") or DEFAULT_URL,
        "headers": headers,
        "timeout": httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
    }


class Models(models.Models, SyncResource):
    __doc__ = models.Models.__doc__


class AsyncModels(models.Models, AsyncResource):
    __doc__ = models.Models.__doc__


class Jobs(jobs.Jobs, SyncResource):
    __doc__ = jobs.Jobs.__doc__


class AsyncJobs(jobs.Jobs, AsyncResource):
    __doc__ = jobs.Jobs.__doc__


class Versions(versions.Versions, SyncResource):
    __doc__ = versions.Versions.__doc__


class AsyncVersions(versions.Versions, AsyncResource):
    __doc__ = versions.Versions.__doc__


class Aliases(aliases.Aliases, SyncResource):
    __doc__ = aliases.Aliases.__doc__


class AsyncAliases(aliases.Aliases, AsyncResource):
    __doc__ = aliases.Aliases.__doc__


class Images(images.Images, SyncResource):
    __doc__ = images.Images.__doc__


class AsyncImages(images.Images, AsyncResource):
    __doc__ = images.Images.__doc__


class Samples(images.Samples, SyncResource):
    __doc__ = images.Samples.__doc__


class AsyncSamples(images.Samples, AsyncResource):
    __doc__ = images.Samples.__doc__


class Exports(exports.Exports, SyncResource):
    __doc__ = exports.Exports.__doc__


class AsyncExports(exports.Exports, AsyncResource):
    __doc__ = exports.Exports.__doc__


class Datasets(registry.Datasets, SyncResource):
    __doc__ = registry.Datasets.__doc__


class AsyncDatasets(registry.Datasets, AsyncResource):
    __doc__ = registry.Datasets.__doc__


class Catalogs(registry.Catalogs, SyncResource):
    __doc__ = registry.Catalogs.__doc__


class AsyncCatalogs(registry.Catalogs, AsyncResource):
    __doc__ = registry.Catalogs.__doc__


class Receipts(registry.Receipts, SyncResource):
    __doc__ = registry.Receipts.__doc__


class AsyncReceipts(registry.Receipts, AsyncResource):
    __doc__ = registry.Receipts.__doc__


class SigningKeys(registry.SigningKeys, SyncResource):
    __doc__ = registry.SigningKeys.__doc__


class AsyncSigningKeys(registry.SigningKeys, AsyncResource):
    __doc__ = registry.SigningKeys.__doc__


class Projects(registry.Projects, SyncResource):
    __doc__ = registry.Projects.__doc__


class AsyncProjects(registry.Projects, AsyncResource):
    __doc__ = registry.Projects.__doc__


class Keys(registry.Keys, SyncResource):
    __doc__ = registry.Keys.__doc__


class AsyncKeys(registry.Keys, AsyncResource):
    __doc__ = registry.Keys.__doc__


class Webhooks(registry.Webhooks, SyncResource):
    __doc__ = registry.Webhooks.__doc__


class AsyncWebhooks(registry.Webhooks, AsyncResource):
    __doc__ = registry.Webhooks.__doc__


class Audit(registry.Audit, SyncResource):
    __doc__ = registry.Audit.__doc__


class AsyncAudit(registry.Audit, AsyncResource):
    __doc__ = registry.Audit.__doc__


class Service(registry.Service, SyncResource):
    __doc__ = registry.Service.__doc__


class AsyncService(registry.Service, AsyncResource):
    __doc__ = registry.Service.__doc__
