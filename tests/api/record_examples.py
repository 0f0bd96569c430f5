"""Write service/api/documented_examples.json: a request and an answer of every operation.

`python -m tests.api.record_examples` (in `make pages`) sends requests to a real server with the stand-in
worker, and records them with the answers. Ids and times are replaced by ones that read well, and arrays are
shortened to two items.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from service.api.documented_examples import EXAMPLES_FILE
from service.registry import keys
from service.requests.catalog import read_catalog
from service.settings import Settings
from tests.api.documented import find_operation
from tests.api.serving import Served, serving
from tests.requests.archives import as_npz, doodles

MOST_ITEMS = 2
ID = re.compile(r"\b([a-z]{3})_(?:[0-9A-HJKMNP-TV-Z]{26}|[0-9a-f]{24})\b")
API_KEY = re.compile(r"pal_[0-9A-Z]{26}_[A-Za-z0-9_-]+")
WEBHOOK_SECRET = re.compile(r"whsec_[A-Za-z0-9+/=]+")
HOOK = "http://127.0.0.1:9/palimpsest"
REMAINING = re.compile(r'"eta_seconds": [0-9.]+')
TIME = re.compile(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|\+00:00)")


def record_examples() -> dict[str, Any]:
    """Run the story. Return {operation id: {parameters, request, status, response}}."""
    found: dict[str, Any] = {}

    def keep(answer: httpx2.Response) -> None:
        if answer.status_code >= 300:
            return
        answer.read()
        url = answer.request.url.raw_path.partition(b"?")[0].decode()
        operation, parameters = find_operation(answer.request.method, url)
        example: dict[str, Any] = {"parameters": parameters}
        if answer.request.headers.get("content-type") == "application/json":
            example["request"] = json.loads(answer.request.content)
        if answer.headers.get("content-type", "").endswith(("json", "+dsse")) and answer.content:
            example |= {"status": answer.status_code, "response": _shortened(answer.json())}
        found.setdefault(operation, example)

    with TemporaryDirectory() as home:
        settings = Settings(home=Path(home), webhooks_to_private_addresses=True)
        with serving(settings, offered=read_catalog()) as served:
            served.http.event_hooks["response"].append(keep)
            _tell(served)
    schema = found["catalog.report_schema"]  # of which the beginning will do
    schema["response"] = {name: text for name, text in schema["response"].items() if isinstance(text, str)}
    texts = json.dumps(dict(sorted(found.items())), indent=1, ensure_ascii=False)
    return dict(json.loads(_readable(texts)))


def _tell(served: Served) -> None:
    """Call every operation once or more, so that the first answer of each is worth showing."""
    _keys_and_projects(served)
    _datasets(served)
    _jobs(served)
    _versions_and_aliases(served)
    _samples(served)
    _exports(served)
    with _ok(served) as send:
        send("GET", "/v1/audit")
        webhook = send(
            "POST", "/v1/webhooks", {"url": "http://127.0.0.1:9/hook", "types": ["job.finished"]}
        ).json()
        send("GET", "/v1/webhooks")
        send("GET", f"/v1/webhooks/{webhook['id']}")
        sent = send("POST", f"/v1/webhooks/{webhook['id']}/test").json()
        send("GET", f"/v1/webhooks/{webhook['id']}/deliveries/{sent['id']}")
        send("GET", f"/v1/webhooks/{webhook['id']}/deliveries")
        send("DELETE", f"/v1/webhooks/{webhook['id']}")
        model = send("GET", "/v1/models/digits").json()["id"]
        send("DELETE", "/v1/models/digits?purge=true")
        served.sweep()
        send("GET", f"/v1/models/{model}/deletion")
        send("GET", f"/v1/models/{model}/deletion/receipt")
        for path in ("/livez", "/readyz", "/metrics", "/v1/catalog", "/v1/catalog/report-schema"):
            send("GET", path)


def _keys_and_projects(served: Served) -> None:
    with _ok(served) as send:
        send("POST", "/v1/projects", {"name": "vision"})
        send("GET", "/v1/projects")
        send("GET", "/v1/projects/vision")
        send("DELETE", "/v1/projects/vision")
        key = send("POST", "/v1/keys", {"name": "ci", "scopes": ["read", "learn"]}).json()
        send("GET", "/v1/keys")
        send("GET", f"/v1/keys/{key['id']}")
        send("DELETE", f"/v1/keys/{key['id']}")
        with served.worker.database.transaction() as session:
            _, text = keys.create(session, name="console", scopes=["read"], project=None)
        send("POST", "/v1/session", {"key": text})
        served.http.cookies.clear()
        send("DELETE", "/v1/session")
        send("GET", "/v1/keys/signing")
        send("GET", "/v1/signing-keys")


def _datasets(served: Served) -> None:
    with _ok(served) as send:
        answer = served.http.put("/v1/datasets/doodles", content=as_npz(doodles()))
        assert answer.status_code == 201, answer.text
        send("GET", "/v1/datasets")
        labels = send("GET", "/v1/datasets/doodles").json()["labels"]
        send("GET", f"/v1/datasets/doodles/labels/{labels[0]}/examples/0.png")
        send("DELETE", f"/v1/datasets/doodles/labels/{labels[0]}")
        send("DELETE", "/v1/datasets/doodles")


def _jobs(served: Served) -> None:
    with _ok(served) as send:
        model = {
            "name": "digits",
            "dataset": "mnist",
            "description": "Ten digits",
            "metadata": {"team": "vision"},
        }
        send("POST", "/v1/models", model)
        learn = {"labels": ["1", "3", "7"], "retention": "permanent", "resize": {"policy": "auto"}}
        job = send("POST", "/v1/models/digits/learn", learn).json()
        claim = served.worker.claim(job["id"])
        served.worker.progress(claim, "learning", 150, 600)
        send("GET", "/v1/jobs")
        send("GET", f"/v1/jobs/{job['id']}")
        served.worker.finish(claim)
        send("GET", f"/v1/jobs/{job['id']}/events")
        send("POST", f"/v1/jobs/{job['followed_by']}/cancel")
        forget = {"labels": ["3"], "guarantee": "approximate", "reference": "erasure request 17"}
        job = send("POST", "/v1/models/digits/forget", forget).json()
        served.worker.work(job["id"])
        send("GET", f"/v1/jobs/{job['id']}/receipt")
        job = send("POST", "/v1/models/digits/resize", {"policy": "prune"}).json()
        send("POST", f"/v1/jobs/{job['id']}/cancel")
        job = send("POST", f"/v1/jobs/{job['id']}/retry").json()
        served.worker.work(job["id"])
        job = send("POST", "/v1/models/digits/evaluate", {"version": 2}).json()
        served.worker.measure(served.worker.claim(job["id"]))
        send("GET", f"/v1/jobs/{job['id']}/report")
        send("GET", f"/v1/jobs/{job['id']}/report/recovered/3/candidate.png")
        send("GET", "/v1/models")
        send("GET", "/v1/models/digits")
        send(
            "PATCH",
            "/v1/models/digits",
            {"description": "Digits, without threes", "metadata": {"team": None}},
        )
        send("GET", "/v1/models/digits/relapse")


def _versions_and_aliases(served: Served) -> None:
    versions = "/v1/models/digits/versions"
    aliases = "/v1/models/digits/aliases"
    with _ok(served) as send:
        send("GET", versions)
        send("GET", f"{versions}/2")
        send("PATCH", f"{versions}/2", {"description": "passed the review"})
        send("GET", f"{versions}/2/report")
        send("GET", f"{versions}/2/lineage")
        send("GET", f"{versions}/2/files/manifest.json")
        send("GET", f"{versions}/2/images/7/42.png")
        send("GET", "/v1/models/digits/compare?from=2&to=3")
        etag = send("PUT", f"{aliases}/production", {"version": 2, "reason": "passed the review"}).headers[
            "ETag"
        ]
        changed = served.http.put(f"{aliases}/production", json={"version": 3}, headers={"If-Match": etag})
        assert changed.status_code == 200, changed.text
        send("GET", aliases)
        send("GET", f"{aliases}/production")
        send("POST", f"{aliases}/production/rollback", {"reason": "version 3 draws blurred sevens"})
        send("GET", f"{aliases}/production/history")
        send("DELETE", f"{aliases}/production")
        send("DELETE", f"{versions}/2")


def _samples(served: Served) -> None:
    with _ok(served) as send:
        body = {"labels": ["7"], "count": 1, "seed": 42, "format": "b64_json"}
        sample = send("POST", "/v1/models/digits/samples", body).headers["X-Sample-Id"]
        send("GET", "/v1/samples")
        send("GET", f"/v1/samples/{sample}")
        send("GET", f"/v1/samples/{sample}/images")
        send("DELETE", f"/v1/samples/{sample}")


def _exports(served: Served) -> None:
    with _ok(served) as send:
        body = {"labels": ["1", "7"], "count": 100, "seed": 42, "format": "webdataset", "shard_images": 100}
        export = send("POST", "/v1/models/digits/exports", body).json()
        served.worker.export(export["id"], shards=1)
        path = f"/v1/exports/{export['id']}"
        send("GET", path)
        send("GET", f"{path}/shards")
        send("GET", f"{path}/shards/0")
        served.worker.export(export["id"])
        send("GET", "/v1/exports")
        send("GET", f"{path}/manifest")
        cancelled = send("POST", "/v1/models/digits/exports", body).json()
        send("POST", f"/v1/exports/{cancelled['id']}/cancel")
        send("DELETE", path)


@contextmanager
def _ok(served: Served) -> Iterator[Any]:
    def send(method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx2.Response:
        answer = served.http.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer

    yield send


def _shortened(document: Any) -> Any:
    """Return the document with arrays of two items at most, and long texts cut."""
    if isinstance(document, dict):
        return {name: _shortened(value) for name, value in document.items()}
    if isinstance(document, list):
        return [_shortened(value) for value in document[:MOST_ITEMS]]
    if isinstance(document, str) and len(document) > 400:
        return document[:200]
    return document


def _readable(text: str) -> str:
    """Replace ids, secrets and times: the same one by the same one, in the order in which they appear."""
    known: dict[str, str] = {}

    def stand_in(found: re.Match[str]) -> str:
        return known.setdefault(found[0], f"{found[1]}_01JZ8QB1T3{len(known):016}")

    text = API_KEY.sub("pal_KEY_SECRET", text)
    text = REMAINING.sub('"eta_seconds": 12.5', text)
    text = WEBHOOK_SECRET.sub("whsec_SECRET", text)
    text = ID.sub(stand_in, text.replace(HOOK, "https://hooks.example.com/palimpsest"))
    moments = sorted(set(TIME.findall(text)))
    times = {moment: f"2026-08-02T16:{30 + i // 60 % 30:02}:{i % 60:02}Z" for i, moment in enumerate(moments)}
    return TIME.sub(lambda found: times[found[0]], text)


if __name__ == "__main__":
    EXAMPLES_FILE.write_text(json.dumps(record_examples(), indent=1, ensure_ascii=False) + "\n")
