"""Deleting images of uploaded datasets: of one label, of a whole dataset, and with a forget."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import select

from service.registry.tables import AuditRow, DatasetDeletionRow, DatasetRow
from tests.api.serving import Served
from tests.requests.archives import as_npz

Images = dict[str, NDArray[np.uint8]]
ZIP = {"Content-Type": "application/zip"}


def images_of(name: str, *labels: str) -> Images:
    """Random images that no other test uploads."""
    rng = np.random.default_rng(abs(hash(name)) % 2**32)
    return {label: rng.integers(0, 256, (6, 28, 28), dtype=np.uint8) for label in labels}


def upload(served: Served, name: str, images: Images) -> str:
    """Upload a dataset; return the sha256 of its artifact."""
    answer = served.http.put(f"/v1/datasets/{name}", content=as_npz(images), headers=ZIP)
    assert answer.status_code == 201, answer.text
    return sha256_of(served, name)


def sha256_of(served: Served, name: str) -> str:
    with served.worker.database.reading() as session:
        return session.scalars(select(DatasetRow.sha256).where(DatasetRow.name == name)).one()


def delete(served: Served, path: str, **headers: str) -> httpx2.Response:
    return served.http.delete(f"/v1/datasets/{path}", headers=headers)


def sweep_until(served: Served, condition: Callable[[], object]) -> None:
    """Sweep until the condition holds. Once is not always enough: another test may hold a lock."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition holds at last"
        served.sweep()


def deletions_of(served: Served, dataset: str) -> list[DatasetDeletionRow]:
    with served.worker.database.reading() as session:
        query = select(DatasetDeletionRow).where(DatasetDeletionRow.dataset == dataset)
        return list(session.scalars(query.order_by(DatasetDeletionRow.id)))


def sweep_out(served: Served, dataset: str) -> None:
    sweep_until(served, lambda: all(one.state == "done" for one in deletions_of(served, dataset)))


def pixels(images: Images) -> bytes:
    return b"".join(one.tobytes() for one in images.values())


def is_stored(served: Served, images: NDArray[np.uint8]) -> bool:
    """Whether some file of the home folder has the bytes of one of these images."""
    files = [path.read_bytes() for path in served.settings.home.rglob("*") if path.is_file()]
    return any(one.tobytes() in data for one in images for data in files)


def test_the_images_of_a_label_are_gone_and_the_others_are_as_they_were(served: Served, name: str) -> None:
    images = images_of(name, "a", "b", "c")
    old = upload(served, name, images)
    assert delete(served, f"{name}/labels/b").status_code == 204
    found = served.http.get(f"/v1/datasets/{name}").json()
    assert (found["labels"], found["images"]) == (["a", "c"], {"a": 6, "c": 6})
    assert found["deleted_labels"] == ["b"]
    assert found["title"] == "Uploaded: 12 images"
    sweep_out(served, name)
    new = sha256_of(served, name)
    assert served.worker.artifacts.read(new) == pixels({"a": images["a"], "c": images["c"]})
    assert not served.worker.artifacts.exists(old)
    assert not is_stored(served, images["b"])
    assert is_stored(served, images["c"])
    assert served.http.get(f"/v1/datasets/{name}").json() == {**found, "sha256": new}


def test_a_deleted_label_cannot_be_learned_and_the_answer_says_why(served: Served, name: str) -> None:
    upload(served, name, images_of(name, "a", "b"))
    served.model(name, dataset=name)
    delete(served, f"{name}/labels/b")
    refused = served.http.post(f"/v1/models/{name}/learn", json={"labels": ["a", "b"]})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_label")
    assert refused.json()["detail"] == f"The images of 'b' were deleted from the dataset {name}; it has: a."
    served.done(name, "learn", labels=["a"])


