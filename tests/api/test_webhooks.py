"""Webhooks: signed messages arrive at a real receiver, are sent again, and never go to a private address."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from sqlalchemy import func, select, update
from standardwebhooks import Webhook, WebhookVerificationError

from service.process import webhooks as sending
from service.process.sweeper import record_ends
from service.registry import audit, webhooks
from service.registry.database import from_now
from service.registry.tables import AuditRow, JobRow, VersionRow, WebhookDeliveryRow, WebhookRow
from service.settings import Settings
from service.webhook_addresses import BadAddress, is_public, resolve
from tests.api.serving import Served, serving
from tests.api.test_access import new_key
from tests.conftest import DATABASES, own_migrated_database
from tests.instance import wait_for

ALL = list(webhooks.MESSAGE_TYPES)


@dataclass
class Receiver:
    """A real HTTP server that notes what it gets."""

    url: str
    status: int = 200
    location: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.status)
            if found.location:
                self.send_header("Location", found.location)
            self.end_headers()

        def do_GET(self) -> None:
            found.got.append(({}, b""))

        def log_message(self, format: str, *args: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Receiver(f"http://127.0.0.1:{server.server_port}/hook?x=1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module", params=DATABASES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home: Path = tmp_path_factory.mktemp("home")
    with own_migrated_database(request.param, home, request) as url:
        settings = Settings(home=home, database_url=url, webhooks_to_private_addresses=True)
        with serving(settings) as served:
            yield served


@pytest.fixture(autouse=True)
def no_webhooks(served: Served) -> Iterator[None]:
    """Leave no webhook to the next test."""
    yield
    for one in served.http.get("/v1/webhooks?limit=100").json()["data"]:
        assert served.http.delete(f"/v1/webhooks/{one['id']}").status_code == 204


def create(served: Served, receiver: Receiver, *types: str) -> dict[str, Any]:
    answer = served.http.post("/v1/webhooks", json={"url": receiver.url, "types": list(types) or ALL})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def tell(served: Served) -> None:
    """Queue what there is to tell, and send what is due."""
    record_ends(served.worker.database, served.settings)
    sending.deliver(served.worker.database, served.settings)


def deliveries(served: Served, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    return list(served.http.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["data"])


def make_due(served: Served) -> None:
    with served.worker.database.transaction() as session:
        session.execute(update(WebhookDeliveryRow).values(next_at=from_now(-1)))


def test_what_happens_in_a_project_is_sent_signed(served: Served, receiver: Receiver, name: str) -> None:
    model = served.model(name)
    tell(served)
    webhook = create(served, receiver)
    served.worker.relapses["2"] = 0.9
    learned = served.done(name, "learn", labels=["1", "2"])
    forgot = served.done(name, "forget", labels=["2"], acceptance={"forgotten_accuracy_max": 0.5})
    tell(served)
    shown = sorted((one["type"], one["data"].get("version", 0)) for one in receiver.messages())
    assert shown[:2] == [("job.finished", 0)] * 2
    assert [one for one in shown if one[0] == "version.published"] == [
        ("version.published", 1),
        ("version.published", 2),
    ]
    by_type = {one["type"]: one for one in receiver.messages()}
    assert by_type["label.forgotten"]["data"] == {
        "model": model["id"], "model_name": name, "version": 2, "job": forgot.job_id, "label": "2",
        "guarantee": "approximate",
    }  # fmt: skip
    assert by_type["label.relapsed"]["data"]["label"] == "2"
    for headers, body in receiver.got:
        Webhook(webhook["secret"]).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(webhook["secret"]).verify(body + b" ", headers)
    assert {one["state"] for one in deliveries(served, webhook)} == {"delivered"}
    count = len(receiver.got)
    tell(served)
    assert len(receiver.got) == count, "nothing is sent twice"
    assert learned.number == 1


def test_every_message_has_the_documented_body(served: Served, receiver: Receiver, name: str) -> None:
    document = served.http.get("/openapi.json").json()
    served.model(name)
    tell(served)
    webhook = create(served, receiver)
    served.worker.relapses["2"] = 0.9
    served.done(name, "learn", labels=["1", "2"])
    served.done(name, "forget", labels=["2"], acceptance={"forgotten_accuracy_max": 0.5})
    served.worker.fail(served.worker.claim(served.submit(name, "learn", labels=["3"])["id"]))
    served.http.post(f"/v1/webhooks/{webhook['id']}/test").raise_for_status()
    tell(served)
    assert {one["type"] for one in receiver.messages()} == set(document["webhooks"])
    for headers, body in receiver.got:
        message = json.loads(body)
        described = document["webhooks"][message["type"]]["post"]
        assert {one["name"] for one in described["parameters"]} <= set(headers)
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        validator = Draft202012Validator({**schema, "components": document["components"]})
        assert list(validator.iter_errors(message)) == []


def test_a_message_is_found_by_its_own_webhook_only(served: Served, receiver: Receiver) -> None:
    one, other = create(served, receiver), create(served, receiver)
    message = served.http.post(f"/v1/webhooks/{one['id']}/test").json()["id"]
    for path in (f"{other['id']}/deliveries/{message}", f"{one['id']}/deliveries/msg_0"):
        problem = served.http.get(f"/v1/webhooks/{path}").json()
        assert (problem["status"], problem["code"]) == (404, "delivery_not_found")


def test_a_job_that_fails_is_sent_and_other_types_are_not(
    served: Served, receiver: Receiver, name: str
) -> None:
    served.model(name)
    tell(served)
    create(served, receiver, "job.finished")
    served.done(name, "learn", labels=["1"])
    served.worker.fail(served.worker.claim(served.submit(name, "learn", labels=["2"])["id"]))
    tell(served)
    assert {one["type"] for one in receiver.messages()} == {"job.finished"}
    codes = {one["data"]["state"]: one["data"]["code"] for one in receiver.messages()}
    assert codes == {"succeeded": None, "failed": "dataset_unavailable"}


def test_a_message_is_sent_again_under_its_id_until_it_is_accepted(
    served: Served, receiver: Receiver
) -> None:
    webhook = create(served, receiver)
    receiver.status = 500
    accepted = served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    assert accepted.headers["Retry-After"] == "1"
    sent = served.http.get(accepted.headers["Location"]).json()
    assert sent == accepted.json()
    tell(served)
    [waiting] = deliveries(served, webhook)
    assert (waiting["state"], waiting["status"], waiting["attempts"]) == ("pending", 500, 1)
    tell(served)
    assert len(receiver.got) == 1, "not before its time"
    receiver.status = 204
    make_due(served)
    tell(served)
    [done] = deliveries(served, webhook)
    assert (done["state"], done["attempts"], done["error"], done["next_at"]) == ("delivered", 2, None, None)
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {sent["id"]}
    assert receiver.messages()[0]["type"] == "webhook.test"


def test_a_receiver_that_never_accepts_ends_as_disabled(
    served: Served, receiver: Receiver, name: str
) -> None:
    served.model(name)
    tell(served)
    webhook = create(served, receiver, "job.finished")
    receiver.status = 503
    served.done(name, "learn", labels=["1"])
    for _ in range(len(webhooks.RETRY_SECONDS) + 1):
        tell(served)
        make_due(served)
    [given_up] = deliveries(served, webhook)
    assert (given_up["state"], given_up["attempts"]) == ("failed", len(webhooks.RETRY_SECONDS) + 1)
    assert served.http.get(f"/v1/webhooks/{webhook['id']}").json()["disabled_at"] is not None
    served.done(name, "learn", labels=["2"])
    tell(served)
    assert len(deliveries(served, webhook)) == 1


def test_a_receiver_that_is_gone_is_disabled_at_once(served: Served, receiver: Receiver, name: str) -> None:
    served.model(name)
    tell(served)
    webhook = create(served, receiver, "job.finished")
    receiver.status = 410
    served.done(name, "learn", labels=["1"])
    tell(served)
    assert served.http.get(f"/v1/webhooks/{webhook['id']}").json()["disabled_at"] is not None


def test_no_redirect_is_followed(served: Served, receiver: Receiver) -> None:
    webhook = create(served, receiver)
    receiver.status, receiver.location = 307, receiver.url
    served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    tell(served)
    assert len(receiver.got) == 1
    assert deliveries(served, webhook)[0]["status"] == 307


def test_two_processes_send_a_message_once(served: Served, receiver: Receiver) -> None:
    webhook = create(served, receiver)
    served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    with served.worker.database.transaction() as session:
        turns = webhooks.find_turns(session, limit=5)
        assert len(webhooks.take(session, turns)) == 1
    with served.worker.database.transaction() as session:
        assert webhooks.find_turns(session, limit=5) == []
        assert webhooks.take(session, turns) == []


def test_each_project_has_a_turn_before_any_has_a_second(served: Served, receiver: Receiver) -> None:
    """However many messages wait for whom, and however long."""
    other = {"Palimpsest-Project": f"other{served.http.base_url.port}"}
    served.http.post("/v1/projects", json={"name": other["Palimpsest-Project"]})
    full = [create(served, receiver)["id"] for _ in range(3)]
    for webhook in full:
        for _ in range(3):
            served.http.post(f"/v1/webhooks/{webhook}/test")
    body = {"url": receiver.url, "types": ALL}
    last = served.http.post("/v1/webhooks", json=body, headers=other).json()["id"]
    served.http.post(f"/v1/webhooks/{last}/test", headers=other)
    with served.worker.database.reading() as session:
        turns = [turn.webhook_id for turn in webhooks.find_turns(session, limit=10)]
        two = [turn.webhook_id for turn in webhooks.find_turns(session, limit=2)]
        free = [turn.webhook_id for turn in webhooks.find_turns(session, busy=full[:2], limit=10)]
    assert sorted(turns) == sorted([*full, last]), "each once"
    assert last in two
    assert sorted(free) == sorted([full[2], last])
    assert served.http.delete(f"/v1/webhooks/{last}", headers=other).status_code == 204


def test_a_receiver_that_never_answers_delays_its_own_messages_only(
    served: Served, receiver: Receiver
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        hung = Receiver(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        first = create(served, hung)
        for _ in range(webhooks.MAX_PENDING_PINGS):
            served.http.post(f"/v1/webhooks/{first['id']}/test")
        sending_thread = threading.Thread(
            target=sending.deliver, args=(served.worker.database, served.settings), daemon=True
        )
        sending_thread.start()
        connection, _ = silent.accept()  # it is being sent
        second = create(served, receiver)
        served.http.post(f"/v1/webhooks/{second['id']}/test")
        wait_for("the other message has arrived", lambda: receiver.got)
        assert [one["attempts"] for one in deliveries(served, first)].count(1) == 1, "one at a time"
        assert served.http.delete(f"/v1/webhooks/{first['id']}").status_code == 204
        connection.close()
        sending_thread.join(30)
        assert not sending_thread.is_alive()


def test_a_name_that_cannot_be_looked_up_in_time_ends_the_attempt(
    served: Served, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook = create(served, receiver)
    served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    answers = threading.Event()
    original: Callable[..., Any] = socket.getaddrinfo

    def hang(*args: Any, **kwargs: Any) -> Any:
        answers.wait(30)
        return original(*args, **kwargs)

    monkeypatch.setattr(sending, "STEP_SECONDS", 0.05)
    monkeypatch.setattr("service.webhook_addresses.socket.getaddrinfo", hang)
    sending.deliver(served.worker.database, served.settings)
    answers.set()
    assert deliveries(served, webhook)[0]["error"] == "no answer: TimeoutError"
    assert receiver.got == []


def test_a_message_is_not_sent_by_an_attempt_that_would_outlast_its_claim(
    served: Served, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(served, receiver)
    webhook = served.http.get("/v1/webhooks").json()["data"][0]
    served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    monkeypatch.setattr(sending, "LATEST_START_SECONDS", -1.0)
    sending.deliver(served.worker.database, served.settings)
    assert receiver.got == []
    assert deliveries(served, webhook)[0]["state"] == "pending"
    assert sending.STEP_SECONDS + sending.ATTEMPT_SECONDS < webhooks.TAKEN_SECONDS


def test_the_outcome_of_an_attempt_counts_only_until_another_has_begun(
    served: Served, receiver: Receiver
) -> None:
    webhook = create(served, receiver)
    served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    attempts = []
    for _ in range(2):
        make_due(served)
        with served.worker.database.transaction() as session:
            attempts += webhooks.take(session, webhooks.find_turns(session, limit=1))
    late, current = attempts
    with served.worker.database.transaction() as session:
        webhooks.record(session, late, webhooks.Outcome(500, "late"))
    assert deliveries(served, webhook)[0]["error"] is None
    with served.worker.database.transaction() as session:
        webhooks.record(session, current, webhooks.Outcome(200, None))
    assert deliveries(served, webhook)[0]["state"] == "delivered"


def test_messages_that_wait_are_bounded(
    served: Served, receiver: Receiver, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MAX_PENDING", 1)
    monkeypatch.setattr(webhooks, "MAX_PENDING_PINGS", 1)
    served.model(name)
    record_ends(served.worker.database, served.settings)
    webhook = create(served, receiver)
    assert served.http.post(f"/v1/webhooks/{webhook['id']}/test").status_code == 202
    refused = served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_messages")
    served.done(name, "learn", labels=["1"])
    record_ends(served.worker.database, served.settings)
    shown = [(one["type"], one["state"]) for one in deliveries(served, webhook)]
    assert [state for _, state in shown] == ["pending", "failed", "failed"], "the newest waits"
    assert shown[2][0] == webhooks.PING
    assert served.http.get(f"/v1/webhooks/{webhook['id']}").json()["disabled_at"] is None


def test_an_unreadable_report_delays_no_other_message_and_no_lease(
    served: Served, receiver: Receiver, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    served.model(name)
    served.model(f"{name}-b")
    record_ends(served.worker.database, served.settings)
    create(served, receiver, "job.finished", "label.relapsed")
    unreadable = served.done(name, "learn", labels=["1"])
    with served.worker.database.transaction() as session:
        spoilt = update(VersionRow).where(VersionRow.job_id == unreadable.job_id)
        session.execute(spoilt.values(report={"level": "?"}))
    other = served.done(f"{name}-b", "learn", labels=["1"])
    lost = served.submit(f"{name}-b", "learn", labels=["2"])["id"]
    served.worker.claim(lost)
    with served.worker.database.transaction() as session:
        session.execute(update(JobRow).where(JobRow.id == lost).values(lease_until=from_now(-1)))
    served.sweep()
    sending.deliver(served.worker.database, served.settings)
    assert served.http.get(f"/v1/jobs/{lost}").json()["state"] == "queued"
    finished = {one["data"]["job"] for one in receiver.messages() if one["type"] == "job.finished"}
    assert finished == {unreadable.job_id, other.job_id}
    assert unreadable.job_id in caplog.text


def test_a_job_whose_end_cannot_be_recorded_keeps_no_other_from_it(
    served: Served, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served.model(name)
    record_ends(served.worker.database, served.settings)
    broken, fine = (served.done(name, "learn", labels=[label]).job_id for label in ("1", "2"))
    original = audit.append

    def fail(session: Any, action: str, resource: str, **more: Any) -> None:
        if resource == broken:
            raise RuntimeError("broken")
        original(session, action, resource, **more)

    with monkeypatch.context() as patch:
        patch.setattr(audit, "append", fail)
        record_ends(served.worker.database, served.settings)
    with served.worker.database.reading() as session:
        assert audit.find_ended(session) == [broken]
        assert session.scalars(
            select(AuditRow.resource).where(AuditRow.resource == fine, AuditRow.action == "job.end")
        ).all() == [fine]
    assert f"job {broken}" in caplog.text
    record_ends(served.worker.database, served.settings)
    with served.worker.database.reading() as session:
        assert audit.find_ended(session) == []


def test_a_secret_is_shown_once(served: Served, receiver: Receiver) -> None:
    headers = {"Idempotency-Key": "once"}
    body = {"url": receiver.url, "types": ["job.finished"]}
    first, again = (served.http.post("/v1/webhooks", json=body, headers=headers) for _ in range(2))
    assert first.json()["secret"].startswith("whsec_")
    assert first.headers["Cache-Control"] == "no-store"
    assert (again.json()["id"], again.json()["secret"]) == (first.json()["id"], None)
    shown = served.http.get("/v1/webhooks").text + served.http.get(first.headers["Location"]).text
    assert first.json()["secret"] not in shown
    with served.worker.database.reading() as session:
        entries = session.scalars(select(AuditRow.details).where(AuditRow.action == "webhook.create"))
        assert first.json()["secret"] not in json.dumps(list(entries))


def test_a_deleted_webhook_and_its_messages_are_gone(served: Served, receiver: Receiver) -> None:
    webhook = create(served, receiver)
    served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    assert served.http.delete(f"/v1/webhooks/{webhook['id']}").status_code == 204
    for path in ("", "/deliveries"):
        refused = served.http.get(f"/v1/webhooks/{webhook['id']}{path}")
        assert (refused.status_code, refused.json()["code"]) == (404, "webhook_not_found")
    tell(served)
    assert receiver.got == []
    with served.worker.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(WebhookDeliveryRow)) == 0


def test_a_project_has_a_bounded_number_of_webhooks(served: Served, receiver: Receiver) -> None:
    for _ in range(webhooks.MAX_WEBHOOKS):
        create(served, receiver)
    refused = served.http.post("/v1/webhooks", json={"url": receiver.url, "types": ALL})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhooks")


def test_webhooks_need_the_scope_admin_and_belong_to_a_project(tmp_path: Path) -> None:
    with serving(Settings(home=tmp_path, auth="on", webhooks_to_private_addresses=True)) as served:
        admin = {"Authorization": f"Bearer {new_key(served)}"}
        reader = {"Authorization": f"Bearer {new_key(served, 'read')}"}
        served.http.post("/v1/projects", json={"name": "other"}, headers=admin)
        body = {"url": "http://127.0.0.1:9/", "types": ["job.finished"]}
        assert served.http.post("/v1/webhooks", json=body, headers=reader).status_code == 403
        found = served.http.post("/v1/webhooks", json=body, headers=admin).json()
        elsewhere = admin | {"Palimpsest-Project": "other"}
        assert served.http.get(f"/v1/webhooks/{found['id']}", headers=elsewhere).status_code == 404
        assert served.http.get("/v1/webhooks", headers=elsewhere).json()["data"] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.1.2.3/",
        "https://192.168.1.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1]/",
        "https://2130706433/",
        "https://0/",
        "https://me:pass@8.8.8.8/",
        "https://8.8.8.8/#x",
        "https:///x",
        "https://no-such-host.invalid/",
        "https://8.8.8.8:99999/",
        "https://8.8.8.8:0/",
        "not a url",
    ],
)
def test_an_address_that_is_not_public_is_refused(tmp_path_factory: Any, url: str) -> None:
    with pytest.raises(BadAddress):
        resolve(url, allow_private=False)


def test_a_private_address_is_refused_over_http(tmp_path: Path) -> None:
    with serving(Settings(home=tmp_path)) as served:
        body = {"url": "https://127.0.0.1/", "types": ["job.finished"]}
        refused = served.http.post("/v1/webhooks", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_url")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("::ffff:10.0.0.1", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("feff::1", False),
        ("3fff::1", False),
        ("3fff:fff::1", False),
        ("192.88.99.1", False),
        ("64:ff9b:1::1", False),
        ("64:ff9b::c058:6301", False),
        ("5f00::1", False),
        ("192.88.98.1", True),
        ("2001:4860:4860::8888", True),
    ],
)
def test_only_addresses_of_the_internet_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


def test_a_host_that_has_become_private_gets_nothing(
    served: Served, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is checked again when a message is sent, and the one that was checked is used."""
    webhook = create(served, receiver)
    served.http.post(f"/v1/webhooks/{webhook['id']}/test")
    strict = served.settings.model_copy(update={"webhooks_to_private_addresses": False})
    with served.worker.database.transaction() as session:
        moved = update(WebhookRow).values(url="https://rebound.example/")
        session.execute(moved)
    port = int(receiver.url.split(":")[2].split("/")[0])
    answers: list[str] = ["127.0.0.1"]
    original: Callable[..., Any] = socket.getaddrinfo

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:
        if host != "rebound.example":
            return original(host, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[0], port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    sending.deliver(served.worker.database, strict)
    assert receiver.got == []
    assert "public internet" in deliveries(served, webhook)[0]["error"]
