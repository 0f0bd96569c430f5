"""The metrics of a process, for Prometheus: `GET /metrics` shows them, with the state of the queue.

Counters begin at zero when the process starts. What all processes share, such as the length of the queue, is
read from the database when the metrics are requested (service/api/metrics.py).
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

LONG_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
SHORT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)

REQUEST_SECONDS = Histogram(
    "palimpsest_http_request_seconds",
    "How long requests took until their answer was complete.",
    ["method", "route", "status"],
    buckets=SHORT_SECONDS,
    registry=REGISTRY,
)
DRAW_SECONDS = Histogram(
    "palimpsest_draw_seconds",
    "How long it took to draw the images of one label for one request.",
    buckets=SHORT_SECONDS,
    registry=REGISTRY,
)
DECODER_USES = Counter(
    "palimpsest_decoder_uses",
    "How often a decoder was needed: `cache` if it was loaded already, `store` if it had to be read.",
    ["source"],
    registry=REGISTRY,
)
JOBS_ENDED = Counter(
    "palimpsest_jobs_ended",
    "Jobs whose end this process's sweeper recorded.",
    ["operation", "state"],
    registry=REGISTRY,
)
JOB_ATTEMPTS = Histogram(
    "palimpsest_job_attempts",
    "Attempts that a job took until it ended.",
    buckets=(1, 2, 3, 5, 10),
    registry=REGISTRY,
)
JOB_WAIT_SECONDS = Histogram(
    "palimpsest_job_wait_seconds",
    "How long a job waited until a worker first claimed it.",
    buckets=LONG_SECONDS,
    registry=REGISTRY,
)
JOB_RUN_SECONDS = Histogram(
    "palimpsest_job_run_seconds",
    "How long a job took from its first claim to its end.",
    ["operation"],
    buckets=LONG_SECONDS,
    registry=REGISTRY,
)
EXPORTED_IMAGES = Counter(
    "palimpsest_exported_images",
    "Images in the shards that this worker published.",
    ["format"],
    registry=REGISTRY,
)
EXPORTS_ENDED = Counter(
    "palimpsest_exports_ended",
    "Exports whose end this process recorded.",
    ["state"],
    registry=REGISTRY,
)
TAKEOVERS = Counter(
    "palimpsest_job_takeovers",
    "Jobs that this process's sweeper took back because the lease of their worker had ended.",
    registry=REGISTRY,
)
LAST_SWEEP = Gauge(
    "palimpsest_last_sweep_timestamp_seconds",
    "When this process's sweeper last swept, in seconds since 1970.",
    registry=REGISTRY,
)
PUBLISH_SECONDS = Histogram(
    "palimpsest_publish_seconds",
    "How long a worker took to store the files of a version and to publish it.",
    buckets=SHORT_SECONDS,
    registry=REGISTRY,
)
