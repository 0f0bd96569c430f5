"""The requests that two commits are sent, over HTTP only, and a record of what each job published."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
from PIL import Image

from benchmarks.comparing import Record

RENAMED_PARAMS = {"stranger_steps": "naive_steps"}  # plain-words: allow
"""Params of a strategy that have another name in later trees: {old name: new name}."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

MERGE, RETRAIN = "merge", "retrain"
"""The strategy that makes temporary labels permanent, and the one that forgets by retraining."""

TINY: dict[str, dict[str, Any]] = {
    "mlp": {"encoder_widths": [16], "decoder_widths": [16], "latent": 2},
    "conv": {"encoder_widths": [4, 4, 16], "decoder_widths": [16, 4, 4], "latent": 2},
    "hyper": {"encoder_widths": [16], "decoder_widths": [16], "latent": 2},
}
FEW = {"steps": 5, "batch_size": 16}
SHORT: dict[str, Any] = {
    **dict.fromkeys(("schedule", "search", "compression", "reference"), FEW),
    **dict.fromkeys(("stranger_steps", "probe_steps"), 3),  # plain-words: allow
    **{f"{name}_examples": 50 for name in ("fisher", "taylor", "saliency", "rank", "validation", "capacity")},
    **{"encoder_widths": [16], "decoder_widths": [16]},
    **{"seeds": 3, "draws": 100, "attacks": 64, "attack_steps": 20, "relearning": {"steps": 8}},
}
"""Params that make any strategy fast. A job is sent those of them that its strategy has."""

SEED, SEEDS, COLUMNS = 7, 3, 4
JOB_SECONDS = 900.0


@dataclass(frozen=True)
class Job:
    """One request: its strategy as the catalog has it, and whether the request names the strategy."""

    entry: Mapping[str, Any]
    labels: tuple[str, ...] = ()
    named: bool = False

    @property
    def title(self) -> str:
        """A title such as `learn 3 4 by der`."""
        entry = self.entry
        words = [
            entry["operation"],
            *self.labels,
            entry["policy"],
            f"by {entry['name']}" if self.named else "",
        ]
        temporary = entry["operation"] == "learn" and entry["retention"] == "temporary"
        return " ".join(word for word in (*words, "temporary" if temporary else "") if word)


@dataclass(frozen=True)
class History:
    """A model and its jobs, in order. Each job is sent those of `params` that its strategy has."""

    name: str
    network: Mapping[str, Any]
    jobs: tuple[Job, ...]
    params: Mapping[str, Any]


def histories(catalog: Mapping[str, Any], dataset: str, steps: int, *, quick: bool) -> Iterator[History]:
    """Yield one history of a network of default size, then one for each strategy and tiny network.

    quick: only tiny networks, and no evaluation, because its references take as long as everything else.
    """
    entries = [dict(entry) for entry in catalog["strategies"]]
    labels = next(entry["labels"] for entry in catalog["datasets"] if entry["name"] == dataset)
    if not quick:
        yield History("default", {}, tuple(main_jobs(entries, labels)), {"schedule": {"steps": steps}})
    for architecture, network in TINY.items():
        for entry in entries:
            if quick and entry["operation"] == "evaluate":
                continue
            if architecture not in (entry.get("architectures") or TINY):
                continue
            name = f"{architecture} {entry['operation']} {entry['name']}"
            jobs = tuple(jobs_for(entry, entries, labels))
            yield History(name, {"architecture": architecture, **network}, jobs, SHORT)


