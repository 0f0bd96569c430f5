"""/v1/models: create models, list them, and read the status of their labels."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session

from reports import Report
from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.error_kinds import RESOURCE_GONE
from service.api.idempotency import Idempotent, unless_gone
from service.api.lookup import find_model, lock_model
from service.api.paging import (
    CURSOR_RULE,
    METADATA_PARAMETER,
    FilteredPage,
    Listing,
    MetadataFilter,
    build_listing,
    unknown_cursor,
)
from service.api.refusals import refuses
from service.api.responses import merge_patch_body
from service.api.route import Route
from service.queue_names import DEFAULT_QUEUE
from service.registry import aliases, expiring, labels, models, reports
from service.registry.errors import DatasetNotOffered, ModelExists, NetworkNotOffered, UnknownModel
from service.registry.models import ModelFilter
from service.registry.tables import LabelRow, ModelRow, SizePolicy
from service.requests.catalog import Catalog
from service.requests.descriptions import PatchDescription
from service.requests.fields import (
    MODEL_ID,
    NAME,
    NAME_RULE,
    QUEUE_RULE,
    TEXT_RULE,
    Acceptance,
    Body,
    Description,
    Metadata,
    QueueName,
    ResourceName,
    Seed,
    schema_of,
)

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=Route)


def _check_model_name(name: str) -> str:
    if not NAME.fullmatch(name) or name.startswith(MODEL_ID):
        raise PydanticCustomError(
            "invalid_name",
            f"the name of a model {NAME_RULE}; {MODEL_ID} at the beginning is reserved for ids",
        )
    return name


class CreateModel(Body):
    """A model to create. It has no version until it learns something."""

    name: Annotated[
        str,
        Field(json_schema_extra=schema_of(NAME, reserved=MODEL_ID)),
        AfterValidator(_check_model_name),
    ]
    dataset: ResourceName = Field(description="The name of a dataset of /v1/datasets.")
    network: dict[str, Any] = Field(
        {}, description="The architecture and its params. /v1/catalog has their schema and the defaults."
    )
    seed: Seed = 0
    acceptance: Acceptance = Field(
        Acceptance(), description="The criteria of every job, unless its request sets others."
    )
    size_policy: SizePolicy = Field(
        "fixed",
        description="`fixed`: the network is resized by requests only. `auto`: each learn and forget that "
        "changes the main network is followed by a resize with the policy `auto`, unless its request has "
        "`resize`, or no permanent label is left. Learning and forgetting temporary labels leaves the main "
        "network as it is.",
    )
    queue: QueueName = Field(
        DEFAULT_QUEUE,
        description="The queue of its jobs, unless their request names another. Only workers that serve a "
        "queue take its jobs: `palimpsest worker --queues`.",
    )
    description: Description | None = None
    metadata: Metadata = Field({})


class PatchModel(PatchDescription):
    """A merge patch (RFC 7396) of a model. What is left out stays. `size_policy` and `queue` cannot be null.

    Jobs that are queued keep their queue, and the resize that follows them.
    """

    size_policy: SizePolicy = "fixed"
    queue: QueueName = DEFAULT_QUEUE


class LabelObject(BaseModel):
    """A label of a model, and its status."""

    name: str
    dataset: str
    source: str = Field(description="The name of the label in the dataset.")
    status: Literal["absent", "temporary", "permanent", "forgotten"]
    generation: int = Field(description="How many times it has been learned.")
    learned_version: int | None
    forgotten_version: int | None
    forgotten_by: str | None = Field(description="The job that forgot it.")
    expires_at: datetime | None = Field(
        None, description="When the service forgets the label by itself, if that was requested."
    )


class ModelObject(BaseModel):
    """A model. Its versions follow one another; `head` is the newest, or null before the first version."""

    id: str
    object: Literal["model"] = "model"
    name: str
    dataset: str
    network: dict[str, Any]
    seed: int
    acceptance: dict[str, Any] = Field(
        description="The criteria of every job, unless its request sets others."
    )
    size_policy: SizePolicy = Field(
        description="`auto`: a resize follows each learn and forget that changes the main network, unless "
        "its request has `resize`. `fixed`: it does not."
    )
    queue: str = Field(description="The queue of its jobs, unless their request names another.")
    description: str | None
    metadata: dict[str, str]
    head: int | None
    aliases: dict[str, int] = Field(description="{name: the number of the version that it names}.")
    relapsed: list[str] = Field(
        description="Forgotten labels that the head draws more often than their criterion allows."
    )
    labels: list[LabelObject]
    created_at: datetime
    links: dict[str, str]


class ModelsPage(FilteredPage):
    """Which models are listed, and in which order."""

    order_by: Literal["created_at", "name"] = "created_at"
    name_prefix: Annotated[str, Field(json_schema_extra=schema_of(NAME))] | None = Field(
        None, max_length=64, description="Only models whose names begin so."
    )
    dataset: str | None = Field(None, max_length=200, description="Only models of this dataset.")


@router.post("", status_code=201)
@requires("learn")
@refuses(
    ModelExists,
    NetworkNotOffered,
    DatasetNotOffered,
    RESOURCE_GONE,
    invalid_name=f"the name of a model {NAME_RULE}",
    invalid_text=TEXT_RULE,
    dataset_not_found="there is no dataset of this name",
    architecture_not_found="/v1/catalog has no architecture of this name",
)
def create_model(body: CreateModel, context: Context, response: Response, once: Idempotent) -> ModelObject:
    """Create a model with a name, a network, and the dataset it learns from by default."""
    with context.database.reading() as session:  # a bad request is refused without waiting for another writer
        catalog = context.find_catalog(session)
        network = catalog.complete_network(body.network)
        catalog.dataset(body.dataset)
    with context.database.transaction() as session:
        if answered := once.begin(session):
            return _describe_again(session, answered.resource_id, context, response)
        row = models.create(
            session,
            project=context.project,
            name=body.name,
            dataset=body.dataset,
            network=network,
            seed=body.seed,
            acceptance=body.acceptance.model_dump(exclude_none=True),
            size_policy=body.size_policy,
            queue=body.queue,
            description=body.description,
            metadata=body.metadata,
        )
        once.record(session, 201, row.id)
        context.append_to_audit_log(session, "model.create", row.id, name=row.name)
        created = _describe(session, [row], context)[0]
    response.headers["Location"] = created.links["self"]
    return created


@router.get("", openapi_extra=METADATA_PARAMETER)
@requires("read")
@refuses(invalid_cursor=CURSOR_RULE)
def list_models(
    page: Annotated[ModelsPage, Query()],
    metadata: MetadataFilter,
    request: Request,
    response: Response,
    context: Context,
) -> Listing[ModelObject]:
    """List the models, each with its labels, newest first unless another order is requested."""
    only = ModelFilter(page.name_prefix, page.dataset, metadata)
    with context.database.reading() as session:
        try:
            rows, has_more = models.page(
                session,
                project=context.project,
                only=only,
                by_name=page.order_by == "name",
                descending=page.order == "desc",
                limit=page.limit,
                after=page.after,
            )
        except UnknownModel:
            raise unknown_cursor() from None
        data = _describe(session, rows, context)
    return build_listing(
        request, response.headers, data, has_more=has_more, last=rows[-1].id if rows else None
    )


@router.get("/{model}")
@requires("read")
@refuses(UnknownModel)
def get_model(model: str, context: Context) -> ModelObject:
    """Read one model, by its name or id."""
    with context.database.reading() as session:
        return _describe(session, [find_model(session, context.project, model)], context)[0]


@router.patch("/{model}", openapi_extra=merge_patch_body(PatchModel))
@requires("learn")
@refuses(UnknownModel, invalid_name=QUEUE_RULE, invalid_text=TEXT_RULE)
def update_model(model: str, body: PatchModel, context: Context) -> ModelObject:
    """Change the description, metadata, size policy or queue of a model, by a merge patch (RFC 7396)."""
    with context.database.transaction(line=model) as session:
        row = lock_model(context, session, model)
        row.description = body.description_after(row.description)
        row.client_metadata = body.metadata_after(row.client_metadata)
        if "size_policy" in body.model_fields_set:
            row.size_policy = body.size_policy
        if "queue" in body.model_fields_set:
            row.queue = body.queue
        session.flush()
        context.append_to_audit_log(session, "model.update", row.id, fields=body.changed)
        return _describe(session, [row], context)[0]


def _describe_again(session: Session, model_id: str, context: ApiContext, response: Response) -> ModelObject:
    """Answer a repeated request to create a model with the model as it is now."""
    with unless_gone("model", model_id):
        row = find_model(session, context.project, model_id)
    found = _describe(session, [row], context)[0]
    response.headers["Location"] = found.links["self"]
    return found


def _describe(session: Session, rows: Sequence[ModelRow], context: ApiContext) -> list[ModelObject]:
    """Return the JSON objects that describe some models, with a few queries for all of them."""
    ids = [row.id for row in rows]
    known = labels.find_all_of(session, ids)
    named = aliases.find_all_of(session, ids)
    catalog = context.find_catalog(session)
    head_reports = reports.find_head_reports(session, rows)
    described = [
        _describe_model(row, known[row.id], named[row.id], catalog, head_reports.get(row.id)) for row in rows
    ]
    expiries = expiring.find_expiries(session, ids)
    for model in described:
        for label in model.labels:
            label.expires_at = expiries.get((model.id, label.name))
    return described


def _describe_model(
    row: ModelRow,
    known: Mapping[str, LabelRow],
    named: Mapping[str, int],
    catalog: Catalog,
    head_report: Report | None,
) -> ModelObject:
    """Return the JSON object that describes a model.

    known: {label: row} of the labels it ever learned. The other labels of its dataset are listed as absent.
    named: {alias: version}.
    head_report: the report on its head, or None before the first version.
    """
    own = next((entry.labels for entry in catalog.datasets if entry.name == row.dataset), ())
    names = [*own, *(name for name in sorted(known) if name not in own)]
    address = f"/v1/models/{row.name}"
    return ModelObject(
        id=row.id,
        name=row.name,
        dataset=row.dataset,
        network=row.network,
        seed=row.seed,
        acceptance=row.acceptance or {},
        size_policy=row.size_policy,
        queue=row.queue,
        description=row.description,
        metadata=row.client_metadata or {},
        head=row.head,
        aliases=dict(named),
        relapsed=head_report.relapsed if head_report is not None else [],
        labels=[_describe_label(name, known.get(name), row.dataset) for name in names],
        created_at=row.created_at,
        links={
            "self": address,
            "versions": f"{address}/versions",
            "aliases": f"{address}/aliases",
            "relapse": f"{address}/relapse",
            "jobs": f"/v1/jobs?model={row.name}",
        },
    )


def _describe_label(name: str, row: LabelRow | None, dataset: str) -> LabelObject:
    if row is None:
        return LabelObject(
            name=name,
            dataset=dataset,
            source=name,
            status="absent",
            generation=0,
            learned_version=None,
            forgotten_version=None,
            forgotten_by=None,
        )
    return LabelObject.model_validate(row, from_attributes=True)