def test_with_the_last_label_the_dataset_is_deleted(served: Served, name: str) -> None:
    images = images_of(name, "a", "b")
    first = upload(served, name, images)
    delete(served, f"{name}/labels/a")
    sweep_out(served, name)
    second = sha256_of(served, name)
    assert delete(served, f"{name}/labels/b").status_code == 204
    assert served.http.get(f"/v1/datasets/{name}").status_code == 404
    assert name not in {one["name"] for one in served.http.get("/v1/datasets").json()["data"]}
    sweep_out(served, name)
    assert not any(map(served.worker.artifacts.exists, (first, second)))
    assert [one.whole for one in deletions_of(served, name)] == [False, True]
    upload(served, name, images)  # the name is free again
    assert served.http.get(f"/v1/datasets/{name}").json()["deleted_labels"] == []


def test_the_file_of_a_deleted_dataset_is_deleted_by_the_next_sweep(served: Served, name: str) -> None:
    images = images_of(name, "a")
    sha256 = upload(served, name, images)
    assert delete(served, name).status_code == 204
    sweep_out(served, name)
    assert not served.worker.artifacts.exists(sha256)


def test_two_labels_deleted_one_after_the_other_before_a_sweep(served: Served, name: str) -> None:
    images = images_of(name, "a", "b", "c")
    old = upload(served, name, images)
    delete(served, f"{name}/labels/c")
    delete(served, f"{name}/labels/a")
    sweep_out(served, name)
    assert served.worker.artifacts.read(sha256_of(served, name)) == images["b"].tobytes()
    first, second = deletions_of(served, name)
    assert (first.sha256, first.replaced_by) == (old, second.sha256)
    assert not any(map(served.worker.artifacts.exists, (old, str(second.sha256))))


def test_a_label_and_then_the_whole_dataset_before_a_sweep(served: Served, name: str) -> None:
    old = upload(served, name, images_of(name, "a", "b"))
    delete(served, f"{name}/labels/a")
    delete(served, name)
    upload(served, name, images_of(f"{name}-new", "z"))
    sweep_out(served, name)
    assert not served.worker.artifacts.exists(old)
    assert served.http.get(f"/v1/datasets/{name}").json()["labels"] == ["z"]


def test_what_cannot_be_deleted_is_refused(served: Served, name: str) -> None:
    upload(served, name, images_of(name, "a", "b"))
    for path, status, code in (
        ("mnist/labels/1", 409, "dataset_built_in"),
        ("mnist", 409, "dataset_built_in"),
        (f"{name}-none/labels/a", 404, "dataset_not_found"),
        (f"{name}/labels/z", 404, "unknown_label"),
    ):
        answer = delete(served, path)
        assert (path, answer.status_code, answer.json()["code"]) == (path, status, code)
    delete(served, f"{name}/labels/a")
    again = delete(served, f"{name}/labels/a")
    assert again.status_code == 404
    assert "were deleted" in again.json()["detail"]


def test_a_repetition_with_its_key_is_answered_as_the_first(served: Served, name: str) -> None:
    upload(served, name, images_of(name, "a", "b"))
    answers = [delete(served, f"{name}/labels/a", **{"Idempotency-Key": name}) for _ in range(2)]
    assert [one.status_code for one in answers] == [204, 204]
    assert [one.headers.get("Idempotency-Replayed") for one in answers] == [None, "true"]
    other = delete(served, f"{name}/labels/b", **{"Idempotency-Key": name})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    for _ in range(2):
        assert delete(served, name, **{"Idempotency-Key": f"{name}-whole"}).status_code == 204


def test_the_audit_log_says_which_images_were_deleted(served: Served, name: str) -> None:
    upload(served, name, images_of(name, "a", "b"))
    delete(served, f"{name}/labels/a")
    with served.worker.database.reading() as session:
        [entry] = session.scalars(
            select(AuditRow).where(AuditRow.action == "dataset.label.delete", AuditRow.resource == name)
        )
    assert entry.details == {"label": "a", "images": 6}


