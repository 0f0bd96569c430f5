"""GET /v1/datasets: what can be learnt."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from service.api.dependencies import Here, Listing
from service.api.route import Route

router = APIRouter(prefix="/v1/datasets", tags=["catalog"], route_class=Route)


class DatasetObject(BaseModel):
    """Labelled images to learn from. `bundled`: at hand without a download."""

    object: Literal["dataset"] = "dataset"
    name: str
    title: str
    labels: list[str]
    image_shape: tuple[int, int]
    bundled: bool


@router.get("")
def list_datasets(here: Here) -> Listing[DatasetObject]:
    """All datasets; there are few, so this is always the whole list."""
    data = [DatasetObject.model_validate(entry.model_dump()) for entry in here.catalog.datasets]
    return Listing(data=data, has_more=False, next=None)
