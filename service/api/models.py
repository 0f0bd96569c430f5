"""/v1/models: the named things a client creates, and what each can be asked to draw."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from service.api.dependencies import (
    NAME,
    Acceptance,
    Body,
    Here,
    Listing,
    PageQuery,
    Seed,
    find_model,
    listing,
    offered,
)
from service.api.problems import READS_BODY, refusals
from service.api.route import Route
from service.registry import labels, models, reports
from service.registry.tables import LabelRow, ModelRow
from service.reporting.figures import relapsed
from service.requests.catalog import Catalog

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=Route)


def _model_name(name: str) -> str:
    if not NAME.fullmatch(name) or name.startswith("mdl_"):
        raise PydanticCustomError(
            "invalid_name",
            "a name is 1 to 64 letters, digits, dots, dashes and underscores, begins with a letter or digit, "
            "and not with mdl_",
        )
    return name


class CreateModel(Body):
    """A model to create. It has no version until it learns something."""

    name: Annotated[str, AfterValidator(_model_name)]
    dataset: str
    network: dict[str, Any] = Field({}, description="architecture and its params; defaults from /v1/catalog")
    seed: Seed = 0
    acceptance: Acceptance = Field(Acceptance(), description="for every job whose request says no other")


class LabelObject(BaseModel):
    """A name the model can be asked to draw, and whether it may."""

    name: str
    dataset: str
    source: str = Field(description="the dataset's own name for it")
    status: Literal["absent", "temporary", "permanent", "forgotten"]
    generation: int = Field(description="how often it has been learnt")
    learned_version: int | None
    forgotten_version: int | None
    forgotten_by: str | None = Field(description="the job that forgot it")


class ModelObject(BaseModel):
    """A model: its one line of versions ends at `head` (null before the first)."""

    id: str
    object: Literal["model"] = "model"
    name: str
    dataset: str
    network: dict[str, Any]
    seed: int
    acceptance: dict[str, Any] = Field(description="what every job is held to that says no other")
    head: int | None
    relapsed: list[str] = Field(description="forgotten labels the head was measured to draw again")
    labels: list[LabelObject]
    created_at: datetime
    links: dict[str, str]


@router.post("", status_code=201, responses=READS_BODY | refusals(409))
def create_model(asked: CreateModel, here: Here, response: Response) -> ModelObject:
    """Create a model: a name, the dataset it learns from by default, and a network."""
    network = here.catalog.check_network(asked.network)
    with here.database.transaction() as session:
        catalog = offered(session, here)
        catalog.dataset(asked.dataset)
        row = models.create(
            session,
            name=asked.name,
            dataset=asked.dataset,
            network=network,
            seed=asked.seed,
            acceptance=asked.acceptance.model_dump(exclude_none=True),
        )
        created = model_object(row, {}, catalog, None)
    response.headers["Location"] = created.links["self"]
    return created


@router.get("")
def list_models(page: PageQuery, request: Request, response: Response, here: Here) -> Listing[ModelObject]:
    """All models, newest first, each with its labels."""
    with here.database.reading() as session:
        rows, has_more = models.page(session, limit=page.limit, after=page.after)
        known = labels.statuses_of(session, [row.id for row in rows])
        catalog, evidence = offered(session, here), reports.heads_of(session, rows)
        data = [model_object(row, known[row.id], catalog, evidence.get(row.id)) for row in rows]
    return listing(request, response, data, has_more=has_more, last=rows[-1].id if rows else None)


@router.get("/{model}", responses=refusals(404))
def get_model(model: str, here: Here) -> ModelObject:
    """One model, by name or id."""
    with here.database.reading() as session:
        row = find_model(session, model)
        evidence = reports.heads_of(session, [row])
        return model_object(
            row, labels.statuses(session, row.id), offered(session, here), evidence.get(row.id)
        )


def model_object(
    row: ModelRow, known: dict[str, LabelRow], catalog: Catalog, evidence: Mapping[str, Any] | None
) -> ModelObject:
    """The model as clients see it; labels of its dataset that it never learnt are absent.

    evidence: the report of its head version.
    """
    own = next((entry.labels for entry in catalog.datasets if entry.name == row.dataset), ())
    names = [*own, *(name for name in sorted(known) if name not in own)]
    here = f"/v1/models/{row.name}"
    return ModelObject(
        id=row.id,
        name=row.name,
        dataset=row.dataset,
        network=row.network,
        seed=row.seed,
        acceptance=row.acceptance or {},
        head=row.head,
        relapsed=relapsed(evidence or {}),
        labels=[_label(name, known.get(name), row.dataset) for name in names],
        created_at=row.created_at,
        links={
            "self": here,
            "versions": f"{here}/versions",
            "relapse": f"{here}/relapse",
            "jobs": f"/v1/jobs?model={row.name}",
        },
    )


def _label(name: str, row: LabelRow | None, dataset: str) -> LabelObject:
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
