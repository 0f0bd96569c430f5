"""Whether the file of an SQLite database is whole and Palimpsest's, checked before anything changes it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import inspect

from service.registry.database import Database
from service.registry.errors import StoreUnusable
from service.registry.tables import Row
from service.urls import sqlite_file

MAGIC = b"SQLite format 3\0"
LARGEST_CHECKED_BYTES = 256 << 20
"""Larger files are checked by `palimpsest doctor` alone: the check reads the file, 1 s for 500 MB."""
ADVICE = "restore it from a backup, or move it away to start with an empty database"


def check_database_file(url: str, *, largest_bytes: int = LARGEST_CHECKED_BYTES) -> None:
    """Check the file of the database, if it is SQLite's and exists. Raises StoreUnusable."""
    file = sqlite_file(url)
    if file is None or not file.exists():
        return
    if not file.is_file():
        raise StoreUnusable(f"the database {file} is not a file; set PALIMPSEST_DATABASE_URL to a file")
    if not os.access(file, os.R_OK | os.W_OK) or not os.access(file.parent, os.W_OK | os.X_OK):
        raise StoreUnusable(f"the database {file} cannot be read and written; check its permissions")
    try:
        with file.open("rb") as content:
            start = content.read(len(MAGIC))
    except OSError as error:
        raise StoreUnusable(f"the database {file} cannot be read: {error.strerror}") from error
    if not start:
        return  # SQLite makes an empty file before it writes the first page
    if start != MAGIC:
        raise StoreUnusable(f"{file} is not an SQLite database: it is damaged or another file; {ADVICE}")
    if file.stat().st_size <= largest_bytes:
        _check_pages(file)


def check_owner(database: Database) -> None:
    """Check that a database without migrations has no tables. Raises StoreUnusable, DatabaseUnavailable."""
    with database.reading() as session:
        found = set(inspect(session.connection()).get_table_names())
    foreign = found if database.is_sqlite else found & set(Row.metadata.tables)
    if foreign and "alembic_version" not in found:
        raise StoreUnusable(
            f"the database is another program's: it has a table {min(foreign)!r} and no table of migrations; "
            "set PALIMPSEST_DATABASE_URL to a database of its own"
        )


def _check_pages(file: Path) -> None:
    try:
        with closing(sqlite3.connect(file, timeout=30)) as connection:
            [(found,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.OperationalError as error:  # locked, or no space for its index: not damaged
        raise StoreUnusable(f"the database {file} cannot be checked: {error}") from error
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise StoreUnusable(f"the database {file} is damaged ({found.splitlines()[0]}); {ADVICE}")
