"""Clients that go on requesting jobs and images of one model each, whatever happens to the service."""

import hashlib
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import httpx2

from tests.instance import TINY_NETWORK, schedule
from tests.invariants import Seen
from tests.jobs.worker_contexts import BRIEF_EVALUATION

TIMEOUT_SECONDS = 5.0
PAUSE_SECONDS = 0.2
RETRY_SECONDS = 0.3
MOST_UNFINISHED = 3
"""So many jobs of a model may wait; then its client only looks and cancels."""
LABELS = "0123456789"
EXPAND = {"policy": "expand", "params": {"fisher_examples": 50}}
HELD = ("permanent", "temporary")


@dataclass
class Record:
    """What the clients were answered. Written by several threads."""

    accepted: set[str] = field(default_factory=set)
    seen: set[Seen] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    violations: list[str] = field(default_factory=list)
    job_of_request: dict[str, str] = field(default_factory=dict)
    """{request id: the job that it was answered with}."""
    slowest_seconds: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def answer(self, method: str, path: str, response: httpx2.Response, seconds: float) -> None:
        with self._lock:
            self.statuses[response.status_code] += 1
            self.slowest_seconds = max(self.slowest_seconds, seconds)
            if response.status_code >= 500 and response.status_code not in (503, 507):
                self.violations.append(
                    f"{method} {path} was answered with {response.status_code}: {response.text}"
                )

    def job(self, request_id: str, job_id: str) -> None:
        with self._lock:
            self.accepted.add(job_id)
            before = self.job_of_request.setdefault(request_id, job_id)
            if before != job_id:
                self.violations.append(f"request {request_id} was answered with {before} and with {job_id}")


@dataclass
class Client:
    """One client with one model. It sends a request again, with its key, until it is answered."""

    number: int
    url: str
    seed: int
    record: Record
    stop: Event
    give_up: Event
    """Set when the run is over: then nothing is sent again."""

    def __post_init__(self) -> None:
        self.chance = random.Random(f"{self.seed}/client {self.number}")
        self.http = httpx2.Client(base_url=self.url, timeout=TIMEOUT_SECONDS)
        self.model = f"model-{self.number}"
        self.jobs: list[str] = []
        self.sent = 0

    def run(self) -> None:
        body = {"name": self.model, "dataset": "digits", "seed": self.number, "network": TINY_NETWORK}
        self._post("/v1/models", body)
        while not self.stop.wait(PAUSE_SECONDS * self.chance.random()):
            self._act()

    def _act(self) -> None:
        choice = self.chance.random()
        if choice < 0.25:
            self._sample()
        elif choice < 0.30 and self.jobs:
            self._post(f"/v1/jobs/{self.chance.choice(self.jobs[-3:])}/cancel", None)
        elif self._unfinished() < MOST_UNFINISHED:
            self._submit()

    def _submit(self) -> None:
        operation, body = self._choose()
        answer = self._post(f"/v1/models/{self.model}/{operation}", body)
        if answer is not None and answer.status_code in (200, 202):
            job_id = str(answer.json()["id"])
            self.jobs.append(job_id)
            self.record.job(answer.request.headers["X-Request-Id"], job_id)

    def _choose(self) -> tuple[str, dict[str, Any]]:
        steps = schedule(self.chance.choice((3, 30, 300)))
        match self.chance.choice(("learn",) * 4 + ("forget",) * 3 + ("temporary", "resize", "evaluate")):
            case "learn":
                labels = self.chance.sample(LABELS, 2)
                return "learn", {"labels": labels, "params": steps} | self._resize_afterwards()
            case "temporary":
                labels = self.chance.sample(LABELS, 1)
                return "learn", {"labels": labels, "retention": "temporary", "params": schedule(3)}
            case "forget":
                purge = self.chance.random() < 0.3
                labels = self.chance.sample(LABELS, 1)
                body = {"labels": labels, "purge": purge, "params": {}}
                return "forget", body | self._resize_afterwards()
            case "resize":
                return "resize", EXPAND
            case _:
                return "evaluate", {"params": BRIEF_EVALUATION}

    def _resize_afterwards(self) -> dict[str, Any]:
        return {"resize": EXPAND} if self.chance.random() < 0.3 else {}

    def _sample(self) -> None:
        label = self.chance.choice(LABELS)
        self._post(f"/v1/models/{self.model}/samples", {"labels": [label], "count": 2, "format": "npz"})

    def _unfinished(self) -> int:
        found = self._get(f"/v1/jobs?model={self.model}&limit=5")
        if found is None or found.status_code != 200:
            return MOST_UNFINISHED
        return sum(not job["done"] for job in found.json()["data"])

    def _get(self, path: str) -> httpx2.Response | None:
        return self._send("GET", path, None, {})

    def _post(self, path: str, body: object) -> httpx2.Response | None:
        """Send the request until it is answered; return the answer, or None if the run is over before."""
        self.sent += 1
        name = f"chaos-{self.seed}-{self.number}-{self.sent}"
        headers = {"Idempotency-Key": name, "X-Request-Id": name}
        while not self.give_up.is_set():
            answer = self._send("POST", path, body, headers)
            is_in_flight = answer is not None and answer.status_code == 409 and "in_flight" in answer.text
            if answer is not None and answer.status_code not in (429, 503, 507) and not is_in_flight:
                return answer
            if answer is not None and answer.status_code == 507:
                return None  # the service has no room: this request was refused for good
            self.give_up.wait(RETRY_SECONDS)
        return None

    def _send(self, method: str, path: str, body: object, headers: dict[str, str]) -> httpx2.Response | None:
        begun = time.monotonic()
        try:
            answer = self.http.request(method, path, json=body, headers=headers)
        except httpx2.HTTPError:
            with self.record._lock:
                self.record.unanswered += 1
            return None
        self.record.answer(method, path, answer, time.monotonic() - begun)
        return answer


