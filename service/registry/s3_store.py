"""A bucket of S3 storage as a store. The only module that knows S3.

obstore reads and writes, and finds its address and its credentials in the environment (AWS_*). It has no
requests for old versions of objects and for unfinished uploads, and signs no queries. `_SignedRequests` makes
these.

A bucket may keep old versions. So a deletion deletes each version of an object, the current one last, and
says of which ones the bucket refused it: an old version under Object Lock, or without the permission.
"""

import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from typing import Any
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import httpx2
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as Bucket

from service.durable import UNFINISHED
from service.registry.errors import StoreUnusable
from service.registry.store import PIECE_BYTES, Stored, StoreFailed

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
"""How long the bucket may send nothing while something is read, listed or deleted."""
WRITE_SECONDS = 60.0
"""How long a request may take that writes a file, or a part of one."""
PART_BYTES = 8 << 20
"""A larger file is written in parts of this size ..."""
PARTS_AT_ONCE = 4
RETRIES = 2
"""How often a request is repeated at once. Jobs and sweeps try again later."""
DELETING_THREADS = 8
PROBE = "store-id"
"""A file that every store in use has."""

FULL = {"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage", "507"}
"""What S3 servers answer that have no space left. The protocol has no code for it."""
UNKNOWN = {"NotImplemented", "MethodNotAllowed", "501", "405"}
"""What S3 servers answer that keep no old versions."""
BAD_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
"""The S3 error codes of credentials that may do nothing, unlike AccessDenied."""
MISSING = {"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "404"}

_HTTP = httpx2.Client(timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS))


class S3Store:
    """The files in a bucket under a prefix."""

    is_bucket = True

    def __init__(self, bucket: str, prefix: str = "") -> None:
        """prefix: of the names of all objects, without a slash at either end."""
        self._bucket, self._prefix = bucket, prefix
        self._reading = self._open(read_timeout=ANSWER_SECONDS, timeout=3600.0)
        self._writing = self._open(timeout=WRITE_SECONDS)
        self._signed = _SignedRequests(bucket, f"{prefix}/" if prefix else "")

    @property
    def place(self) -> str:
        return f"the bucket s3://{self._bucket}" + (f"/{self._prefix}" if self._prefix else "")

    def write(self, name: str, data: bytes | Iterable[bytes], *, replace: bool = True) -> None:
        with _translated():
            if replace:
                obstore.put(self._writing, name, data, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
                return
            try:
                obstore.put(self._writing, name, data, mode="create")
            except AlreadyExistsError:
                return

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        options: Any = {}
        if length == 0:
            return
        if length is not None:
            options = {"range": (offset, offset + length)}
        elif offset:
            options = {"range": {"offset": offset}}
        with _translated():
            for piece in obstore.get(self._reading, name, options=options).stream(PIECE_BYTES):
                yield bytes(piece)

    def find(self, name: str) -> Stored | None:
        if UNFINISHED in name:
            return next((one for one in self._signed.uploads(_split(name)[0]) if one.name == name), None)
        try:
            with _translated():
                return _stored(obstore.head(self._reading, name))
        except FileNotFoundError:
            return None

    def renew(self, name: str) -> bool:
        return True  # who put it looks again, in the transaction that adds the row which needs it

    def delete(self, names: Collection[str]) -> dict[str, str]:
        if not names:
            return {}
        with ThreadPoolExecutor(min(DELETING_THREADS, len(names))) as threads:
            reasons = list(threads.map(self._delete, names))
        return {name: reason for name, reason in zip(names, reasons, strict=True) if reason is not None}

    def list(self, under: str = "", *, leftovers: bool = False) -> Iterator[Stored]:
        prefix = f"{under}/" if under else ""
        if not leftovers:
            yield from self._list_current(prefix)
            return
        try:
            for name, versions in groupby(self._signed.versions(prefix), lambda version: version.name):
                yield _newest(name, list(versions))
        except Refused:
            yield from self._list_current(prefix)
        try:
            yield from self._signed.uploads(prefix)
        except Refused:
            return

    def link(self, name: str, *, seconds: float) -> str | None:
        with _translated():
            return str(obstore.sign(self._reading, "GET", name, timedelta(seconds=seconds)))

    def is_cause_of(self, error: Exception) -> bool:
        return isinstance(error.__cause__, StoreFailed)

    def check(self) -> None:
        if fault := self.describe_fault():
            raise StoreUnusable(
                f"cannot use {self.place}: {fault}; check PALIMPSEST_ARTIFACTS_URL and the variables AWS_*"
            )

    def describe_fault(self) -> str | None:
        try:
            for _ in self.read(PROBE):
                pass
        except FileNotFoundError:
            return None
        except OSError as error:
            return error.strerror
        return None

    def describe_retention(self) -> str | None:
        try:
            locked = self._signed.get({"object-lock": ""}).findtext(".//{*}ObjectLockEnabled")
            if locked == "Enabled":
                return "the bucket has Object Lock: versions of deleted files stay until it lets go of them"
        except Refused:
            pass
        try:
            next(self._signed.versions(PROBE), None)
        except Refused as refused:
            return self._describe_unknown(refused)
        return None

    def _open(self, **timeouts: float) -> Any:
        client: Any = {name: timedelta(seconds=seconds) for name, seconds in timeouts.items()}
        client |= {"connect_timeout": timedelta(seconds=CONNECT_SECONDS), "allow_http": True}
        retries: Any = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=ANSWER_SECONDS)}
        return Bucket(self._bucket, prefix=self._prefix or None, client_options=client, retry_config=retries)

    def _list_current(self, prefix: str) -> Iterator[Stored]:
        with _translated():
            for objects in obstore.list(self._reading, prefix or None):
                yield from map(_stored, objects)

    def _delete(self, name: str) -> str | None:
        """Delete one file with all its versions, the oldest first, so that no old one becomes current.

        Returns why something of it is left, or None.
        """
        try:
            return self._delete_all_of(name)
        except Refused as refused:
            return f"the bucket refuses to delete it ({refused.code})"

    def _delete_all_of(self, name: str) -> str | None:
        """Do what `_delete` does. Raises Refused for a request that nothing else can take the place of."""
        if UNFINISHED in name:
            key, upload = _split(name)
            self._signed.delete(key, uploadId=upload)
            return None
        try:
            versions = [one for one in self._signed.versions(name) if one.name == name]
        except Refused as refused:
            self._signed.delete(name)
            return self._describe_unknown(refused)
        refusals: list[str] = []
        for version in reversed([one for one in versions if not one.is_mark]):
            try:
                self._signed.delete(name, versionId=version.id)
            except Refused as refused:
                refusals.append(refused.code)
        if refusals:
            if not any(one.is_mark and one.is_latest for one in versions):
                self._signed.delete(name)  # so that at least nobody gets it by its name
            return f"the bucket refuses to delete {len(refusals)} of its versions ({refusals[0]})"
        for mark in (one for one in versions if one.is_mark):
            self._signed.delete(name, versionId=mark.id)
        return None

    def _describe_unknown(self, refused: "Refused") -> str | None:
        """Say that old versions may be left, as the bucket does not list them; None if it has none."""
        if refused.code in UNKNOWN:
            return None
        try:
            if self._signed.get({"versioning": ""}).findtext(".//{*}Status") is None:
                return None
        except Refused as also:
            if also.code in UNKNOWN:
                return None
        return f"the bucket does not tell which old versions it has ({refused.code})"


