"""GET /v1/catalog: what a request may name, with the JSON Schema of every params object."""

from fastapi import APIRouter

from service.api.context import Context
from service.api.route import Route
from service.requests.catalog import Catalog

router = APIRouter(prefix="/v1/catalog", tags=["catalog"], route_class=Route)


@router.get("")
def get_catalog(context: Context) -> Catalog:
    """The strategies of every operation, the datasets (uploaded ones last) and the architectures."""
    with context.database.reading() as session:
        return context.catalog.with_uploads(session)
