"""A purge leaves no version of an object in a bucket, or its receipt says of which files it does, and why."""

from pathlib import Path

import pytest

from service.receipts import issuing
from service.receipts.signing_keys import find_key
from service.receipts.statement import Statement
from service.receipts.verification import verify_receipt
from service.registry.opening import open_artifacts
from service.registry.s3_store import S3Store
from service.settings import Settings
from tests.registries import Registry
from tests.registry.test_purging import ModelWithFiles
from tests.registry.test_s3_store import lock_new_objects, versions_of
from tests.s3 import S3Server

on_sqlite_alone = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def model_in(bucket: str, registry: Registry, database_url: str, folder: Path) -> ModelWithFiles:
    url = f"s3://{bucket}/p"
    return ModelWithFiles(registry, Settings(home=folder, database_url=database_url, artifacts_url=url))


def forget_with_purge(model: ModelWithFiles) -> str:
    """Learn two labels, forget one with a purge, and sweep. Return the id of the forget."""
    model.publish_job("learn", "1")
    model.publish_job("learn", "2")
    job_id = model.publish_job("forget", "2", purge=True)
    for file in model.versions()[1].files.values():  # as a repair of damaged files leaves them
        data = model.artifacts.read(file["sha256"])
        model.artifacts.store.write(f"{file['sha256'][:2]}/{file['sha256']}", data)
    model.sweep()
    return job_id


def read_receipt(model: ModelWithFiles, job_id: str) -> Statement:
    key = find_key(model.registry.database, model.deployment.keys)
    text = issuing.sign_receipt(model.registry.database, model.artifacts, key, job_id)
    assert text is not None
    statement = verify_receipt(text.encode(), key.signer.public_key).statement
    assert isinstance(statement, Statement)
    return statement


@on_sqlite_alone
def test_a_purge_in_a_bucket_with_versions_leaves_none(
    s3: S3Server, registry: Registry, database_url: str, tmp_path: Path
) -> None:
    model = model_in(s3.make_bucket(versioned=True), registry, database_url, tmp_path)
    job_id = forget_with_purge(model)
    store = model.artifacts.store
    assert isinstance(store, S3Store)
    left = {name.rpartition("/")[2] for name, _ in versions_of(store)}
    purge = model.purge(job_id)
    assert (purge.state, purge.kept) == ("done", [])
    assert {file["file"] for file in purge.keys} == {"checkpoint.safetensors", "decoder.onnx"}
    assert left.isdisjoint(file["sha256"] for file in purge.keys)
    [entry] = [one for one in read_receipt(model, job_id).predicate.erasure if one.store == "bucket"]
    assert entry.state == "deleted"
    assert "all versions that the bucket lists were deleted" in entry.detail


@on_sqlite_alone
def test_a_purge_that_a_bucket_refuses_says_so_in_its_receipt(
    s3: S3Server, registry: Registry, database_url: str, tmp_path: Path
) -> None:
    bucket = s3.make_bucket(locked=True)
    lock_new_objects(S3Store(bucket))
    model = model_in(bucket, registry, database_url, tmp_path)
    job_id = forget_with_purge(model)
    purge = model.purge(job_id)
    assert (purge.state, purge.keys) == ("done", [])
    refused = "the bucket refuses to delete 2 of its versions (AccessDenied)"
    assert [file["reason"] for file in purge.kept] == [refused] * 2
    assert not any(model.artifacts.exists(file["sha256"]) for file in purge.kept)
    predicate = read_receipt(model, job_id).predicate
    assert predicate.purge is not None
    assert [file.reason for file in predicate.purge.kept] == [refused] * 2
    [entry] = [one for one in predicate.erasure if one.store == "bucket"]
    assert (entry.state, refused in entry.detail) == ("not reached", True)


def test_receipts_of_files_in_a_folder_tell_of_no_bucket(
    registry: Registry, database_url: str, tmp_path: Path
) -> None:
    model = ModelWithFiles(registry, Settings(home=tmp_path, database_url=database_url))
    job_id = forget_with_purge(model)
    assert not open_artifacts(model.deployment).store.is_bucket
    assert "bucket" not in {entry.store for entry in read_receipt(model, job_id).predicate.erasure}