@dataclass(frozen=True)
class Version:
    """A version of an object, or a mark that the object was deleted."""

    name: str
    id: str
    bytes: int
    modified_at: float
    is_latest: bool
    is_mark: bool


class Refused(Exception):
    """The bucket refuses one request, and may accept others. The code is that of S3, or the HTTP status."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _SignedRequests:
    """Requests about old versions and unfinished uploads, which obstore does not have.

    It signs the URL of an object, without a query. So the query stands in the endpoint of a store that is
    made for this one URL, which ends in a parameter that S3 ignores.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix

    def get(self, query: Mapping[str, str]) -> ElementTree.Element:
        """Return what the bucket answers. Raises Refused, StoreFailed."""
        response = self._request("GET", "", query)
        try:
            return ElementTree.fromstring(response.content)
        except ElementTree.ParseError as error:
            raise StoreFailed(errno.EIO, "the bucket does not answer as S3 storage does") from error

    def delete(self, name: str, **query: str) -> None:
        """Delete an object, a version of it or an upload, if there is one. Raises Refused, StoreFailed."""
        try:
            self._request("DELETE", name, query)
        except Refused as refused:
            if refused.code not in MISSING:
                raise

    def versions(self, prefix: str) -> Iterator[Version]:
        """Iterate over all versions of objects whose names begin so, the newest of each first.

        Raises Refused, StoreFailed.
        """
        query = {"versions": "", "prefix": self._prefix + prefix}
        while True:
            page = self.get(query)
            for entry in page:
                kind = entry.tag.rpartition("}")[2]
                if kind in ("Version", "DeleteMarker"):
                    yield Version(
                        name=(entry.findtext("{*}Key") or "").removeprefix(self._prefix),
                        id=entry.findtext("{*}VersionId") or "null",
                        bytes=int(entry.findtext("{*}Size") or 0),
                        modified_at=_timestamp(entry),
                        is_latest=entry.findtext("{*}IsLatest") == "true",
                        is_mark=kind == "DeleteMarker",
                    )
            if page.findtext("{*}IsTruncated") != "true":
                return
            query |= {
                "key-marker": page.findtext("{*}NextKeyMarker") or "",
                "version-id-marker": page.findtext("{*}NextVersionIdMarker") or "",
            }

    def uploads(self, prefix: str) -> Iterator[Stored]:
        """Iterate over what interrupted writes left. Raises Refused, StoreFailed."""
        query = {"uploads": "", "prefix": self._prefix + prefix}
        while True:
            page = self.get(query)
            for entry in page.iterfind("{*}Upload"):
                key = (entry.findtext("{*}Key") or "").removeprefix(self._prefix)
                upload = entry.findtext("{*}UploadId") or ""
                yield Stored(f"{key}/{UNFINISHED}{upload}", 0, _timestamp(entry, "Initiated"))
            if page.findtext("{*}IsTruncated") != "true":
                return
            query |= {
                "key-marker": page.findtext("{*}NextKeyMarker") or "",
                "upload-id-marker": page.findtext("{*}NextUploadIdMarker") or "",
            }

    @cached_property
    def _address(self) -> str:
        """The URL of the bucket."""
        with _translated():
            store: Any = Bucket(self._bucket, client_options={"allow_http": True})
            return str(obstore.sign(store, "GET", "x", timedelta(seconds=1))).partition("?")[0][: -len("/x")]

    def sign(self, method: Any, name: str, query: Mapping[str, str]) -> str:
        """Return the URL with which to send such a request about an object, or about the bucket.

        name: of the object; empty for the bucket. Raises StoreFailed.
        """
        address = self._address + (f"/{quote(self._prefix + name)}" if name else "")
        with _translated():
            store: Any = Bucket(
                self._bucket,
                endpoint=f"{address}?{urlencode({**query, 'ignored': ''}, quote_via=quote)}",
                virtual_hosted_style_request=True,
                client_options={"allow_http": True},
            )
            return str(obstore.sign(store, method, "x", timedelta(seconds=WRITE_SECONDS)))

    def _request(self, method: str, name: str, query: Mapping[str, str]) -> httpx2.Response:
        url = self.sign(method, name, query)
        try:
            response = _HTTP.request(method, url)
        except httpx2.TransportError as error:
            raise StoreFailed(errno.ETIMEDOUT, "the bucket does not answer") from error
        if response.is_success:
            return response
        code = _code(response.text) or str(response.status_code)
        if response.status_code >= 500 and code not in UNKNOWN:
            raise _failure(code)
        if code in BAD_CREDENTIALS or code == "NoSuchBucket" or response.status_code in (408, 429):
            raise _failure(code)
        raise Refused(code)


