"""Projects: what models, datasets, samples and keys belong to."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from service.registry.database import now
from service.registry.tables.base import Id, Name, Row, Timestamp

DEFAULT_PROJECT = "prj_default"
"""The id of the project `default`, which a request means if it names no other. The migration creates it."""


class ProjectRow(Row):
    """A project: what models, datasets, samples and keys belong to. It sees nothing of other projects."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(Name, unique=True)
    created_at: Mapped[datetime] = mapped_column(Timestamp, default=now())
