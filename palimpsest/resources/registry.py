"""The resources beside models: datasets, the catalog, projects, keys, receipts, webhooks and the service."""

from collections.abc import Sequence

import httpx2

from palimpsest.calls import call, pages
from palimpsest.requests import (
    Page,
    Request,
    content,
    delete,
    get,
    nothing,
    page,
    post,
    segment,
    value,
    without_none,
)
from palimpsest.resources.models import PAGE
from palimpsest.values import (
    ApiKey,
    AuditEntry,
    Catalog,
    Dataset,
    Delivery,
    Job,
    NewApiKey,
    NewWebhook,
    Project,
    Readiness,
    SigningKey,
    Webhook,
)


class Datasets:
    """Labelled images that models can learn from."""

    @pages
    def list(self) -> Request[Page[Dataset]]:
        """Iterate over the datasets, those of the project included."""
        return get("/v1/datasets", page(Dataset))

    @call
    def get(self, name: str) -> Request[Dataset]:
        """Get a dataset."""
        return get(_dataset_path(name), value(Dataset))

    @call
    def example(
        self,
        name: str,
        label: str,
        index: int = 0,
        *,
        scale: int | None = None,
        grid: tuple[int, int] | None = None,
    ) -> Request[bytes]:
        """Get an image of a label as a PNG, 28 x 28 pixels times `scale`.

        grid: (rows, columns) of images instead of one, beginning with the image `index`. Of a built-in
        dataset the server may have a few images only, or none (`Dataset.viewable`).
        """
        path = f"{_dataset_path(name)}/labels/{segment(label)}/examples/{segment(index)}.png"
        return get(path, content, scale=scale, grid=f"{grid[0]}x{grid[1]}" if grid else None)

    @call
    def upload(
        self, name: str, archive: bytes, *, dry_run: bool = False, fit: int | None = None
    ) -> Request[Dataset]:
        """Upload labelled images to learn from.

        archive: an npz of `images` (uint8 [n, 28, 28]) and `labels` ([n]), or a zip of PNG or JPEG files
        named LABEL/NAME.png. Other usual forms are converted: `conversions` of the result say how, and
        `warnings` what looks wrong. fit: 28 to have images of other sizes scaled; without it they are
        refused. dry_run: keep nothing, and return what would be kept, with `previews` of the images.
        Uploading the same archive again changes nothing. A different archive under the same name is refused
        (`dataset_exists`).
        """
        headers = {"Content-Type": "application/zip"}
        request = Request("PUT", _dataset_path(name), value(Dataset), content=archive, headers=headers)
        return request.with_query(dry_run=dry_run or None, fit=fit)

    @call
    def delete(self, name: str) -> Request[None]:
        """Delete an uploaded dataset. Models keep what they have learned from it."""
        return delete(_dataset_path(name), nothing, takes_key=True)

    @call
    def delete_label(self, name: str, label: str) -> Request[None]:
        """Delete the images of a label from an uploaded dataset; with the last label, the dataset."""
        return delete(f"{_dataset_path(name)}/labels/{segment(label)}", nothing, takes_key=True)


class Catalogs:
    """What a request may name."""

    @call
    def get(self) -> Request[Catalog]:
        """Get the strategies with the JSON Schema of their params, the datasets and the architectures."""
        return get("/v1/catalog", value(Catalog))


class Projects:
    """What models, datasets, samples and keys belong to."""

    @call
    def create(self, name: str, *, idempotency_key: str | None = None) -> Request[Project]:
        """Create a project."""
        return post("/v1/projects", {"name": name}, value(Project), idempotency_key)

    @pages
    def list(self) -> Request[Page[Project]]:
        """Iterate over the projects that the key may use."""
        return get("/v1/projects", page(Project), limit=PAGE)

    @call
    def get(self, project: str) -> Request[Project]:
        """Get a project by its name or id."""
        return get(f"/v1/projects/{segment(project)}", value(Project))

    @call
    def delete(self, project: str) -> Request[None]:
        """Delete an empty project."""
        return delete(f"/v1/projects/{segment(project)}", nothing)


