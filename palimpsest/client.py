"""Palimpsest over HTTP: one method a request, plain frozen values for answers, one exception for problems.

with Palimpsest("http://127.0.0.1:8000") as palimpsest:
    palimpsest.create_model("digits", dataset="mnist")
    job = palimpsest.wait(palimpsest.learn("digits", ["0", "1"]))
"""

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from palimpsest.values import Dataset, Job, Json, Model, Report, Sample, SigningKey, Version

PATIENCE_SECONDS = 30.0  # how long `wait` bears a server that answers 503 or nothing


class RequestRefused(Exception):
    """The server refused; carries its RFC 9457 problem: `code` is stable, `detail` says what to do next.

    A server that cannot be reached, or answers no problem document, is told the same way with the code
    `unreachable` or `not_a_problem`.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Json] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code} ({status}): {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.request_id = request_id
        self.retry_after = retry_after


class Palimpsest:
    """A server's HTTP surface. Every method raises RequestRefused when the server says no."""

    def __init__(
        self, base_url: str, *, timeout: float = 60.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def datasets(self) -> list[Dataset]:
        """Everything that can be learnt from."""
        return [Dataset.model_validate(entry) for entry in self._get("/v1/datasets").json()["data"]]

    def upload_dataset(self, name: str, archive: bytes) -> Dataset:
        """Have the server keep images to learn from; others under the same name are refused.

        archive: an npz of `images` (uint8 [n, 28, 28]) and `labels` ([n]), or a zip of PNGs, LABEL/NAME.png.
        """
        headers = {"Content-Type": "application/zip"}
        answer = self._ask("PUT", f"/v1/datasets/{_step(name)}", content=archive, headers=headers)
        return Dataset.model_validate(answer.json())

    def create_model(
        self,
        name: str,
        *,
        dataset: str,
        network: Json | None = None,
        seed: int | None = None,
        acceptance: Json | None = None,
    ) -> Model:
        """A new model that holds nothing yet. acceptance: for every job that brings none of its own."""
        body = _given(name=name, dataset=dataset, network=network, seed=seed, acceptance=acceptance)
        return Model.model_validate(self._post("/v1/models", body).json())

    def model(self, model: str) -> Model:
        """The model of that name or id, as it is now."""
        return Model.model_validate(self._get(f"/v1/models/{_step(model)}").json())

    def learn(
        self,
        model: str,
        labels: Sequence[str],
        *,
        dataset: str | None = None,
        names: Mapping[str, str] | None = None,
        retention: str | None = None,
        strategy: str | None = None,
        params: Json | None = None,
        acceptance: Json | None = None,
        seed: int | None = None,
        base_version: int | None = None,
    ) -> Job:
        """Ask the model to learn labels; None leaves a choice to the server.

        names: what the model is to call a label, where not as its dataset does: {"sneaker": "shoe"}.
        retention: permanent or temporary; a temporary label is forgotten exactly, by dropping its network.
        """
        body = _given(
            labels=list(labels),
            dataset=dataset,
            **{"as": names},
            retention=retention,
            strategy=strategy,
            params=params,
            acceptance=acceptance,
            seed=seed,
            base_version=base_version,
        )
        return self._change(model, "learn", body)

    def forget(
        self,
        model: str,
        labels: Sequence[str],
        *,
        strategy: str | None = None,
        params: Json | None = None,
        purge: bool | None = None,
        acceptance: Json | None = None,
        seed: int | None = None,
        base_version: int | None = None,
    ) -> Job:
        """Ask the model to forget labels; forgetting what is forgotten answers the job that forgot it.

        purge: also delete the files of every older version made from these labels.
        """
        body = _given(
            labels=list(labels),
            strategy=strategy,
            params=params,
            purge=purge,
            acceptance=acceptance,
            seed=seed,
            base_version=base_version,
        )
        return self._change(model, "forget", body)

    def resize(
        self,
        model: str,
        policy: str,
        *,
        params: Json | None = None,
        acceptance: Json | None = None,
        seed: int | None = None,
        base_version: int | None = None,
    ) -> Job:
        """Ask for a smaller (`prune`) or larger (`expand`) network that draws what it drew before."""
        body = _given(
            policy=policy, params=params, acceptance=acceptance, seed=seed, base_version=base_version
        )
        return self._change(model, "resize", body)

    def evaluate(
        self, model: str, *, version: int | None = None, params: Json | None = None, seed: int | None = None
    ) -> Job:
        """Ask for a full report on a version (the head), beside retrained references."""
        return self._change(model, "evaluate", _given(version=version, params=params, seed=seed))

    def job(self, job_id: str) -> Job:
        """The job as it is now."""
        return Job.model_validate(self._get(f"/v1/jobs/{_step(job_id)}").json())

    def receipt(self, job_id: str) -> bytes:
        """The signed receipt of a forget that succeeded, for `palimpsest verify`: keep its bytes as they are.

        Refused as `receipt_not_ready` while a purge is pending.
        """
        return self._get(f"/v1/jobs/{_step(job_id)}/receipt").content

    def signing_key(self) -> SigningKey:
        """What the server's receipts are checked with; keep it apart from them."""
        return SigningKey.model_validate(self._get("/v1/keys/signing").json())

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; it does within one training step. Asking twice is harmless."""
        return Job.model_validate(self._post(f"/v1/jobs/{_step(job_id)}/cancel", None).json())

    def wait(
        self,
        job: Job,
        *,
        on_progress: Callable[[Job], None] = lambda _: None,
        timeout: float | None = None,
    ) -> Job:
        """The job once it is done, however it ended: ask it for `error` and `output_version`.

        Asks again as often as the server's Retry-After says and tells `on_progress` every answer. Bears a
        server that is away for half a minute. Raises TimeoutError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        away_since: float | None = None
        while True:
            try:
                answer = self._get(f"/v1/jobs/{_step(job.id)}")
                job, pause, away_since = Job.model_validate(answer.json()), _retry_after(answer), None
                on_progress(job)
            except RequestRefused as refused:
                away_since = away_since or time.monotonic()
                if refused.status not in (0, 503) or time.monotonic() - away_since > PATIENCE_SECONDS:
                    raise
                pause = refused.retry_after
            if job.done:
                return job
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{job.id} is still {job.state} after {timeout:g} s; it goes on")
            time.sleep(1.0 if pause is None else pause)

    def samples(
        self,
        model: str,
        labels: Sequence[str],
        count: int,
        *,
        seed: int | None = None,
        version: int | None = None,
        format: str = "png_grid",
    ) -> Sample:
        """Draw `count` images of each label, and record it: /v1/samples/{id}/images draws them again."""
        body = _given(labels=list(labels), count=count, seed=seed, version=version, format=format)
        answer = self._post(f"/v1/models/{_step(model)}/samples", body)
        return Sample(answer.headers["X-Sample-Id"], answer.headers["Content-Type"], answer.content)

    def image(
        self,
        model: str,
        version: int,
        label: str,
        seed: int,
        *,
        scale: int | None = None,
        grid: tuple[int, int] | None = None,
    ) -> bytes:
        """A PNG of one label: one image, or a grid (rows, columns) of the seeds from `seed` on."""
        query = _given(scale=scale, grid=f"{grid[0]}x{grid[1]}" if grid else None)
        path = f"/v1/models/{_step(model)}/versions/{version}/images/{_step(label)}/{seed}.png"
        return self._get(path, query).content

    def versions(self, model: str) -> list[Version]:
        """Every version of the model, oldest first."""
        rows: list[Version] = []
        query: dict[str, Any] = {"limit": 100}
        while True:
            page = self._get(f"/v1/models/{_step(model)}/versions", query).json()
            rows += [Version.model_validate(row) for row in page["data"]]
            if not page["has_more"]:
                return sorted(rows, key=lambda version: version.number)
            query["after"] = page["next"]

    def report(self, model: str, version: int, *, level: str | None = None) -> Report:
        """The evidence for that version: `quick`, `full`, or the fullest there is."""
        path = f"/v1/models/{_step(model)}/versions/{version}/report"
        report: Report = self._get(path, _given(level=level)).json()
        return report

    def report_of_job(self, job_id: str) -> Report:
        """What a job measured; of a rejected one too."""
        report: Report = self._get(f"/v1/jobs/{_step(job_id)}/report").json()
        return report

    def relapse(self, model: str) -> Report:
        """Every forgotten label, and what each version since drew for it."""
        series: Report = self._get(f"/v1/models/{_step(model)}/relapse").json()
        return series

    def compare(self, model: str, before: int, after: int) -> Report:
        """The figures of two versions side by side."""
        query = {"from": before, "to": after}
        compared: Report = self._get(f"/v1/models/{_step(model)}/compare", query).json()
        return compared

    def _change(self, model: str, operation: str, body: Json) -> Job:
        return Job.model_validate(self._post(f"/v1/models/{_step(model)}/{operation}", body).json())

    def _get(self, path: str, query: Json | None = None) -> httpx.Response:
        return self._ask("GET", path, params=query)

    def _post(self, path: str, body: Json | None) -> httpx.Response:
        return self._ask("POST", path, json=body)

    def _ask(self, verb: str, path: str, **what: Any) -> httpx.Response:
        try:
            answer = self._http.request(verb, path, **what)
        except httpx.TransportError as error:
            raise RequestRefused(
                0, "unreachable", f"{self._http.base_url} does not answer: {error}"
            ) from error
        if answer.is_success:
            return answer
        raise _refusal(answer)


def _refusal(answer: httpx.Response) -> RequestRefused:
    if answer.headers.get("Content-Type", "").split(";")[0] != "application/problem+json":
        detail = f"{answer.url} answered {answer.status_code} without a problem document"
        return RequestRefused(answer.status_code, "not_a_problem", detail, retry_after=_retry_after(answer))
    problem = answer.json()
    return RequestRefused(
        answer.status_code,
        problem["code"],
        problem["detail"],
        errors=problem.get("errors", ()),
        request_id=problem.get("request_id"),
        retry_after=_retry_after(answer),
    )


def _retry_after(answer: httpx.Response) -> float | None:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _step(name: str) -> str:
    """One path segment: a slash in a name stays inside it."""
    return quote(name, safe="")
