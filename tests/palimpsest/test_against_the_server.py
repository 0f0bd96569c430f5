"""Every operation of the API has a method, whose result says all that the server said.

A real server, and a stand-in for its worker. The client's connection is recorded.
"""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from palimpsest import (
    AsyncPalimpsest,
    DownloadDamaged,
    ExportFailed,
    ExportNotDone,
    Gone,
    JobFailed,
    Palimpsest,
    PreconditionFailed,
    values,
)
from palimpsest.errors import Violation
from reports import FullReport, Report
from service.settings import Settings
from tests.api.serving import Served, serving
from tests.requests.archives import as_npz, doodles

WITHOUT_A_METHOD = {
    ("POST", "/v1/session"),
    ("DELETE", "/v1/session"),
    ("GET", "/metrics"),
    ("GET", "/v1/catalog/report-schema"),
    ("GET", "/v1/jobs/{job}/report/recovered/{label}/{network}.png"),
}
"""What only a browser, a monitoring system or a validator asks for."""


class Recorder(httpx2.HTTPTransport):
    """The network, and what went over it."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[tuple[str, str, httpx2.Response]] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if response.headers.get("Content-Type", "").split(";")[0] != "text/event-stream":
            response.read()
        self.exchanges.append((request.method, request.url.path, response))
        return response

    @property
    def last(self) -> Any:
        """The JSON of the last answer."""
        return self.exchanges[-1][2].json()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(
        Settings(home=tmp_path_factory.mktemp("home"), webhooks_to_private_addresses=True)
    ) as served:
        yield served


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def client(served: Served, recorder: Recorder) -> Iterator[Palimpsest]:
    with Palimpsest(served.address, transport=recorder) as client:
        yield client


def learned(served: Served, client: Palimpsest, name: str) -> values.Model:
    """Create a model that holds two labels."""
    client.models.create(name, dataset="mnist")
    served.worker.work(client.models.learn(name, ["0", "1"]).id)
    return client.models.get(name)


def test_a_client_of_a_project_reads_what_belongs_to_none(served: Served) -> None:
    with Palimpsest(served.address, project="default") as client:
        assert client.service.alive()
        assert client.service.ready().checks["database"] == "ok"
        assert list(client.signing_keys.list()) == [client.signing_keys.current()]
        assert list(client.models.list()) == []


def test_a_model_and_its_jobs(served: Served, client: Palimpsest, recorder: Recorder) -> None:
    model = client.models.create("jobs", dataset="mnist", acceptance={"forgotten_accuracy_max": 0.5})
    assert model.to_json() == recorder.last
    job = client.models.learn(model, ["0", "1", "2"], metadata={"ticket": "7"})
    assert (job.state, job.to_json()) == ("queued", recorder.last)
    served.worker.work(job.id)
    seen: list[values.Job] = []
    finished = client.jobs.wait(job, on_progress=seen.append, must_succeed=True)
    assert (finished.output_version, seen) == (1, [finished])
    assert finished.to_json() == recorder.last
    forget = client.models.forget(model, ["1"], purge=True, reference="erasure 12")
    served.worker.work(forget.id)
    served.sweep()
    finished = client.jobs.wait(forget)
    assert finished.purge is not None
    assert (finished.purge.state, finished.to_json()) == ("done", recorder.last)
    assert json.loads(client.receipts.get(forget))["payloadType"]
    assert isinstance(client.jobs.report(finished), Report)
    served.worker.work(client.models.resize(model, "prune").id)
    evaluate = client.models.evaluate(model)
    served.worker.measure(served.worker.claim(evaluate.id))
    assert isinstance(client.jobs.report(evaluate), FullReport)
    now = client.models.get(model)
    assert (now.head, now.label_names("permanent"), now.label_names("forgotten")) == (3, ("0", "2"), ("1",))
    assert now.to_json() == recorder.last
    cancelled = client.jobs.cancel(client.models.learn(model, ["4"]))
    with pytest.raises(JobFailed, match="cancelled"):
        client.jobs.wait(cancelled, must_succeed=True)
    refused = client.models.learn(model, ["5"])
    served.worker.refuse(served.worker.claim(refused.id))
    error = client.jobs.get(refused).error
    assert error is not None
    assert error.to_json() == recorder.last["error"]
    again = client.jobs.retry(refused)
    assert (again.retry_of, again.to_json()) == (refused.id, recorder.last)
    assert len(list(client.jobs.list(model="jobs"))) == 7
    assert [one.id for one in client.jobs.list(model="jobs", state="rejected")] == [refused.id]
    newest = next(iter(client.jobs.list(model="jobs")))
    assert list(client.jobs.list(model="jobs", order="asc"))[-1] == newest
    assert {one.operation for one in client.jobs.list(model="jobs", operation="learn", label="0")} == {
        "learn"
    }
    assert list(client.jobs.list(reference="none", metadata={"team": "none"})) == []
    assert client.jobs.get(refused.id).done


def test_a_resize_that_follows_a_job(served: Served, client: Palimpsest, recorder: Recorder) -> None:
    model = client.models.create("sizes", dataset="mnist", size_policy="auto")
    assert (model.size_policy, model.to_json()) == ("auto", recorder.last)

    def follower(job: values.Job) -> values.Job:
        assert job.to_json() == recorder.last
        assert job.followed_by is not None
        return client.jobs.get(job.followed_by)

    assert client.models.learn(model, ["0", "1", "2"], resize=None).followed_by is None
    first = client.models.learn(model, ["3"])
    resize = follower(first)
    assert (resize.strategy, resize.follows, resize.to_json()) == ("auto_width", first.id, recorder.last)
    assert follower(client.models.learn(model, ["4"], resize="prune")).strategy == "prune_units"
    resize = follower(
        client.models.forget(model, ["0"], resize={"policy": "expand", "params": {"share": 0.2}})
    )
    assert (resize.strategy, resize.params) == ("expand_units", {"share": 0.2})
    assert client.models.forget(model, ["1"], resize=None).followed_by is None
    client.jobs.cancel(first)
    cancelled = client.jobs.wait(first.followed_by or "")
    assert (cancelled.state, cancelled.succeeded) == ("cancelled", False)
    assert cancelled.error is not None
    assert cancelled.error.code == "followed_job_not_succeeded"


def test_versions_reports_and_comparisons(served: Served, client: Palimpsest, recorder: Recorder) -> None:
    model = learned(served, client, "versions")
    served.worker.work(client.models.forget(model, ["1"]).id)
    measured = client.models.evaluate(model)
    served.worker.measure(served.worker.claim(measured.id))
    assert [version.number for version in client.versions.list(model)] == [2, 1]
    version = client.versions.get(model, 2)
    assert version.to_json() == recorder.last
    assert [one.number for one in client.versions.lineage(model, 2)] == [2, 1]
    assert json.loads(client.versions.file(model, 2, "manifest.json")) == {}
    full = client.versions.report(model, 2)
    assert isinstance(full, values.EvaluationReport)
    assert (full.source.job, as_sent(full)) == (measured.id, recorder.last)
    quick = client.versions.report(model, 2, level="quick")
    assert isinstance(quick, values.QuickReport)
    assert as_sent(quick) == recorder.last
    comparison = client.models.compare(model, 1, 2)
    assert (comparison.from_.version, comparison.to_json()) == (1, recorder.last)
    relapse = client.models.relapse(model)
    assert [label.label for label in relapse.labels] == ["1"]
    assert relapse.to_json() == recorder.last


def as_sent(report: Report) -> Mapping[str, Any]:
    return report.model_dump(mode="json", exclude_unset=True)


def test_events_are_told_as_they_happen_and_again(served: Served, client: Palimpsest) -> None:
    model = learned(served, client, "events")
    job = client.models.learn(model, ["3"])
    claim = served.worker.claim(job.id)
    served.worker.progress(claim, "training", 1, 4, 50.0)
    events: list[values.AnyJobEvent] = []
    for event in client.jobs.events(job):
        events.append(event)
        if isinstance(event, values.ProgressEvent):
            served.worker.finish(claim)
    assert [one.state for one in events if isinstance(one, values.StateEvent)][-1] == "succeeded"
    assert events[-1].is_last
    progress = next(one for one in events if isinstance(one, values.ProgressEvent))
    assert (progress.progress.phase, progress.progress.loss) == ("training", 50.0)
    assert list(client.jobs.past_events(job)) == events
    assert list(client.jobs.events(job, after=progress.id)) == events[events.index(progress) + 1 :]
    assert list(client.jobs.events(job, after=events[-1].id)) == []
    assert {one.type for one in client.jobs.past_events(job, type="state")} == {"state"}


def test_aliases(served: Served, client: Palimpsest, recorder: Recorder) -> None:
    model = learned(served, client, "aliases")
    served.worker.work(client.models.resize(model, "prune").id)
    first = client.aliases.set(model, "production", 1, reason="the first")
    assert (first.version, first.to_json()) == (1, recorder.last)
    second = client.aliases.set(model, "production", "head")
    assert second.version == 2
    with pytest.raises(PreconditionFailed):
        client.aliases.set(model, "production", 1, seen=first)
    assert client.versions.get(model, "production").aliases == ("production",)
    assert client.models.get(model).aliases == {"production": 2}
    assert client.samples.create(model, ["0"], version="production").version == 2
    back = client.aliases.rollback(model, "production", reason="blurred")
    assert (back.version, client.aliases.get(model, "production")) == (1, back)
    assert client.aliases.set(model, "production", 2, seen=back).revision == 4
    client.aliases.delete(model, "production", reason="unused")
    assert list(client.aliases.list(model)) == []
    changes = list(client.aliases.history(model, "production"))
    assert [change.action for change in changes] == ["delete", "set", "rollback", "set", "set"]
    assert [change.to_json() for change in changes] == recorder.last["data"]


def test_models_and_versions_are_described_filtered_and_deleted(
    served: Served, client: Palimpsest, recorder: Recorder
) -> None:
    model = learned(served, client, "described")
    client.models.create("described-too", dataset="mnist", metadata={"team": "red"}, description="second")
    changed = client.models.update(model, metadata={"team": "blue", "ticket": "7"}, description="first")
    assert (changed.description, changed.to_json()) == ("first", recorder.last)
    assert client.models.update(model, metadata={"ticket": None}).metadata == {"team": "blue"}
    assert client.models.update(model, description=None).description is None
    found = client.models.list(name_prefix="described", metadata={"team": "blue"}, order_by="name")
    assert [one.name for one in found] == ["described"]
    served.worker.work(client.models.resize(model, "prune").id)
    version = client.versions.update(model, 1, description="before", metadata={"kept": "no"})
    assert version.to_json() == recorder.last
    assert [one.number for one in client.versions.list(model, metadata={"kept": "no"})] == [1]
    client.versions.delete(model, 1)
    assert [one.number for one in client.versions.list(model, state="deleted")] == [1]
    assert [one.number for one in client.versions.list(model, operation="resize", order="asc")] == [2]
    sample = client.samples.create(model, ["0"])
    assert sample.id is not None
    assert [one.id for one in client.samples.list(model="described", version="head", label="0")] == [
        sample.id
    ]
    client.samples.delete(sample.id)
    assert list(client.samples.list(model="described")) == []


def test_images_and_samples(served: Served, client: Palimpsest, recorder: Recorder) -> None:
    model = learned(served, client, "images")
    sample = client.samples.create(model, ["0", "1"], 3, seed=5)
    assert sample.version == 1
    assert sample.id is not None
    assert client.samples.draw(sample.id).content == sample.content
    assert sample.to_image().format == "PNG"
    webp = client.samples.create(model, ["0", "1"], 3, seed=5, format="webp")
    assert (webp.media_type, webp.to_image().format) == ("image/webp", "WEBP")
    record = client.samples.get(sample.id)
    assert (record.seed, record.to_json()) == (5, recorder.last)
    drawn = client.images.draw(model, "0", seed=5, scale=2)
    assert drawn.size == (56, 56)
    png = client.images.get(model, 1, "0", 5, scale=2)
    assert np.array_equal(np.asarray(drawn), np.asarray(values.open_image(png)))
    assert client.images.draw(model, "0", version=1, grid=(2, 3)).size == (84, 56)
    served.worker.work(client.models.forget(model, ["0"]).id)
    with pytest.raises(Gone) as gone:
        client.samples.draw(sample.id)
    assert gone.value.code == "version_revoked"


def test_exports_and_their_download(
    served: Served, client: Palimpsest, recorder: Recorder, tmp_path: Path
) -> None:
    model = learned(served, client, "exported")
    export = client.exports.create(model, 5, labels=["0", "1"], seed=3, shard_images=4)
    assert export.to_json() == recorder.last
    with pytest.raises(ExportNotDone):
        client.exports.download(export, tmp_path)
    with pytest.raises(ExportNotDone):
        client.exports.wait(export, timeout=0)
    served.worker.export(export.id)
    done = client.exports.wait(export, must_succeed=True)
    assert (done.images, done.shards) == (10, 3)
    shards = list(client.exports.shards(done))
    assert [shard.to_json() for shard in shards] == recorder.last["data"]
    # One file is there, one in part, and one in part with wrong bytes.
    first, second, third = shards
    written = [served.http.get(shard.href).content for shard in shards]
    (tmp_path / first.file).write_bytes(written[0])
    (tmp_path / f"{second.file}.part").write_bytes(written[1][:100])
    (tmp_path / f"{third.file}.part").write_bytes(b"x" * 100)
    before = len(recorder.exchanges)
    with pytest.raises(DownloadDamaged):
        client.exports.download(done, tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    seen: list[int] = []
    manifest = client.exports.download(done, tmp_path, on_progress=seen.append)
    requested = [path for _, path, _ in recorder.exchanges[before:]]
    assert first.href not in requested
    assert seen[-1] == done.bytes
    assert [(tmp_path / shard.file).read_bytes() for shard in shards] == written
    assert [one["sha256"] for one in json.loads(manifest.read_bytes())["shards"]] == [
        shard.sha256 for shard in shards
    ]
    assert [one.id for one in client.exports.list(model="exported", state="succeeded")] == [export.id]
    cancelled = client.exports.cancel(client.exports.create(model, 1))
    assert (cancelled.state, client.exports.get(cancelled).done) == ("cancelled", True)
    with pytest.raises(ExportFailed):
        client.exports.wait(cancelled, must_succeed=True)
    client.exports.delete(done)
    assert [one.id for one in client.exports.list(model="exported")] == [cancelled.id]


def test_datasets_and_the_catalog(client: Palimpsest, recorder: Recorder) -> None:
    dataset = client.datasets.upload("doodles", as_npz(doodles()))
    assert dataset.to_json() == recorder.last
    first = dataset.labels[0]
    assert client.datasets.example("doodles", first, 1, grid=(1, 2)).startswith(b"\x89PNG")
    client.datasets.delete_label("doodles", first)
    assert client.datasets.get("doodles").deleted_labels == (first,)
    client.datasets.delete("doodles")
    assert "doodles" not in [one.name for one in client.datasets.list()]
    catalog = client.catalog.get()
    assert catalog.to_json() == recorder.last


def test_projects_keys_and_the_audit_log(client: Palimpsest, recorder: Recorder) -> None:
    project = client.projects.create("acme")
    assert project.to_json() == recorder.last
    assert client.projects.get("acme") == project
    key = client.keys.create("ci", ["read"], project="acme", expires_in=60)
    assert key.key is not None
    assert key.key.startswith("pal_")
    assert key.to_json() == recorder.last
    with Palimpsest(client.base_url, api_key=key.key) as own:
        assert [one.name for one in own.projects.list()] == ["acme"]
    assert key.id in [one.id for one in client.keys.list()]
    client.keys.revoke(key.id)
    assert client.keys.get(key.id).revoked_at is not None
    assert client.keys.get(key.id).to_json() == recorder.last
    client.projects.delete("acme")
    assert "acme" not in [one.name for one in client.projects.list()]
    entries = list(client.audit.list(resource=key.id))
    assert [entry.action for entry in entries] == ["key.revoke", "key.create"]
    assert list(client.audit.list(resource=key.id, action="key.revoke")) == entries[:1]


def test_events_and_labels_that_expire(served: Served, client: Palimpsest, recorder: Recorder) -> None:
    client.models.create("brief", dataset="mnist")
    job = client.models.learn("brief", ["3"], retention="temporary", expires_in=3600)
    assert (job.expires_in, job.to_json()) == (3600, recorder.last)
    served.worker.work(job.id)
    events = list(client.jobs.past_events(job))
    assert [event.state for event in events if isinstance(event, values.StateEvent)][-1] == "succeeded"
    assert [event.to_json() for event in events] == recorder.last["data"]
    label = next(one for one in client.models.get("brief").labels if one.name == "3")
    assert label.expires_at is not None


def test_webhooks(client: Palimpsest, recorder: Recorder) -> None:
    webhook = client.webhooks.create("http://127.0.0.1:9/", ["job.finished"])
    assert webhook.to_json() == recorder.last
    assert webhook.secret is not None
    assert client.webhooks.get(webhook.id).to_json() == recorder.last
    assert [one.id for one in client.webhooks.list()] == [webhook.id]
    sent = client.webhooks.test(webhook.id)
    assert sent.to_json() == recorder.last
    assert [one.id for one in client.webhooks.deliveries(webhook.id)] == [sent.id]
    assert client.webhooks.delivery(webhook.id, sent.id).to_json() == recorder.last
    client.webhooks.delete(webhook.id)
    assert list(client.webhooks.list()) == []


def test_a_deleted_model_and_the_keys_that_verify(
    served: Served, client: Palimpsest, recorder: Recorder
) -> None:
    model = learned(served, client, "deleted")
    client.models.create("plain", dataset="mnist")
    assert client.models.delete("plain") is None
    deletion = client.models.delete(model, purge=True, reference="erasure 13")
    assert deletion is not None
    assert deletion.to_json() == recorder.last
    served.sweep()
    assert client.models.deletion(model.id).state == "done"
    assert json.loads(client.models.deletion_receipt(model.id))["payloadType"]
    assert "deleted" not in [one.name for one in client.models.list()]
    assert client.signing_keys.current() in list(client.signing_keys.list())
    assert client.service.alive()
    assert client.service.ready().to_json() == recorder.last


def test_every_operation_of_the_api_has_a_method(served: Served, recorder: Recorder) -> None:
    """It comes after the tests above, whose requests it looks at."""
    called = {(method, route(served, path)) for method, path, _ in recorder.exchanges}
    offered = {
        (method.upper(), path)
        for path, methods in served.http.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert offered - called == WITHOUT_A_METHOD


def route(served: Served, path: str) -> str:
    """Find the most literal path of the document that a request's path is one of."""
    parts = path.split("/")
    fitting = [
        template
        for template in served.app.openapi()["paths"]
        if len(template.split("/")) == len(parts)
        and all(fits(*pair) for pair in zip(template.split("/"), parts, strict=True))
    ]
    found: str = min(fitting, key=lambda template: template.count("{"))
    return found


