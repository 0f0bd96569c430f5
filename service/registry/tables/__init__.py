"""The tables of the registry. Invariants are database constraints, so that no bug in the code breaks them."""

from service.registry.tables.access import ApiKeyRow, IdempotencyKeyRow, SessionRow
from service.registry.tables.base import ArtifactHash, Digest, Row, Timestamp, new_id
from service.registry.tables.datasets import DatasetDeletionRow, DatasetRow
from service.registry.tables.deployment import ArtifactFaultRow, AuditRow, FactRow
from service.registry.tables.erasures import (
    ImageErasureRow,
    ModelDeletionRow,
    PurgeReason,
    PurgeRow,
    ReceiptRow,
    VersionDeletionRow,
)
from service.registry.tables.events import EventType, JobEventRow
from service.registry.tables.exports import (
    UNFINISHED_EXPORTS,
    ExportFormat,
    ExportRow,
    ExportShardRow,
    ExportState,
)
from service.registry.tables.jobs import (
    CLAIMED_STATES,
    INDEPENDENT,
    UNFINISHED_STATES,
    Guarantee,
    JobOperation,
    JobRow,
    Level,
    RepeatedRequestRow,
    ReportRow,
    SnapshotRow,
)
from service.registry.tables.models import (
    AliasAction,
    AliasChangeRow,
    AliasRow,
    LabelRow,
    LabelStatus,
    ModelRow,
    Operation,
    SampleRow,
    SizePolicy,
    VersionRow,
)
from service.registry.tables.projects import DEFAULT_PROJECT, ProjectRow
from service.registry.tables.webhooks import WebhookDeliveryRow, WebhookRow
from service.registry.tables.workers import DrainMode, WorkerRow

__all__ = [
    "CLAIMED_STATES",
    "DEFAULT_PROJECT",
    "INDEPENDENT",
    "UNFINISHED_EXPORTS",
    "UNFINISHED_STATES",
    "AliasAction",
    "AliasChangeRow",
    "AliasRow",
    "ApiKeyRow",
    "ArtifactFaultRow",
    "ArtifactHash",
    "AuditRow",
    "DatasetDeletionRow",
    "DatasetRow",
    "Digest",
    "DrainMode",
    "EventType",
    "ExportFormat",
    "ExportRow",
    "ExportShardRow",
    "ExportState",
    "FactRow",
    "Guarantee",
    "IdempotencyKeyRow",
    "ImageErasureRow",
    "JobEventRow",
    "JobOperation",
    "JobRow",
    "LabelRow",
    "LabelStatus",
    "Level",
    "ModelDeletionRow",
    "ModelRow",
    "Operation",
    "ProjectRow",
    "PurgeReason",
    "PurgeRow",
    "ReceiptRow",
    "RepeatedRequestRow",
    "ReportRow",
    "Row",
    "SampleRow",
    "SessionRow",
    "SizePolicy",
    "SnapshotRow",
    "Timestamp",
    "VersionDeletionRow",
    "VersionRow",
    "WebhookDeliveryRow",
    "WebhookRow",
    "WorkerRow",
    "new_id",
]