def test_an_unfinished_job_that_needs_the_images_is_named(served: Served, name: str) -> None:
    upload(served, name, images_of(name, "a", "b", "c"))
    served.model(name, dataset=name)
    learning = served.submit(name, "learn", labels=["a"], **{"as": {"a": "x"}})
    refused = delete(served, f"{name}/labels/a")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    assert refused.json()["job"] == learning["id"]
    assert delete(served, f"{name}/labels/b").status_code == 204  # which no job needs
    served.worker.work(learning["id"])
    resizing = served.submit(name, "resize", policy="prune")  # the model holds a label from these images
    assert delete(served, f"{name}/labels/a").json()["job"] == resizing["id"]
    served.worker.work(resizing["id"])
    assert delete(served, f"{name}/labels/a").status_code == 204


def test_images_that_a_running_job_reads_stay_until_it_has_ended(served: Served, name: str) -> None:
    """It reads other labels of the dataset, so it is no reason to refuse."""
    old = upload(served, name, images_of(name, "a", "b"))
    served.model(name, dataset=name)
    learning = served.submit(name, "learn", labels=["b"])
    claim = served.worker.claim(learning["id"])
    assert delete(served, f"{name}/labels/a").status_code == 204
    served.sweep()
    assert served.worker.artifacts.exists(old)
    later = served.submit(name, "resize", policy="prune")  # reads the other images only: it is not waited for
    served.worker.finish(claim)
    sweep_out(served, name)
    assert not served.worker.artifacts.exists(old)
    served.worker.work(later["id"])


def test_a_file_that_another_dataset_has_too_is_kept(served: Served, name: str) -> None:
    images = images_of(name, "a", "b")
    old = upload(served, name, images)
    upload(served, f"{name}-copy", images)
    delete(served, f"{name}/labels/a")
    sweep_out(served, name)
    assert served.worker.artifacts.read(old) == pixels(images)
    assert deletions_of(served, name)[0].kept
    delete(served, f"{name}-copy")
    sweep_out(served, f"{name}-copy")
    assert not served.worker.artifacts.exists(old)


def test_a_damaged_file_is_not_replaced_by_what_is_left_of_it(served: Served, name: str) -> None:
    """A hash of its own would hide the damage. The deletion goes on once the file is restored."""
    images = images_of(name, "a", "b")
    old = upload(served, name, images)
    path = served.path(old)
    path.write_bytes(b"x" + path.read_bytes()[1:])
    delete(served, f"{name}/labels/a")
    served.sweep()
    assert sha256_of(served, name) == old
    path.write_bytes(pixels(images))
    sweep_out(served, name)
    assert served.worker.artifacts.read(sha256_of(served, name)) == images["b"].tobytes()


# --- with a forget -------------------------------------------------------------------------------------


def learned(served: Served, name: str) -> tuple[Images, str]:
    """A model that learned `ring` as `circle`, and `bar`, from a dataset of its name."""
    images = images_of(name, "bar", "ring", "line")
    sha256 = upload(served, name, images)
    served.model(name, dataset=name)
    served.done(name, "learn", labels=["ring", "bar"], **{"as": {"ring": "circle"}})
    return images, sha256


def job(served: Served, job_id: str) -> dict[str, Any]:
    return dict(served.http.get(f"/v1/jobs/{job_id}").json())


def sweep_job(served: Served, job_id: str) -> dict[str, Any]:
    sweep_until(served, lambda: job(served, job_id)["image_erasure"]["state"] == "done")
    return job(served, job_id)


def predicate_of(served: Served, job_id: str) -> dict[str, Any]:
    receipt = served.http.get(f"/v1/jobs/{job_id}/receipt")
    assert receipt.status_code == 200, receipt.text
    return dict(json.loads(base64.b64decode(receipt.json()["payload"]))["predicate"])


