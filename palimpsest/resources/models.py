"""`client.models`: create models, and request that they learn, forget, are resized or measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from palimpsest.calls import call, pages
from palimpsest.requests import (
    UNCHANGED,
    Page,
    Request,
    Unchanged,
    changes,
    content,
    delete,
    get,
    metadata_query,
    page,
    patch,
    post,
    segment,
    value,
    without_none,
)
from palimpsest.values import Comparison, Job, Json, Model, ModelDeletion, Relapse

PAGE = 100
"""How many items of a list are requested at a time."""


class Models:
    """Create models, and request that they learn, forget, are resized or measured.

    The argument `model` is a model's name, its id, or the model. `learn`, `forget`, `resize` and `evaluate`
    return the queued job at once: `client.jobs.wait` waits for it. The server has a default for each argument
    that is left out. `queue` names the queue of the job, for which some workers were started, and `priority`,
    from -10 to 10, says which of the jobs that wait run first. `reference` is your own name for a request,
    which is shown on the job and in a receipt; `metadata` is your own data about it. Requests are sent again
    after a lost answer, with an idempotency key so that nothing is done twice; name one yourself, as
    `idempotency_key`, to be safe over a restart too.
    """

    @call
    def create(
        self,
        name: str,
        *,
        dataset: str,
        network: Json | None = None,
        seed: int | None = None,
        acceptance: Json | None = None,
        size_policy: str | None = None,
        queue: str | None = None,
        description: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Request[Model]:
        """Create a model without labels.

        acceptance: criteria for each later job that sets none of its own, such as
        {"forgotten_accuracy_max": 0.05}. A version that misses a criterion is not published.
        size_policy: "auto" lets a resize follow each `learn` and `forget` that changes the main network and
        has no `resize` of its own; by default "fixed".
        queue: that of its jobs whose request names none, such as "gpu"; by default "default".
        """
        body = without_none(
            name=name,
            dataset=dataset,
            network=network,
            seed=seed,
            acceptance=acceptance,
            size_policy=size_policy,
            queue=queue,
            description=description,
            metadata=metadata,
        )
        return post("/v1/models", body, value(Model), idempotency_key)

    @call
    def get(self, model: str | Model) -> Request[Model]:
        """Get a model as it is now."""
        return get(path_of(model), value(Model))

    @pages
    def list(
        self,
        *,
        name_prefix: str | None = None,
        dataset: str | None = None,
        metadata: Mapping[str, str] | None = None,
        order_by: str | None = None,
        order: str | None = None,
    ) -> Request[Page[Model]]:
        """Iterate over the models of the project, newest first.

        name_prefix, dataset, metadata: only those that have them. order_by: "created_at" or "name".
        order: "asc" or "desc".
        """
        own = {"name_prefix": name_prefix, "dataset": dataset, "order_by": order_by, "order": order}
        return get("/v1/models", page(Model), limit=PAGE, **own, **metadata_query(metadata))

    @call
    def update(
        self,
        model: str | Model,
        *,
        description: str | Unchanged | None = UNCHANGED,
        metadata: Mapping[str, str | None] | Unchanged = UNCHANGED,
        size_policy: str | Unchanged = UNCHANGED,
        queue: str | Unchanged = UNCHANGED,
    ) -> Request[Model]:
        """Change the description, the metadata, the size policy or the queue of a model.

        description: None removes it. metadata: entries to set, or to remove where the value is None; the
        others stay. size_policy, queue: of jobs that are requested from now on; see `create`.
        """
        changed = changes(description=description, metadata=metadata, size_policy=size_policy, queue=queue)
        return patch(path_of(model), changed, value(Model))

    @call
    def delete(
        self, model: str | Model, *, purge: bool = False, reference: str | None = None
    ) -> Request[ModelDeletion | None]:
        """Delete a model. Its jobs and receipts stay.

        purge: delete all its files at once, and issue a signed receipt; the deletion is returned.
        """
        return delete(path_of(model), _deletion, purge="true" if purge else None, reference=reference)

    @call
    def deletion(self, model: str) -> Request[ModelDeletion]:
        """Get how far the deletion of the files of a deleted model is. model: its id."""
        return get(f"{path_of(model)}/deletion", value(ModelDeletion))

    @call
    def deletion_receipt(self, model: str) -> Request[bytes]:
        """Get the signed receipt of the deletion of a model's files. model: its id."""
        return get(f"{path_of(model)}/deletion/receipt", content)

    @call
    def learn(
        self,
        model: str | Model,
        labels: Sequence[str],
        *,
        dataset: str | None = None,
        names: Mapping[str, str] | None = None,
        retention: str | None = None,
        expires_in: int | None = None,
        strategy: str | None = None,
        params: Json | None = None,
        resize: str | Json | Unchanged | None = UNCHANGED,
        acceptance: Json | None = None,
        seed: int | None = None,
        base_version: int | None = None,
        queue: str | None = None,
        priority: int | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Request[Job]:
        """Start a job that learns labels.

        dataset: where the labels' images come from; by default the model's own.
        names: new names for labels in this model, by their name in the dataset: {"sneaker": "shoe"}.
        retention: "permanent" or "temporary". A temporary label gets a network of its own, so that
        forgetting it is exact: that network is deleted.
        expires_in: seconds after which the service forgets temporary labels by itself.
        resize: how the network is resized afterwards, by a job of its own, the `followed_by` of this one: a
        policy as for `resize`, or that with more, as {"policy": "prune", "params": {...}}. None: not at all.
        By default the model's `size_policy` decides.
        base_version: the version that must still be the newest; otherwise refused (`stale_base`).
        """
        body = without_none(
            labels=[*labels],
            dataset=dataset,
            **{"as": names},
            retention=retention,
            expires_in=expires_in,
            strategy=strategy,
            params=params,
            acceptance=acceptance,
            seed=seed,
            base_version=base_version,
            queue=queue,
            priority=priority,
            reference=reference,
            metadata=metadata,
        )
        return _job(model, "learn", body | _following(resize), idempotency_key)

    @call
    def forget(
        self,
        model: str | Model,
        labels: Sequence[str],
        *,
        guarantee: str | None = None,
        strategy: str | None = None,
        params: Json | None = None,
        resize: str | Json | Unchanged | None = UNCHANGED,
        purge: bool | None = None,
        delete_images: bool = False,
        acceptance: Json | None = None,
        seed: int | None = None,
        base_version: int | None = None,
        queue: str | None = None,
        priority: int | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Request[Job]:
        """Start a job that forgets labels. If they are forgotten already, return the job that forgot them.

        guarantee: "approximate" or "exact"; exact is refused where no strategy can give it.
        purge: also delete the files of every older version that was trained on these labels.
        delete_images: also delete their images from the uploaded datasets that they were learned from.
        resize: as in `learn`.
        """
        body = without_none(
            labels=[*labels],
            guarantee=guarantee,
            strategy=strategy,
            params=params,
            purge=purge,
            also={"datasets": True} if delete_images else None,
            acceptance=acceptance,
            seed=seed,
            base_version=base_version,
            queue=queue,
            priority=priority,
            reference=reference,
            metadata=metadata,
        )
        return _job(model, "forget", body | _following(resize), idempotency_key)

    @call
    def resize(
        self,
        model: str | Model,
        policy: str,
        *,
        strategy: str | None = None,
        params: Json | None = None,
        acceptance: Json | None = None,
        seed: int | None = None,
        base_version: int | None = None,
        queue: str | None = None,
        priority: int | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Request[Job]:
        """Start a job that changes the size of the network and keeps its labels.

        policy: "prune" (smaller), "expand" (larger), "search" (larger by as much as is worth it) or "auto"
        (the server chooses the width).
        """
        body = without_none(
            policy=policy,
            strategy=strategy,
            params=params,
            acceptance=acceptance,
            seed=seed,
            base_version=base_version,
            queue=queue,
            priority=priority,
            reference=reference,
            metadata=metadata,
        )
        return _job(model, "resize", body, idempotency_key)

    @call
    def evaluate(
        self,
        model: str | Model,
        *,
        version: int | str | None = None,
        params: Json | None = None,
        seed: int | None = None,
        queue: str | None = None,
        priority: int | None = None,
        reference: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Request[Job]:
        """Start a job that compares a version with networks retrained without the forgotten labels.

        version: its number or an alias, by default the newest. The job adds the "full" report; see
        `client.versions.report`.
        """
        body = without_none(
            version=version,
            params=params,
            seed=seed,
            queue=queue,
            priority=priority,
            reference=reference,
            metadata=metadata,
        )
        return _job(model, "evaluate", body, idempotency_key)

    @call
    def relapse(self, model: str | Model) -> Request[Relapse]:
        """Get, for every forgotten label, how often each later version drew it."""
        return get(f"{path_of(model)}/relapse", value(Relapse))

    @call
    def compare(self, model: str | Model, before: int | str, after: int | str) -> Request[Comparison]:
        """Get the figures of two versions side by side."""
        return get(f"{path_of(model)}/compare", value(Comparison), **{"from": before, "to": after})


def path_of(model: str | Model) -> str:
    """Return the path of a model."""
    return f"/v1/models/{segment(model.name if isinstance(model, Model) else model)}"


def _job(model: str | Model, operation: str, body: dict[str, Any], key: str | None) -> Request[Job]:
    return post(f"{path_of(model)}/{operation}", body, value(Job), key)


def _following(resize: str | Json | Unchanged | None) -> dict[str, Any]:
    """Return the field of a body that says which resize follows; none if the model decides."""
    return changes(resize={"policy": resize} if isinstance(resize, str) else resize)


def _deletion(response: httpx2.Response) -> ModelDeletion | None:
    return value(ModelDeletion)(response) if response.content else None