def fits(template: str, part: str) -> bool:
    return template == part or "{" in template


def test_the_async_client_does_the_same(served: Served, tmp_path: Path) -> None:
    async def use() -> tuple[values.Job, list[int], tuple[int, int]]:
        async with AsyncPalimpsest(served.address) as client:
            model = await client.models.create("async", dataset="mnist")
            job = await client.models.learn(model, ["0"])
            await asyncio.to_thread(served.worker.work, job.id)
            done = await client.jobs.wait(job)
            numbers = [version.number async for version in client.versions.list(model)]
            assert [event.is_last async for event in client.jobs.events(job)][-1]
            export = await client.exports.create(model, 3)
            await asyncio.to_thread(served.worker.export, export.id)
            await client.exports.wait(export, must_succeed=True)
            await client.exports.download(export, tmp_path)
            return done, numbers, (await client.images.draw(model, "0")).size

    done, numbers, size = asyncio.run(use())
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", "shard-00000.npz"}
    assert (done.succeeded, numbers, size) == (True, [1], (28, 28))


VALUES: dict[str, type[Any]] = {
    "StateEvent": values.StateEvent,
    "ProgressEvent": values.ProgressEvent,
    "LogEvent": values.LogEvent,
    "AliasChangeObject": values.AliasChange,
    "AliasObject": values.Alias,
    "AncestorObject": values.Ancestor,
    "ApiKeyObject": values.ApiKey,
    "AuditEntryObject": values.AuditEntry,
    "Catalog": values.Catalog,
    "ComparisonObject": values.Comparison,
    "DatasetObject": values.Dataset,
    "DeliveryObject": values.Delivery,
    "ExportObject": values.Export,
    "ShardObject": values.ExportShard,
    "FullReportObject": values.EvaluationReport,
    "JobObject": values.Job,
    "ModelDeletionObject": values.ModelDeletion,
    "ModelObject": values.Model,
    "NewApiKeyObject": values.NewApiKey,
    "NewWebhookObject": values.NewWebhook,
    "ProblemViolation": Violation,
    "ProjectObject": values.Project,
    "QuickReportObject": values.QuickReport,
    "Readiness": values.Readiness,
    "RelapseObject": values.Relapse,
    "SampleObject": values.SampleRecord,
    "SigningKeyObject": values.SigningKey,
    "VersionObject": values.Version,
    "WebhookObject": values.Webhook,
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_has_the_fields_that_the_document_says(served: Served, name: str) -> None:
    document = served.app.openapi()
    own = VALUES[name].model_json_schema(by_alias=True)
    assert shape(own, own.get("$defs", {})) == shape(
        document["components"]["schemas"][name], document["components"]["schemas"]
    )


def shape(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """Reduce a JSON Schema to its fields, which of them are required, and their types."""
    if "$ref" in schema:
        return shape(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema or "oneOf" in schema:
        return sorted(
            (shape(one, definitions) for one in schema.get("anyOf", schema.get("oneOf"))), key=json.dumps
        )
    if "properties" in schema:
        required = schema.get("required", ())
        return {
            f"{name}{'' if name in required else '?'}": shape(one, definitions)
            for name, one in sorted(schema["properties"].items())
        }
    if schema.get("type") == "array":
        return [shape(one, definitions) for one in schema.get("prefixItems", [schema.get("items", {})])]
    if isinstance(schema.get("additionalProperties"), Mapping):
        return {"*": shape(schema["additionalProperties"], definitions)}
    return schema.get("format") or schema.get("type")


def test_every_object_of_an_answer_is_compared(served: Served) -> None:
    """The parts of objects are compared with the objects that they are in."""
    used = set(re.findall(r'schemas/(?:Listing_)?(\w+?Object)_?"', json.dumps(served.app.openapi()["paths"])))
    assert used - set(VALUES) == {"SessionObject"}