class Keys:
    """API keys. Needs the scope `admin`."""

    @call
    def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        project: str | None = None,
        deployment: bool = False,
        expires_in: int | None = None,
        idempotency_key: str | None = None,
    ) -> Request[NewApiKey]:
        """Create a key. Its text, `key`, is shown this once.

        project: by default that of this client. deployment: let it use every project. expires_in: seconds.
        """
        body = without_none(
            name=name,
            scopes=[*scopes],
            project=project,
            deployment=deployment or None,
            expires_in=expires_in,
        )
        return post("/v1/keys", body, value(NewApiKey), idempotency_key)

    @pages
    def list(self) -> Request[Page[ApiKey]]:
        """Iterate over the keys, newest first."""
        return get("/v1/keys", page(ApiKey), limit=PAGE)

    @call
    def get(self, key: str) -> Request[ApiKey]:
        """Get a key by its id."""
        return get(f"/v1/keys/{segment(key)}", value(ApiKey))

    @call
    def revoke(self, key: str) -> Request[None]:
        """Revoke a key for ever, by its id."""
        return delete(f"/v1/keys/{segment(key)}", nothing)


class Webhooks:
    """Addresses that are told, by signed messages, what happens in the project. Needs the scope `admin`."""

    @call
    def create(
        self, url: str, types: Sequence[str], *, idempotency_key: str | None = None
    ) -> Request[NewWebhook]:
        """Create a webhook. Its secret, `secret`, is shown this once."""
        return post("/v1/webhooks", {"url": url, "types": [*types]}, value(NewWebhook), idempotency_key)

    @pages
    def list(self) -> Request[Page[Webhook]]:
        """Iterate over the webhooks, newest first."""
        return get("/v1/webhooks", page(Webhook), limit=PAGE)

    @call
    def get(self, webhook: str) -> Request[Webhook]:
        """Get a webhook by its id."""
        return get(f"/v1/webhooks/{segment(webhook)}", value(Webhook))

    @call
    def delete(self, webhook: str) -> Request[None]:
        """Delete a webhook by its id."""
        return delete(f"/v1/webhooks/{segment(webhook)}", nothing)

    @pages
    def deliveries(self, webhook: str) -> Request[Page[Delivery]]:
        """Iterate over the messages of a webhook and what became of them, newest first."""
        return get(f"/v1/webhooks/{segment(webhook)}/deliveries", page(Delivery), limit=PAGE)

    @call
    def delivery(self, webhook: str, message: str) -> Request[Delivery]:
        """Get a message of a webhook and what became of it, by its id."""
        return get(f"/v1/webhooks/{segment(webhook)}/deliveries/{segment(message)}", value(Delivery))

    @call
    def test(self, webhook: str, *, idempotency_key: str | None = None) -> Request[Delivery]:
        """Have a message sent that only tries the webhook."""
        return post(f"/v1/webhooks/{segment(webhook)}/test", None, value(Delivery), idempotency_key)


class Receipts:
    """The signed statements of what forgets did."""

    @call
    def get(self, job: str | Job) -> Request[bytes]:
        """Get the signed receipt of a forget job that succeeded.

        `palimpsest verify` checks these bytes: write them to a file unchanged. Refused (`receipt_not_ready`)
        until the purge that the job requested, if any, is done.
        """
        return get(f"/v1/jobs/{segment(job.id if isinstance(job, Job) else job)}/receipt", content)


class SigningKeys:
    """The public keys that verify receipts. Store them separately from the receipts."""

    @call
    def current(self) -> Request[SigningKey]:
        """Get the public key whose private half signs now."""
        return get("/v1/keys/signing", value(SigningKey)).outside_projects()

    @pages
    def list(self) -> Request[Page[SigningKey]]:
        """Iterate over all public keys, those that are retired included."""
        return get("/v1/signing-keys", page(SigningKey)).outside_projects()


class Audit:
    """Who requested what, and what became of it. Needs the scope `admin`."""

    @pages
    def list(self, *, action: str | None = None, resource: str | None = None) -> Request[Page[AuditEntry]]:
        """Iterate over the entries of the audit log, newest first.

        action: only those of this action, such as "job.submit". resource: only those about what has this id.
        """
        return get("/v1/audit", page(AuditEntry), limit=PAGE, action=action, resource=resource)


class Service:
    """The server itself."""

    @call
    def ready(self) -> Request[Readiness]:
        """Get whether requests are served; refused with 503 where none is."""
        return get("/readyz", value(Readiness)).outside_projects()

    @call
    def alive(self) -> Request[bool]:
        """Return True if the server answers at all."""
        return get("/livez", _is_success).outside_projects()


def _dataset_path(name: str) -> str:
    return f"/v1/datasets/{segment(name)}"


def _is_success(response: httpx2.Response) -> bool:
    return response.is_success