def _newest(name: str, versions: list[Version]) -> Stored:
    """Return what is stored under a name: its current version, or what is left of it."""
    newest = next((one for one in versions if one.is_latest), versions[0])
    is_current = newest.is_latest and not newest.is_mark
    size = newest.bytes if is_current else sum(one.bytes for one in versions)
    return Stored(name, size, newest.modified_at, is_current)


def _stored(found: Any) -> Stored:
    return Stored(found["path"], found["size"], found["last_modified"].timestamp())


def _split(name: str) -> tuple[str, str]:
    """Return (name of the object, id of the upload) of the name that `uploads` gave an unfinished upload."""
    key, _, upload = name.partition(f"/{UNFINISHED}")
    return key, upload


def _timestamp(entry: ElementTree.Element, tag: str = "LastModified") -> float:
    return datetime.fromisoformat(entry.findtext(f"{{*}}{tag}") or "").timestamp()


@contextmanager
def _translated() -> Iterator[None]:
    """Raise an OSError in place of an error of obstore. Its text names neither hosts nor credentials."""
    try:
        yield
    except FileNotFoundError as error:
        if _code(str(error)) == "NoSuchBucket":
            raise _failure("NoSuchBucket") from error
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
    except BaseError as error:
        text = str(error).partition("Debug source:")[0]
        status = re.search(r"status code: (\d{3})", text)
        raise _failure(_code(text) or (status[1] if status else None)) from error


def _code(text: str) -> str | None:
    """Return the S3 error code in an answer."""
    found = re.search(r"<Code>(\w+)</Code>", text)
    return found and found[1]


def _failure(code: str | None) -> StoreFailed:
    """Return the error for what the bucket answered: an S3 error code or an HTTP status; None if nothing."""
    if code is None:
        return StoreFailed(errno.ETIMEDOUT, "the bucket does not answer")
    if code in FULL:
        return StoreFailed(errno.ENOSPC, f"the bucket is full ({code})")
    if code == "NoSuchBucket":
        return StoreFailed(errno.ENODEV, "the bucket does not exist")
    if code in BAD_CREDENTIALS or code in ("AccessDenied", "401", "403"):
        return StoreFailed(errno.EIO, f"the bucket refuses the credentials ({code})")
    return StoreFailed(errno.EIO, f"the bucket answers with the error {code}")