def test_a_forget_deletes_the_images_that_its_labels_were_learned_from(served: Served, name: str) -> None:
    images, old = learned(served, name)
    submitted = served.submit(name, "forget", labels=["circle"], also={"datasets": True}, purge=True)
    assert submitted["image_erasure"]["state"] == "requested"
    assert served.http.get(f"/v1/datasets/{name}").json()["labels"] == ["bar", "line", "ring"]
    served.worker.work(submitted["id"])
    assert served.http.get(f"/v1/datasets/{name}").json()["labels"] == ["bar", "line"]
    pending = job(served, submitted["id"])
    assert (pending["image_erasure"]["state"], pending["elsewhere"]["datasets"]) == ("pending", [])
    assert served.http.get(f"/v1/jobs/{submitted['id']}/receipt").status_code == 409
    done = sweep_job(served, submitted["id"])
    [entry] = done["image_erasure"]["datasets"]
    assert entry == {
        "dataset": name,
        "labels": {"ring": 6},
        "whole": False,
        "sha256": old,
        "replaced_by": sha256_of(served, name),
        "kept": False,
        "remains": None,
    }
    assert not is_stored(served, images["ring"])
    predicate = predicate_of(served, submitted["id"])
    assert predicate["image_erasure"]["datasets"] == [entry]
    assert predicate["image_erasure"]["labels"] == ["circle"]
    assert predicate["asked"]["also"] == {"datasets": True}
    assert predicate["elsewhere"]["datasets"] == []
    by_store = {one["store"]: one for one in predicate["stores"]}
    assert by_store["datasets"]["state"] == "deleted"
    assert "6 of ring" in by_store["datasets"]["detail"]
    assert by_store["judges and feature networks"]["state"] == "deleted"


def test_a_forget_of_all_labels_of_a_dataset_deletes_it(served: Served, name: str) -> None:
    images = images_of(name, "a", "b")
    old = upload(served, name, images)
    served.model(name, dataset=name)
    served.done(name, "learn", labels=["a", "b"])
    forgotten = served.done(name, "forget", labels=["a", "b"], also={"datasets": True})
    assert served.http.get(f"/v1/datasets/{name}").status_code == 404
    again = served.http.put(f"/v1/datasets/{name}", content=as_npz(images), headers=ZIP)
    assert (again.status_code, again.json()["code"]) == (409, "dataset_exists")
    [entry] = sweep_job(served, forgotten.job_id)["image_erasure"]["datasets"]
    assert (entry["whole"], entry["replaced_by"], entry["sha256"]) == (True, None, old)
    assert not served.worker.artifacts.exists(old)
    assert served.http.put(f"/v1/datasets/{name}", content=as_npz(images), headers=ZIP).status_code == 201


