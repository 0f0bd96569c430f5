"""After a forget, its job and receipt list what else of the project was learned from the same images."""

import base64
import json
from typing import Any

from tests.api.serving import Served
from tests.requests.archives import as_folders, as_npz, doodles


def upload(served: Served, name: str, archive: bytes) -> None:
    answer = served.http.put(
        f"/v1/datasets/{name}", content=archive, headers={"Content-Type": "application/zip"}
    )
    assert answer.status_code == 201, answer.text


def elsewhere(served: Served, model: str, **body: Any) -> dict[str, Any]:
    """Forget labels; return what the job lists, which is what the signed receipt lists."""
    job = served.submit(model, "forget", **body)
    assert job["elsewhere"] is None
    served.worker.work(job["id"])
    found = dict(served.http.get(f"/v1/jobs/{job['id']}").json()["elsewhere"])
    receipt = served.http.get(f"/v1/jobs/{job['id']}/receipt").json()
    signed = json.loads(base64.b64decode(receipt["payload"]))["predicate"]["elsewhere"]
    assert {key: [without_none(one) for one in value] for key, value in signed.items()} == found
    return found


def without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def test_other_models_and_their_samples_are_listed(served: Served, name: str) -> None:
    first, other = served.model(name), served.model(f"{name}-other")
    served.done(name, "learn", labels=["1", "2"])
    served.done(f"{name}-other", "learn", labels=["2", "3"], **{"as": {"2": "two"}})
    served.done(f"{name}-other", "learn", labels=["2"], retention="temporary")
    served.done(name, "learn", labels=["2"], **{"as": {"2": "two_again"}})
    for labels in (["two"], ["two", "3"], ["3"]):
        body = {"labels": labels, "count": 1}
        assert served.http.post(f"/v1/models/{name}-other/samples", json=body).status_code == 200
    found = elsewhere(served, name, labels=["2"])
    mine = [one for one in found["models"] if one["name"].startswith(name)]
    assert mine == [
        {"model": first["id"], "name": name, "label": "two_again", "status": "permanent"},
        {"model": other["id"], "name": f"{name}-other", "label": "2", "status": "temporary"},
        {"model": other["id"], "name": f"{name}-other", "label": "two", "status": "permanent"},
    ]
    samples = [one for one in found["samples"] if one["name"].startswith(name)]
    assert samples == [{"model": other["id"], "name": f"{name}-other", "label": "two", "count": 2}]
    assert found["datasets"] == []
    served.done(f"{name}-other", "forget", labels=["two"])
    again = elsewhere(served, name, labels=["two_again"])
    assert {one["label"] for one in again["models"] if one["name"].startswith(name)} == {"2"}


def test_uploads_with_the_same_images_are_listed_whatever_their_names_and_order(
    served: Served, name: str
) -> None:
    images = doodles()
    mine, other = sorted(images)[:2]
    upload(served, f"{name}-a", as_npz(images))
    upload(served, f"{name}-b", as_folders({"copy": images[mine][::-1], "unlike": images[other]}))
    served.model(name, dataset=f"{name}-a")
    served.model(f"{name}-b", dataset=f"{name}-b")
    served.done(name, "learn", labels=[mine, other])
    served.done(f"{name}-b", "learn", labels=["copy"])
    found = elsewhere(served, name, labels=[mine])
    assert found["datasets"] == [
        {"dataset": f"{name}-a", "label": mine},
        {"dataset": f"{name}-b", "label": "copy"},
    ]
    assert [(one["name"], one["label"]) for one in found["models"]] == [(f"{name}-b", "copy")]
