"""GET /metrics: the metrics of this process and the state of the queue, in the format of Prometheus."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.route import Route
from service.metrics import REGISTRY
from service.registry.errors import DatabaseUnavailable
from service.registry.statistics import QueueStatistics

router = APIRouter(tags=["health"], route_class=Route)


class MetricsResponse(Response):
    media_type = CONTENT_TYPE_PLAIN_0_0_4


@router.get("/metrics", response_class=MetricsResponse)
@requires("read")
def get_metrics(context: Context) -> MetricsResponse:
    """Read all metrics. If the database does not answer, its figures are missing and `..._up` is 0.

    Where a key is needed, it must be one of the whole deployment, because the figures count every project.
    """
    context.caller.require_deployment()
    shared = CollectorRegistry()
    shared.register(_DatabaseCollector(context))
    return MetricsResponse(generate_latest(REGISTRY) + generate_latest(shared))


class _DatabaseCollector(Collector):
    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            found = self._context.statistics.read()
        except DatabaseUnavailable:
            yield _gauge("palimpsest_database_up", "Whether the database answers.", 0)
            return
        yield _gauge("palimpsest_database_up", "Whether the database answers.", 1)
        yield _gauges("palimpsest_jobs", "Unfinished jobs.", "state", found.jobs.items())
        yield _gauge(
            "palimpsest_queue_age_seconds",
            "How long the oldest queued job that could run has waited.",
            found.queue_age_seconds,
        )
        yield from _queues(found.queues)
        yield _gauge("palimpsest_models", "Models that are not deleted.", found.models)
        yield _gauge("palimpsest_versions", "Published versions.", found.versions)
        yield _gauge(
            "palimpsest_receipts_unsigned", "Receipts that wait to be signed.", found.receipts_unsigned
        )
        yield _gauge(
            "palimpsest_purges_pending", "Purges whose files are not all deleted.", found.purges_pending
        )
        yield _gauge(
            "palimpsest_dataset_deletions_pending",
            "Deletions of uploaded images whose files are not all deleted.",
            found.dataset_deletions_pending,
        )
        yield _gauge(
            "palimpsest_exports_unfinished", "Exports that have not ended.", found.exports_unfinished
        )
        yield _gauge(
            "palimpsest_exports_to_clear",
            "Exports without a result, or deleted, whose files are not all deleted.",
            found.exports_to_clear,
        )
        yield _gauges(
            "palimpsest_artifact_faults", "Artifacts found damaged.", "fault", found.artifact_faults.items()
        )
        with suppress(OSError):
            usage = shutil.disk_usage(self._context.settings.home)
            yield _gauge("palimpsest_disk_free_bytes", "Free bytes where the home folder is.", usage.free)


QUEUE_GAUGES = {
    "palimpsest_queued_jobs": ("queued", "Queued jobs."),
    "palimpsest_queue_demand": (
        "demand",
        "Jobs that run or could run now: how many workers of the queue would have work.",
    ),
    "palimpsest_queue_wait_seconds": (
        "wait_seconds",
        "How long the oldest queued job of the queue that could run has waited.",
    ),
    "palimpsest_workers": ("workers", "Workers that live and serve the queue."),
}
"""{gauge by queue: (field of its statistics, description)}."""


def _queues(found: Mapping[str, QueueStatistics]) -> Iterator[GaugeMetricFamily]:
    for name, (field, description) in QUEUE_GAUGES.items():
        values = ((queue, float(getattr(one, field))) for queue, one in found.items())
        yield _gauges(name, description, "queue", values)


def _gauge(name: str, description: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, description, value=value)


def _gauges(
    name: str, description: str, label: str, values: Iterable[tuple[str, float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, description, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family
