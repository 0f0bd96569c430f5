"""GET /v1/catalog: what a request may name, with the JSON Schema of every params object."""

from fastapi import APIRouter

from service.api.dependencies import Here, offered
from service.api.route import Route
from service.requests.catalog import Catalog

router = APIRouter(prefix="/v1/catalog", tags=["catalog"], route_class=Route)


@router.get("")
def get_catalog(here: Here) -> Catalog:
    """Strategies of every operation, datasets (uploaded ones last) and architectures."""
    with here.database.reading() as session:
        return offered(session, here)