@dataclass
class Poller:
    """Records the head of every model, and what it is made of, as often as it can."""

    url: str
    record: Record
    stop: Event

    def run(self) -> None:
        heads: dict[str, int] = {}
        with httpx2.Client(base_url=self.url, timeout=TIMEOUT_SECONDS) as http:
            while not self.stop.wait(0.1):
                with suppress(httpx2.HTTPError):
                    self._look(http, heads)

    def _look(self, http: httpx2.Client, heads: dict[str, int]) -> None:
        listed = http.get("/v1/models")
        for model in listed.json()["data"] if listed.status_code == 200 else ():
            head = model["head"] or 0
            if head < heads.get(model["id"], 0):
                self.record.violations.append(
                    f"I5: the head of {model['name']} was {heads[model['id']]}, and {head} later"
                )
            heads[model["id"]] = max(head, heads.get(model["id"], 0))
            if head:
                self._look_at_version(http, model, head)

    def _look_at_version(self, http: httpx2.Client, model: dict[str, Any], number: int) -> None:
        path = f"/v1/models/{model['id']}/versions/{number}"
        version = http.get(path)
        if version.status_code == 404:
            self.record.violations.append(f"I5: {path}, the head of a moment ago, does not exist")
        if version.status_code != 200:
            return
        for name, file in version.json()["files"].items():
            self.record.seen.add(Seen(model["id"], number, name, file["sha256"]))
        for label in [one["name"] for one in model["labels"] if one["status"] in HELD][:2]:
            image = http.get(f"{path}/images/{label}/0.png")
            if image.status_code == 200:
                sha256 = hashlib.sha256(image.content).hexdigest()
                self.record.seen.add(Seen(model["id"], number, f"images/{label}/0.png", sha256))


def start(clients: list[Client], poller: Poller) -> list[threading.Thread]:
    """Start a thread for each."""
    runs = [*(client.run for client in clients), poller.run]
    threads = [threading.Thread(target=run, daemon=True) for run in runs]
    for thread in threads:
        thread.start()
    return threads
