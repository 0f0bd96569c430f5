"""DELETE /v1/models/{model}, and the deletion of the files of a deleted model with its signed receipt."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.access import requires
from service.api.context import Context
from service.api.lookup import find_model
from service.api.refusals import refuses
from service.api.route import Route
from service.receipts import model_deletion
from service.receipts.signing_keys import find_key
from service.receipts.statement import MEDIA_TYPE
from service.registry import audit, deletions
from service.registry.deletions import DeletionRequest
from service.registry.errors import ModelBusy, ReceiptNotReady, SigningKeyUnusable, UnknownModel
from service.registry.tables import ModelDeletionRow, ModelRow
from service.requests.fields import TEXT_RULE, Reference

router = APIRouter(prefix="/v1/models", tags=["models"], route_class=Route)


class DeletionReceiptResponse(Response):
    media_type = MEDIA_TYPE


class DeletionQuery(BaseModel):
    """How a model is deleted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    purge: bool = Field(
        False, description="Delete all files of the model at once, and issue a signed receipt of that."
    )
    reference: Reference | None = None


class ModelDeletionObject(BaseModel):
    """The deletion of the files of a deleted model."""

    object: Literal["model_deletion"] = "model_deletion"
    model: str
    model_name: str
    state: Literal["pending", "done"]
    files_deleted: int
    files_kept: int = Field(description="Files whose bytes other models need.")
    reference: str | None
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]


@router.delete(
    "/{model}",
    status_code=204,
    responses={
        202: {
            "model": ModelDeletionObject,
            "description": "The files will be deleted in a moment (`purge`).",
        },
    },
)
@requires("admin")
@refuses(UnknownModel, ModelBusy, invalid_text=TEXT_RULE)
def delete_model(
    model: str, query: Annotated[DeletionQuery, Query()], request: Request, context: Context
) -> Response:
    """Delete a model. Its name is free again; its jobs and the receipts of its forgets stay.

    Queued jobs are cancelled. While a worker runs a job of the model, the request is refused with 409
    `model_busy`. With `purge`, the answer is 202 with the deletion of the files.
    """
    purge = DeletionRequest(query.reference, context.caller.key_id, request.state.request_id)
    with context.database.transaction() as session:
        row = find_model(session, context.project, model)
        deletions.delete_model(session, row, purge=purge if query.purge else None)
        audit.append(
            session,
            "model.delete",
            row.id,
            actor=context.caller.key_id,
            project_id=row.project_id,
            request_id=request.state.request_id,
            details={"name": row.name, "purge": query.purge, "reference": query.reference},
        )
    if not query.purge:
        return Response(status_code=204)
    with context.database.reading() as session:
        found = _describe(*deletions.find(session, row.id, project=context.project))
    headers = {"Location": found.links["self"], "Retry-After": "1"}
    return Response(found.model_dump_json(), 202, headers, "application/json")


@router.get("/{model}/deletion")
@requires("read")
@refuses(UnknownModel)
def get_deletion(model: str, context: Context) -> ModelDeletionObject:
    """Read how far the files of a deleted model are deleted. The model is named by its id."""
    with context.database.reading() as session:
        return _describe(*deletions.find(session, model, project=context.project))


@router.get("/{model}/deletion/receipt", response_class=DeletionReceiptResponse)
@requires("read")
@refuses(UnknownModel, ReceiptNotReady, SigningKeyUnusable)
def get_deletion_receipt(model: str, context: Context) -> Response:
    """Read the signed receipt of a deleted model, by its id. `palimpsest verify` checks it."""
    with context.database.reading() as session:
        row, deletion = deletions.find(session, model, project=context.project)
        receipt = deletion.envelope
    if receipt is None and context.settings.signer:
        key = find_key(context.database, context.settings.keys)
        in_bucket = context.artifacts.store.is_bucket
        receipt = model_deletion.sign_receipt(context.database, key, row.id, in_bucket=in_bucket)
    if receipt is None:
        raise ReceiptNotReady(row.id, "the files of the model are not all deleted yet")
    return DeletionReceiptResponse(receipt)


def _describe(model: ModelRow, row: ModelDeletionRow) -> ModelDeletionObject:
    address = f"/v1/models/{model.id}/deletion"
    return ModelDeletionObject(
        model=model.id,
        model_name=model.name,
        state=row.state,
        files_deleted=len(row.keys) if row.state == "done" else 0,
        files_kept=len(row.kept),
        reference=row.reference,
        created_at=row.created_at,
        finished_at=row.finished_at,
        links={"self": address, "receipt": f"{address}/receipt"},
    )
