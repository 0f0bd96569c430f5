"""What a bucket does and a folder does not: old versions, locked ones, unfinished uploads, signed links."""

import errno
import os
from typing import Any, cast

import httpx2
import obstore
import pytest

from service.durable import UNFINISHED
from service.registry.artifacts import Artifacts
from service.registry.errors import ArtifactUnreadable, StoreUnusable
from service.registry.s3_store import Refused, S3Store
from service.registry.store import StoreFailed
from tests.faults.servers import free_port
from tests.s3 import KEY, S3Server

NAME = "ab/" + "ab" * 32


@pytest.fixture(scope="module")
def versioned(s3: S3Server) -> str:
    return s3.make_bucket(versioned=True)


@pytest.fixture
def store(versioned: str, request: pytest.FixtureRequest) -> S3Store:
    """An empty place in a bucket that keeps old versions."""
    return S3Store(versioned, request.node.name)


def versions_of(store: S3Store) -> list[tuple[str, bool]]:
    """Return (name, whether it marks a deletion) of every version in the store."""
    return [(one.name, one.is_mark) for one in store._signed.versions("")]


def test_a_deletion_deletes_every_version_and_every_mark_of_an_earlier_deletion(store: S3Store) -> None:
    for data in (b"first", b"second"):
        store.write(NAME, data)
    store._signed.delete(NAME)  # as other programs delete
    store.write(NAME, b"third")
    store.write(NAME + "0", b"another file, whose name begins alike")
    assert len(versions_of(store)) == 5
    assert store.delete([NAME]) == {}
    assert versions_of(store) == [(NAME + "0", False)]


def test_a_file_that_another_program_deleted_is_found_as_a_leftover_and_deleted_completely(
    store: S3Store,
) -> None:
    store.write(NAME, b"first")
    store._signed.delete(NAME)
    assert (store.find(NAME), list(store.list())) == (None, [])
    [left] = store.list(leftovers=True)
    assert (left.name, left.bytes, left.is_current) == (NAME, 5, False)
    assert store.delete([NAME]) == {}
    assert versions_of(store) == []