def main_jobs(entries: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Iterator[Job]:
    """Yield jobs that learn five labels and three more, forget two, resize, merge, drop and retrain."""
    learn, forget = default_entry(entries, "learn"), default_entry(entries, "forget")
    temporary = default_entry(entries, "learn", retention="temporary")
    yield Job(learn, tuple(labels[:5]))
    yield Job(learn, tuple(labels[5:8]))
    yield Job(forget, (labels[3], labels[6]))
    for policy in ("prune", "expand"):
        yield Job(default_entry(entries, "resize", policy=policy))
    yield Job(temporary, (labels[8],))
    yield Job(find_entry(entries, "learn", MERGE), (labels[8],))
    yield Job(temporary, (labels[9],))
    yield Job(default_entry(entries, "forget", retention="temporary"), (labels[9],))
    yield Job(find_entry(entries, "forget", RETRAIN), (labels[7],), named=True)


def jobs_for(
    entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> Iterator[Job]:
    """Yield the fewest jobs of a new model that end with one by this strategy."""
    learn, operation = default_entry(entries, "learn"), entry["operation"]
    new = tuple(labels[2:4])
    of_temporary = entry["retention"] == "temporary" and operation == "forget"
    if of_temporary or entry["name"] == MERGE:
        yield Job(learn, tuple(labels[:2]))
        yield Job(default_entry(entries, "learn", retention="temporary"), new)
    elif operation == "forget" and entry["name"] == RETRAIN:  # which goes back to a version without the label
        yield Job(learn, tuple(labels[:2]))
        yield Job(learn, new)
    elif operation in ("forget", "evaluate"):
        yield Job(learn, tuple(labels[:3]))
    else:
        yield Job(learn, tuple(labels[:2]))
    if operation == "evaluate":
        yield Job(default_entry(entries, "forget"), new[:1])
    yield Job(entry, {"learn": new, "forget": new[:1]}.get(operation, ()), named=operation != "evaluate")


def default_entry(
    entries: Sequence[Mapping[str, Any]],
    operation: str,
    *,
    retention: str = "permanent",
    policy: str | None = None,
) -> Mapping[str, Any]:
    """Return the strategy that is used if a request names none."""
    wanted = {"operation": operation, "retention": retention, "policy": policy, "default": True}
    return next(entry for entry in entries if all(entry[key] == value for key, value in wanted.items()))


def find_entry(entries: Sequence[Mapping[str, Any]], operation: str, name: str) -> Mapping[str, Any]:
    """Return the operation's strategy of that name."""
    return next(entry for entry in entries if (entry["operation"], entry["name"]) == (operation, name))


def adapt_params(params: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params that a strategy has, by the names in its schema."""
    known = schema.get("properties", {})
    names = {name: name if name in known else RENAMED_PARAMS.get(name, name) for name in params}
    return {names[name]: value for name, value in params.items() if names[name] in known}


class JobFailed(Exception):
    """A request was refused, or its job did not succeed."""


class Recorder:
    """Sends the requests of histories to one deployment, and records the result of every job."""

    def __init__(self, url: str, dataset: str, on_progress: Callable[[str], None]) -> None:
        self._http = httpx2.Client(base_url=url, timeout=120)
        self._dataset = dataset
        self._on_progress = on_progress

    def catalog(self) -> dict[str, Any]:
        """Return the strategies and datasets that the deployment offers."""
        return dict(self._json("GET", "/v1/catalog"))

    def record(self, number: int, history: History) -> Iterator[Record]:
        """Run a history's jobs and yield their records. Stops after a job that does not succeed."""
        model = f"m{number}"
        body = {"name": model, "dataset": self._dataset, "network": history.network, "seed": SEED}
        self._json("POST", "/v1/models", body)
        for job in history.jobs:
            title, began = f"{history.name}: {job.title}", time.monotonic()
            try:
                record = self._recorded(title, model, job, history.params)
            except JobFailed as failed:
                record = Record(title, problem=str(failed))
            version = f"version {record.version}" if record.problem is None else record.problem
            self._on_progress(f"{title}: {version}, {time.monotonic() - began:.1f} s")
            yield record
            if record.problem is not None:
                return

    def _recorded(self, title: str, model: str, job: Job, params: Mapping[str, Any]) -> Record:
        sent = adapt_params(params, job.entry["params"])
        done = self._wait(self._submit(model, job, sent))
        names = {new: old for old, new in RENAMED_PARAMS.items()}
        old_names = tuple(sorted(names.get(name, name) for name in sent))
        if job.entry["operation"] == "evaluate":
            report = self._json("GET", f"/v1/jobs/{done['id']}/report")
            number = done["evaluated_version"]
            return Record(title, number, documents={"evaluation": report}, params=old_names)
        return self._of_version(title, model, done["output_version"], old_names)

    def _submit(self, model: str, job: Job, params: Mapping[str, Any]) -> dict[str, Any]:
        entry = job.entry
        body: dict[str, Any] = {"params": params}
        if entry["operation"] in ("learn", "forget"):
            body["labels"] = job.labels
        if entry["operation"] == "learn":
            body["retention"] = entry["retention"]
        if entry["operation"] == "resize":
            body["policy"] = entry["policy"]
        if job.named:
            body["strategy"] = entry["name"]
        return dict(self._json("POST", f"/v1/models/{model}/{entry['operation']}", body))

    def _wait(self, job: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + JOB_SECONDS
        while not job["done"]:
            if time.monotonic() > deadline:
                raise JobFailed(f"the job was not done within {JOB_SECONDS:g} s")
            time.sleep(0.05)
            job = self._json("GET", f"/v1/jobs/{job['id']}")
        if job["state"] != "succeeded":
            raise JobFailed(f"{job['state']}: {(job['error'] or {}).get('message', 'no reason given')}")
        return job

    def _of_version(self, title: str, model: str, number: int, params: tuple[str, ...]) -> Record:
        here = f"/v1/models/{model}/versions/{number}"
        version = self._json("GET", here)
        data = {name: self._bytes("GET", file["href"]) for name, file in version["files"].items()}
        documents = {name: json.loads(one) for name, one in data.items() if name.endswith(".json")}
        shape = {name: version[name] for name in ("labels", "parameters", "widths")}
        return Record(
            title,
            number,
            files={name: sha256_of(one) for name, one in data.items() if name not in documents},
            tensors={
                name: sha256(without_header(one))
                for name, one in data.items()
                if name.endswith(".safetensors")
            },
            images=self._images(model, number, version["labels"]),
            documents={**documents, "labels and widths": shape},
            params=params,
        )

    def _images(self, model: str, number: int, labels: Sequence[str]) -> dict[str, str]:
        """Return the sha256 of single images, and of samples as a grid and as an archive of arrays."""
        here = f"/v1/models/{model}"
        drawn = {
            f"image of {label}, seed {seed}": self._bytes(
                "GET", f"{here}/versions/{number}/images/{label}/{seed}.png"
            )
            for label in labels
            for seed in range(SEEDS)
        }
        for form in ("png_grid", "npz") if labels else ():
            body = {"labels": labels, "count": COLUMNS, "seed": SEED, "version": number, "format": form}
            drawn[f"sample as {form}"] = self._bytes("POST", f"{here}/samples", body)
        return {name: sha256_of(one) for name, one in drawn.items()}

    def _json(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self._bytes(method, path, body))

    def _bytes(self, method: str, path: str, body: object = None) -> bytes:
        response = self._http.request(method, path, json=body)
        if not response.is_success:
            raise JobFailed(f"{method} {path}: {response.status_code} {response.text}")
        return response.content


def without_header(checkpoint: bytes) -> bytes:
    """Return a safetensors file without its header: the length in eight bytes, and JSON of that length."""
    return checkpoint[8 + int.from_bytes(checkpoint[:8], "little") :]


def sha256_of(data: bytes) -> str:
    """Return the sha256 of a file; of a PNG that of its size and pixels, because encoders differ."""
    if not data.startswith(PNG_SIGNATURE):
        return sha256(data)
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return sha256(f"{image.mode} {image.size} ".encode() + image.tobytes())


def sha256(data: bytes) -> str:
    """Return the sha256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
