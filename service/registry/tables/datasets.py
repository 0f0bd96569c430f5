"""Uploaded datasets."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import ArtifactHash, Json, Name, Row, Timestamp
from service.registry.tables.projects import DEFAULT_PROJECT


class DatasetRow(Row):
    """A dataset that a client uploaded. It never changes."""

    __tablename__ = "datasets"

    project_id: Mapped[str] = mapped_column(
        ForeignKey("projects.id"), primary_key=True, default=DEFAULT_PROJECT
    )
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    images: Mapped[dict[str, int]] = mapped_column(Json)
    """{label: number of images}, in the order in which their pixels are stored."""
    sha256: Mapped[str] = mapped_column(ArtifactHash)
    """The artifact that holds the 784 bytes of every image, label after label."""
    label_digests: Mapped[dict[str, str] | None] = mapped_column(Json)
    """{label: a hash of its images, whatever their order}. Null for uploads of earlier releases."""
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
