"""A client of the REST API: one method for each request, immutable values for responses.

The server's /openapi.json describes every request in full.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from palimpsest.errors import RequestRefused, ServerUnreachable
from palimpsest.values import Dataset, Job, Json, Model, Sample, SigningKey, Version
from reports import Report, read_report

OUTAGE_SECONDS = 30.0
"""How long `wait` keeps polling while the server responds with 503 or cannot be reached."""
POLL_SECONDS = 1.0
"""How long `wait` pauses between two polls if the response has no Retry-After header."""


class Palimpsest:
    """A client of one server. Close it, or use it as a context manager.

        with Palimpsest("http://127.0.0.1:8000") as palimpsest:
            palimpsest.create_model("numbers", dataset="digits")
            job = palimpsest.wait(palimpsest.learn("numbers", ["0", "1"]))

    `learn`, `forget`, `resize` and `evaluate` return a queued job at once; `wait` polls it until it is done.
    The argument `model` is a model's name or id. With an `idempotency_key`, such as a UUID, a request may be
    sent again after its response was lost: nothing is done twice. `reference` is your own name for a request,
    which is shown on the job and in a receipt, and `metadata` your own data about it. Every method raises
    RequestRefused when the server responds with an error, and ServerUnreachable when there is no response.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        project: str | None = None,
        timeout: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """api_key: by default that in the environment variable PALIMPSEST_API_KEY, or none.

        project: the name of the project to work in; by default that of the key. timeout: seconds to wait for
        each response. transport: replaces the network in tests.
        """
        key = api_key or os.environ.get("PALIMPSEST_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if project is not None:
            headers["Palimpsest-Project"] = project
        self._http = httpx2.Client(base_url=base_url, headers=headers, timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- datasets and models ------------------------------------------------------------------------

    def datasets(self) -> list[Dataset]:
        """List the datasets that models can learn from."""
        return [Dataset.model_validate(entry) for entry in self._get("/v1/datasets").json()["data"]]

    def upload_dataset(self, name: str, archive: bytes) -> Dataset:
        """Upload labelled images to learn from.

        archive: an npz of `images` (uint8 [n, 28, 28]) and `labels` ([n]), or a zip of PNGs named
        LABEL/NAME.png. Uploading the same archive again changes nothing. A different archive under the same
        name is refused (`dataset_exists`).
        """
        headers = {"Content-Type": "application/zip"}
        response = self._send("PUT", f"/v1/datasets/{_segment(name)}", content=archive, headers=headers)
        return Dataset.model_validate(response.json())

    def delete_dataset(self, name: str) -> None:
        """Delete an uploaded dataset. Models keep what they have learned from it."""
        self._send("DELETE", f"/v1/datasets/{_segment(name)}")

    def delete_images(self, dataset: str, label: str) -> None:
        """Delete the images of a label from an uploaded dataset; with the last label, the dataset."""
        self._send("DELETE", f"/v1/datasets/{_segment(dataset)}/labels/{_segment(label)}")

    def create_model(
        self,
        name: str,
        *,
        dataset: str,
        network: Json | None = None,
        seed: int | None = None,
        acceptance: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Model:
        """Create a model without labels.

        acceptance: criteria for each later job that sets none of its own, such as
        {"forgotten_accuracy_max": 0.05}. A version that misses a criterion is not published.
        """
        body = _without_none(name=name, dataset=dataset, network=network, seed=seed, acceptance=acceptance)
        return Model.model_validate(self._post("/v1/models", body, idempotency_key).json())

    def model(self, model: str) -> Model:
        """Get the current state of a model."""
        return Model.model_validate(self._get(f"/v1/models/{_segment(model)}").json())

    # --- jobs ---------------------------------------------------------------------------------------

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
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Start a job that learns labels. The server has a default for each argument that is None.

        dataset: where the labels' images come from; by default the model's own.
        names: new names for labels in this model, by their name in the dataset: {"sneaker": "shoe"}.
        retention: "permanent" or "temporary". A temporary label gets a network of its own, so that
        forgetting it is exact: that network is deleted.
        base_version: the version that must still be the newest; otherwise refused (`stale_base`).
        """
        body = _without_none(
            labels=list(labels),
            dataset=dataset,
            **{"as": names},
            retention=retention,
            strategy=strategy,
            params=params,
            acceptance=acceptance,
            seed=seed,
            base_version=base_version,
            reference=reference,
            metadata=metadata,
        )
        return self._start_job(model, "learn", body, idempotency_key)

    def forget(
        self,
        model: str,
        labels: Sequence[str],
        *,
        strategy: str | None = None,
        params: Json | None = None,
        purge: bool | None = None,
        delete_images: bool = False,
        acceptance: Json | None = None,
        seed: int | None = None,
        base_version: int | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Start a job that forgets labels. If they are forgotten already, return the job that forgot them.

        purge: also delete the files of every older version that was trained on these labels.
        delete_images: also delete their images from the uploaded datasets that they were learned from.
        """
        body = _without_none(
            labels=list(labels),
            strategy=strategy,
            params=params,
            purge=purge,
            also={"datasets": True} if delete_images else None,
            acceptance=acceptance,
            seed=seed,
            base_version=base_version,
            reference=reference,
            metadata=metadata,
        )
        return self._start_job(model, "forget", body, idempotency_key)

    def resize(
        self,
        model: str,
        policy: str,
        *,
        params: Json | None = None,
        acceptance: Json | None = None,
        seed: int | None = None,
        base_version: int | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Start a job that changes the size of the network and keeps its labels.

        policy: "prune" (smaller), "expand" (larger) or "auto" (the server chooses the width).
        """
        body = _without_none(
            policy=policy,
            params=params,
            acceptance=acceptance,
            seed=seed,
            base_version=base_version,
            reference=reference,
            metadata=metadata,
        )
        return self._start_job(model, "resize", body, idempotency_key)

    def evaluate(
        self,
        model: str,
        *,
        version: int | None = None,
        params: Json | None = None,
        seed: int | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Start a job that compares a version with networks retrained without the forgotten labels.

        version: by default the newest. The job adds the "full" report; see `report`.
        """
        body = _without_none(
            version=version, params=params, seed=seed, reference=reference, metadata=metadata
        )
        return self._start_job(model, "evaluate", body, idempotency_key)

    def job(self, job_id: str) -> Job:
        """Get the current state of a job."""
        return Job.model_validate(self._get(f"/v1/jobs/{_segment(job_id)}").json())

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; a running one stops before its next training step. A second call changes nothing."""
        return Job.model_validate(self._post(f"/v1/jobs/{_segment(job_id)}/cancel", None).json())

    def wait(
        self,
        job: Job,
        *,
        on_progress: Callable[[Job], None] = lambda _: None,
        timeout: float | None = None,
    ) -> Job:
        """Poll a job until it is done, and return it, whether it succeeded or not.

        A job that changed the model has an `output_version`; one that failed or was rejected has an `error`.
        `on_progress` is called with the job after each poll. The server sets the interval (Retry-After). If
        it responds with 503 or not at all, `wait` polls for 30 more seconds, then raises that error.

        Raises TimeoutError after `timeout` seconds; the job itself continues.
        """
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        outage_began: float | None = None
        while True:
            try:
                response = self._get(f"/v1/jobs/{_segment(job.id)}")
                job, pause, outage_began = Job.model_validate(response.json()), _retry_after(response), None
                on_progress(job)
            except (RequestRefused, ServerUnreachable) as error:
                if isinstance(error, RequestRefused) and error.status != 503:
                    raise
                outage_began = outage_began or time.monotonic()
                if time.monotonic() - outage_began > OUTAGE_SECONDS:
                    raise
                pause = error.retry_after if isinstance(error, RequestRefused) else None
            if job.done:
                return job
            if time.monotonic() >= deadline:
                raise TimeoutError(
                    f"{job.id} is still {job.state} after {timeout:g} s. It continues: wait for it again,"
                    f" or stop it with cancel({job.id!r})."
                )
            time.sleep(POLL_SECONDS if pause is None else pause)

    def receipt(self, job_id: str) -> bytes:
        """Get the signed receipt of a forget job that succeeded.

        `palimpsest verify` checks these bytes: write them to a file unchanged. Refused (`receipt_not_ready`)
        until the purge that the job requested, if any, is done.
        """
        return self._get(f"/v1/jobs/{_segment(job_id)}/receipt").content

    def signing_key(self) -> SigningKey:
        """Get the public key that verifies receipts. Store it separately from the receipts."""
        return SigningKey.model_validate(self._get("/v1/keys/signing").json())

    # --- images -------------------------------------------------------------------------------------

    def samples(
        self,
        model: str,
        labels: Sequence[str],
        count: int,
        *,
        seed: int | None = None,
        version: int | None = None,
        format: str = "png_grid",
        idempotency_key: str | None = None,
    ) -> Sample:
        """Draw `count` images of each label.

        The server records the request: GET /v1/samples/{id}/images draws the same images again.
        format: of the content, such as "png_grid", one PNG with a row for each label.
        """
        body = _without_none(labels=list(labels), count=count, seed=seed, version=version, format=format)
        response = self._post(f"/v1/models/{_segment(model)}/samples", body, idempotency_key)
        return Sample(response.headers["X-Sample-Id"], response.headers["Content-Type"], response.content)

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
        """Draw a PNG of one label, 28 x 28 pixels times `scale`.

        grid: (rows, columns) of images instead of one; their seeds count up from `seed`.
        """
        query = _without_none(scale=scale, grid=f"{grid[0]}x{grid[1]}" if grid else None)
        path = f"/v1/models/{_segment(model)}/versions/{version}/images/{_segment(label)}/{seed}.png"
        return self._get(path, query).content

    # --- versions and reports -----------------------------------------------------------------------

    def versions(self, model: str) -> list[Version]:
        """List every version of the model, oldest first."""
        versions: list[Version] = []
        query: dict[str, Any] = {"limit": 100}
        while True:
            page = self._get(f"/v1/models/{_segment(model)}/versions", query).json()
            versions += [Version.model_validate(entry) for entry in page["data"]]
            if not page["has_more"]:
                return sorted(versions, key=lambda version: version.number)
            query["after"] = page["next"]

    def report(self, model: str, version: int, *, level: str | None = None) -> Report:
        """Get the report on a version.

        level: "quick", measured before the version was published, or "full", measured by an evaluate job
        beside retrained networks; by default "full" if there is one.

        A full report is a FullReport. The cost is an attribute of the job that measured it.
        """
        path = f"/v1/models/{_segment(model)}/versions/{version}/report"
        return read_report(self._get(path, _without_none(level=level)).json())

    def report_of_job(self, job_id: str) -> Report:
        """Get the report on the version that a job published, or on the candidate that was rejected."""
        return read_report(self._get(f"/v1/jobs/{_segment(job_id)}/report").json())

    def relapse(self, model: str) -> Json:
        """Get, for every forgotten label, how often each later version drew it."""
        series: Json = self._get(f"/v1/models/{_segment(model)}/relapse").json()
        return series

    def compare(self, model: str, before: int, after: int) -> Json:
        """Get the figures of two versions side by side."""
        query = {"from": before, "to": after}
        comparison: Json = self._get(f"/v1/models/{_segment(model)}/compare", query).json()
        return comparison

    # --- requests -----------------------------------------------------------------------------------

    def _start_job(self, model: str, operation: str, body: Json, idempotency_key: str | None) -> Job:
        path = f"/v1/models/{_segment(model)}/{operation}"
        return Job.model_validate(self._post(path, body, idempotency_key).json())

    def _get(self, path: str, query: Json | None = None) -> httpx2.Response:
        return self._send("GET", path, params=query)

    def _post(self, path: str, body: Json | None, idempotency_key: str | None = None) -> httpx2.Response:
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return self._send("POST", path, json=body, headers=headers)

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx2.TransportError as error:
            raise ServerUnreachable(
                f"{method} {path}: no response from {self._http.base_url} ({error or type(error).__name__});"
                " check the address, and that the server is running"
            ) from error
        if response.is_success:
            return response
        raise _refusal(response)


def _refusal(response: httpx2.Response) -> RequestRefused:
    if response.headers.get("Content-Type", "").split(";")[0] != "application/problem+json":
        detail = (
            f"{response.request.method} {response.url} returned status {response.status_code} without a"
            " problem document (RFC 9457). Is this the address of a Palimpsest server, or of a proxy?"
        )
        return RequestRefused(
            response.status_code, "not_a_problem", detail, retry_after=_retry_after(response)
        )
    problem = response.json()
    return RequestRefused(
        response.status_code,
        problem["code"],
        problem["detail"],
        errors=problem.get("errors", ()),
        request_id=problem.get("request_id"),
        retry_after=_retry_after(response),
    )


def _retry_after(response: httpx2.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _segment(name: str) -> str:
    """Quote a name as one segment of a path: a slash in it becomes %2F."""
    return quote(name, safe="")