def test_jobs_of_other_models_that_need_the_images_are_waited_for(served: Served, name: str) -> None:
    _, old = learned(served, name)
    other = f"{name}-other"
    served.model(other, dataset=name)
    waiting = served.submit(other, "learn", labels=["ring"])
    forgotten = served.done(name, "forget", labels=["circle"], also={"datasets": True})
    refused = served.http.post(
        f"/v1/models/{other}/learn", json={"labels": ["ring"], "retention": "temporary"}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_label")
    sweep_until(served, lambda: job(served, forgotten.job_id)["image_erasure"]["waits_for"])
    erasure = job(served, forgotten.job_id)["image_erasure"]
    assert (erasure["state"], erasure["waits_for"]) == ("pending", waiting["id"])
    assert served.worker.artifacts.exists(old)
    assert served.http.get(f"/v1/jobs/{forgotten.job_id}/receipt").json()["code"] == "receipt_not_ready"
    served.worker.work(waiting["id"])
    done = sweep_job(served, forgotten.job_id)
    assert done["image_erasure"]["waits_for"] is None
    assert not served.worker.artifacts.exists(old)
    [also] = [one for one in done["elsewhere"]["models"] if one["name"] == other]
    assert also["label"] == "ring"  # it learned the label while the deletion waited


def test_images_of_labels_that_were_forgotten_before_can_be_deleted_later(served: Served, name: str) -> None:
    """Only those of the labels that the later request names."""
    images, _ = learned(served, name)
    forgotten = served.done(name, "forget", labels=["circle", "bar"])
    sweep_until(served, lambda: served.http.get(f"/v1/jobs/{forgotten.job_id}/receipt").status_code == 200)
    before = predicate_of(served, forgotten.job_id)
    assert [one["label"] for one in before["elsewhere"]["datasets"] if one["dataset"] == name] == [
        "bar",
        "ring",
    ]
    again = served.http.post(
        f"/v1/models/{name}/forget", json={"labels": ["bar"], "also": {"datasets": True}}
    )
    assert (again.status_code, again.json()["id"]) == (202, forgotten.job_id)
    done = sweep_job(served, forgotten.job_id)
    assert [one["labels"] for one in done["image_erasure"]["datasets"]] == [{"bar": 6}]
    after = predicate_of(served, forgotten.job_id)
    assert [one["label"] for one in after["elsewhere"]["datasets"] if one["dataset"] == name] == ["ring"]
    assert not is_stored(served, images["bar"])
    assert is_stored(served, images["ring"])
    repeated = served.http.post(
        f"/v1/models/{name}/forget", json={"labels": ["bar"], "also": {"datasets": True}}
    )
    assert (repeated.status_code, repeated.json()["id"]) == (200, forgotten.job_id)
    further = served.http.post(
        f"/v1/models/{name}/forget", json={"labels": ["circle"], "also": {"datasets": True}}
    )
    assert further.status_code == 202
    done = sweep_job(served, forgotten.job_id)
    assert [one["labels"] for one in done["image_erasure"]["datasets"]] == [{"bar": 6}, {"ring": 6}]


def test_images_that_come_with_the_service_cannot_be_deleted(served: Served, name: str) -> None:
    upload(served, name, images_of(name, "a"))
    served.model(name)
    served.done(name, "learn", labels=["1"])
    served.done(name, "learn", labels=["a"], dataset=name)
    body = {"labels": ["1", "a"], "also": {"datasets": True}}
    refused = served.http.post(f"/v1/models/{name}/forget", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_built_in")
    assert "'1'" in refused.json()["detail"]
    assert served.http.get(f"/v1/datasets/{name}").json()["labels"] == ["a"]


def test_a_dataset_that_was_uploaded_later_under_the_same_name_is_not_touched(
    served: Served, name: str
) -> None:
    learned(served, name)
    assert delete(served, name).status_code == 204
    upload(served, name, images_of(f"{name}-new", "ring", "bar"))
    forgotten = served.done(name, "forget", labels=["circle"], also={"datasets": True})
    assert sweep_job(served, forgotten.job_id)["image_erasure"]["datasets"] == []
    assert served.http.get(f"/v1/datasets/{name}").json()["labels"] == ["bar", "ring"]
    by_store = {one["store"]: one for one in predicate_of(served, forgotten.job_id)["stores"]}
    assert by_store["datasets"]["state"] == "kept"


def test_a_temporary_label_that_became_permanent_was_learned_once(served: Served, name: str) -> None:
    """Making it permanent reads no image, whatever dataset that request names."""
    upload(served, name, images_of(name, "ring"))
    upload(served, f"{name}-own", images_of(f"{name}-own", "ring"))
    served.model(name, dataset=f"{name}-own")
    served.done(name, "learn", labels=["ring"], dataset=name, retention="temporary")
    served.done(name, "learn", labels=["ring"])
    forgotten = served.done(name, "forget", labels=["ring"], also={"datasets": True})
    [entry] = sweep_job(served, forgotten.job_id)["image_erasure"]["datasets"]
    assert entry["dataset"] == name
    assert served.http.get(f"/v1/datasets/{name}-own").json()["labels"] == ["ring"]


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_a_forget_that_does_not_succeed_deletes_no_image(served: Served, name: str, end: str) -> None:
    learned(served, name)
    submitted = served.submit(name, "forget", labels=["circle"], also={"datasets": True})
    if end == "cancel":
        served.http.post(f"/v1/jobs/{submitted['id']}/cancel")
    else:
        served.worker.fail(served.worker.claim(submitted["id"]))
    served.sweep()
    assert served.http.get(f"/v1/datasets/{name}").json()["labels"] == ["bar", "line", "ring"]
    assert deletions_of(served, name) == []