def test_many_versions_are_listed_page_by_page(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    get = store._signed.get
    monkeypatch.setattr(store._signed, "get", lambda query: get({**query, "max-keys": "2"}))
    for number in range(5):
        store.write(NAME, b"%d" % number)
    assert len(versions_of(store)) == 5
    assert store.delete([NAME]) == {}
    assert versions_of(store) == []


def test_a_version_under_object_lock_stays_and_the_deletion_says_so(s3: S3Server) -> None:
    bucket = s3.make_bucket(locked=True)
    store = S3Store(bucket, "p")
    lock_new_objects(store)
    assert "Object Lock" in (store.describe_retention() or "")
    store.write(NAME, b"locked")
    for _ in range(2):
        left = store.delete([NAME])
        assert left == {NAME: "the bucket refuses to delete 1 of its versions (AccessDenied)"}
        assert store.find(NAME) is None, "nobody gets it by its name"
        assert versions_of(store) == [(NAME, True), (NAME, False)]


def lock_new_objects(store: S3Store) -> None:
    """Let the bucket keep every new version for a day."""
    rule = "<DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention>"
    body = (
        '<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule>{rule}</Rule></ObjectLockConfiguration>"
    )
    url = store._signed.sign("PUT", "", {"object-lock": ""})
    assert httpx2.put(url, content=body).is_success


def test_what_an_interrupted_upload_left_is_found_and_deleted(store: S3Store) -> None:
    """It is part of a file, and no other request shows it."""
    writer = obstore.open_writer(store._writing, NAME, buffer_size=5 << 20)
    writer.write(os.urandom(6 << 20))
    writer.flush()
    assert list(store.list()) == []
    [left] = store.list(leftovers=True)
    assert (left.is_unfinished, left.name.partition("/.unfinished-")[0]) == (True, NAME)
    assert store.find(left.name) == left
    assert store.delete([left.name]) == {}
    assert list(store.list(leftovers=True)) == []
    assert store.find(left.name) is None


def test_what_the_bucket_refuses_to_delete_keeps_nothing_else_from_being_deleted(s3: S3Server) -> None:
    """A key may lack one permission, such as s3:AbortMultipartUpload."""
    store = S3Store(s3.make_bucket(), "p")
    store.write(NAME, b"data")
    signed, upload = store._signed, f"{NAME}/{UNFINISHED}1"

    class Refusing:
        """Refuses every request about an upload, and passes all others on."""

        def __getattr__(self, name: str) -> Any:
            return getattr(signed, name)

        def delete(self, name: str, **query: str) -> None:
            if "uploadId" in query:
                raise Refused("AccessDenied")
            signed.delete(name, **query)

    store._signed = cast(Any, Refusing())
    assert store.delete([upload, NAME]) == {upload: "the bucket refuses to delete it (AccessDenied)"}
    assert store.find(NAME) is None


@pytest.mark.parametrize(
    ("versioned", "left"),
    [(False, None), (True, "the bucket does not tell which old versions it has (AccessDenied)")],
)
def test_without_the_permission_to_list_versions_a_deletion_says_whether_some_may_be_left(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, versioned: bool, left: str | None
) -> None:
    allowed = ("GetObject", "PutObject", "DeleteObject", "ListBucket", "GetBucketVersioning")
    key, bucket = s3.make_key(*(f"s3:{action}" for action in allowed)), s3.make_bucket(versioned=versioned)
    for name, value in key.items():
        monkeypatch.setenv(name, value)
    store = S3Store(bucket)
    store.write(NAME, b"data")
    assert store.describe_retention() == left
    assert [one.name for one in store.list(leftovers=True)] == [NAME]
    assert store.delete([NAME]) == ({} if left is None else {NAME: left})
    assert store.find(NAME) is None


def test_a_signed_link_gives_the_file_to_anybody_for_a_while(store: S3Store) -> None:
    store.write(NAME, b"a file")
    link = store.link(NAME, seconds=60)
    assert link is not None
    assert httpx2.get(link).content == b"a file"
    assert httpx2.get(link, headers={"Range": "bytes=2-3"}).content == b"fi"
    assert httpx2.get(link.replace(NAME, NAME + "0")).status_code == 403
    assert httpx2.get(link.partition("?")[0]).status_code == 403


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the bucket refuses the credentials (SignatureDoesNotMatch)"),
        ("AWS_ACCESS_KEY_ID", "nobody", "the bucket refuses the credentials (InvalidAccessKeyId)"),
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}", "the bucket does not answer"),
    ],
    ids=["another secret", "another key", "another address"],
)
def test_a_bucket_that_cannot_be_used_is_an_error_of_a_disk_which_names_no_secret(
    versioned: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    store = S3Store(versioned)
    assert store.describe_fault() == said
    with pytest.raises(StoreUnusable, match="AWS_"):
        store.check()
    for use in (
        lambda: store.write(NAME, b"x"),
        lambda: list(store.read(NAME)),
        lambda: list(store.list()),
        lambda: store.delete([NAME]),
    ):
        with pytest.raises(StoreFailed) as failed:
            use()
        assert failed.value.strerror == said
        assert failed.value.errno in (errno.EIO, errno.ETIMEDOUT)
    with pytest.raises(ArtifactUnreadable) as unreadable:
        Artifacts(store).read("ab" * 32)
    assert store.is_cause_of(unreadable.value)
    assert KEY not in str(unreadable.value)


def test_a_bucket_that_does_not_exist_is_no_empty_one(s3: S3Server) -> None:
    store = S3Store("no-such-bucket")
    assert store.describe_fault() == "the bucket does not exist"
    with pytest.raises(StoreFailed):
        list(store.read(NAME))
