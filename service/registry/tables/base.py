"""What all tables share: their base class, their types of columns, and new ids."""

from datetime import UTC, datetime

from sqlalchemy import JSON, DateTime, Dialect, MetaData, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase
from ulid import ULID


def new_id(prefix: str) -> str:
    """Return a new id: the prefix and a ULID in Crockford base32. Ids sort by the time they were made."""
    return f"{prefix}_{ULID()}"


class Timestamp(TypeDecorator[datetime]):
    """A time with its zone. Values are read in UTC from every database (SQLite stores no zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class ArtifactHash(TypeDecorator[str]):
    """The sha256 of an artifact that the row needs. Every column that holds one must have this type.

    artifact_references.py finds the artifacts that must not be deleted by looking for columns of this type.
    """

    impl = String(64)
    cache_ok = True


class Digest(TypeDecorator[str]):
    """A sha256 that names no artifact which the row needs."""

    impl = String(64)
    cache_ok = True


Json = JSON(none_as_null=True)
Name = String(200)
Id = String(40)


class Row(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
