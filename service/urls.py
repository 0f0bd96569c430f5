"""URLs of databases, brokers and buckets, and the files and folders that some of them name.

A path stands in a URL percent-encoded, so that every path a file system allows can be written in one: with a
`?`, a `%`, a space, a quote, a line break, or bytes that are not UTF-8. No error names any part of a URL but
its scheme, because the parts of a malformed one may be parts of a password.
"""

import os
import re
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

SQLITE, FOLDER = "sqlite:///", "folder://"
DATABASE_FORMS = "sqlite:///FILE or postgresql://USER@HOST/NAME"
BROKER_FORMS = "folder://FOLDER or redis://HOST/NUMBER"
BUCKET_FORM = "s3://BUCKET or s3://BUCKET/PREFIX"
ENCODE_PASSWORD = (
    "write special characters of the password as percent codes: @ as %40, / as %2F, ? as %3F, # as %23"
)


def sqlite_url(file: Path) -> str:
    """Return the URL of the SQLite database in this file."""
    return SQLITE + _encode(file)


def sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite database; None if the URL is of another kind of database."""
    return _decode(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def folder_url(folder: Path) -> str:
    """Return the URL of the broker that keeps its messages in this folder."""
    return FOLDER + _encode(folder)


def broker_folder(url: str) -> Path | None:
    """Return the folder of a broker that is a folder; None if the URL is of another kind of broker."""
    return _decode(url.removeprefix(FOLDER)) if url.startswith(FOLDER) else None


def normalise_database_url(url: str) -> str:
    """Return the URL with its driver, or with the absolute path of its file. Raises ValueError."""
    if url.startswith("sqlite"):
        return _normalise_sqlite(url)
    for plain in ("postgresql://", "postgres://"):  # as other tools write it
        if url.startswith(plain):
            url = "postgresql+psycopg://" + url.removeprefix(plain)
    _check_postgresql(url)
    return url


def normalise_broker_url(url: str) -> str:
    """Return the URL, with the absolute path of its folder if it has one. Raises ValueError."""
    folder = broker_folder(url)
    if folder is not None:
        if not folder.parts:
            raise ValueError(f"this broker names no folder; write {BROKER_FORMS}")
        return folder_url(folder.absolute())
    if not url.startswith(("redis://", "rediss://")):
        raise ValueError(f"this broker is not supported; write {BROKER_FORMS}")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError
    except ValueError:
        if "@" in url:
            raise ValueError(
                f"this is not a broker URL; write {BROKER_FORMS}, and {ENCODE_PASSWORD}"
            ) from None
        raise ValueError(
            f"the port of the broker is not a number below 65536; write {BROKER_FORMS}"
        ) from None
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        raise ValueError(f"the password ends too early in this broker URL; {ENCODE_PASSWORD}")
    return url


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Return the bucket of an artifact store, and the prefix of all names in it. Raises ValueError."""
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9_./-]*))?", url)
    parts = (found[2] or "").strip("/").split("/") if found else []
    if not found or any(part in (".", "..") for part in parts) or ("" in parts and parts != [""]):
        raise ValueError(
            f"this is not the URL of a bucket; write {BUCKET_FORM}, of letters, digits and `._-`; the "
            "address of the storage and the credentials are the environment variables AWS_*"
        )
    return found[1], "/".join(parts)


def normalise_artifacts_url(url: str) -> str:
    """Return the URL without a slash at its end; an empty one stays empty. Raises ValueError."""
    return "/".join(["s3:/", *filter(None, bucket_and_prefix(url))]) if url else ""


def _normalise_sqlite(url: str) -> str:
    file = sqlite_file(url)
    if file is None or not file.parts or file == Path(":memory:"):
        raise ValueError(f"this is not the URL of a database in a file; write {DATABASE_FORMS}")
    if "?" in url:
        raise ValueError("the URL of an SQLite database has no options; write a ? in the path as %3F")
    return sqlite_url(file.absolute())


def _check_postgresql(url: str) -> None:
    # Imported here: `palimpsest verify` reads its home folder from the settings, and runs without SQLAlchemy.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        advice = f", and {ENCODE_PASSWORD}" if "@" in url else ""
        raise ValueError(f"this is not a database URL; write {DATABASE_FORMS}{advice}") from None
    if parsed.drivername != "postgresql+psycopg":
        raise ValueError(f"this kind of database is not supported; use {DATABASE_FORMS}")
    if url.count("@") > 1 or "@" in f"{parsed.host}{parsed.database}":
        raise ValueError(f"the password ends too early in this database URL; {ENCODE_PASSWORD}")


def _encode(path: Path) -> str:
    return quote_from_bytes(os.fsencode(path), safe="/")


def _decode(encoded: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(os.fsencode(encoded))))
