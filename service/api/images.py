"""GET .../images/{label}/{seed}.png: one image, or a grid of them. The URL determines every pixel.

Only where `head` or an alias stands for the number of the version, the pixels change when it names another.
"""

import hashlib
import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.drawing import draw
from service.api.lookup import find_model, find_version, headers_of_version
from service.api.problems import refusals, rules
from service.api.responses import PngResponse
from service.api.route import Route, not_modified
from service.drawing.decoders import RENDERING
from service.drawing.images import Pixels, enlarge, grid, png
from service.registry import versions
from service.registry.tables import ModelRow, VersionRow
from service.registry.versions import LabelDecoder
from service.requests.fields import MAX_SEED, LabelName, schema_of
from service.requests.violations import InvalidRequest, Violation

router = APIRouter(prefix="/v1/models/{model}/versions/{number}/images", tags=["images"], route_class=Route)

MAX_AREA = 4096
"""The largest rows x columns x scale^2. It admits a 16x16 grid at scale 4, or a 4x4 grid at scale 16."""

GRID = re.compile(r"(0?[1-9]|1[0-6])x(0?[1-9]|1[0-6])")


def _check_grid(text: object) -> object:
    if not isinstance(text, str) or not GRID.fullmatch(text):
        raise PydanticCustomError(
            "out_of_range", "write the grid as ROWSxCOLUMNS, such as 4x8, each from 1 to 16"
        )
    return text


def _check_seed(text: object) -> object:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,16}", text):
        raise PydanticCustomError("out_of_range", "the seed must be an integer from 0 to 2^53 - 1")
    return text


class Drawing(BaseModel):
    """The scale of the images, and the grid they are arranged in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: int = Field(
        1,
        ge=1,
        le=16,
        description=f"The width and height of each pixel in the PNG. Rows x columns x scale^2 may be "
        f"{MAX_AREA:,} at most.",
    )
    grid: Annotated[str, BeforeValidator(_check_grid)] = Field(
        "1x1",
        description="ROWSxCOLUMNS, each from 1 to 16. The images have consecutive seeds, beginning with the "
        "one in the path.",
        json_schema_extra=schema_of(GRID),
    )


@router.get(
    "/{label}/{seed}.png",
    response_class=PngResponse,
    responses=refusals(404, 409, 410, 429)
    | rules(
        label_not_learned="the version does not hold the label",
        label_forgotten="the model has forgotten the label",
        output_too_large=f"rows x columns x scale^2 is more than {MAX_AREA:,}",
    ),
)
@requires("sample")
async def draw_image(
    model: str,
    number: str,
    label: LabelName,
    seed: Annotated[int, BeforeValidator(_check_seed), Path(ge=0, le=MAX_SEED)],
    drawing: Annotated[Drawing, Query()],
    request: Request,
    context: Context,
) -> Response:
    """Draw a label with a version. The same URL gives the same bytes until the version is revoked.

    If `head` or an alias stands for the number, the images are those of the version that it names now: no
    cache uses them without asking again, and Content-Location is the URL with the number.
    """
    row, version, decoder = await context.database_threads.read(_find_decoder, context, model, number, label)
    rows, columns = (int(side) for side in drawing.grid.split("x"))
    _refuse_too_large(rows * columns * drawing.scale**2)
    identity = f"{decoder.sha256}/{decoder.slot}/{label}/{seed}/{drawing.scale}/{drawing.grid}/{RENDERING}"
    headers = {
        **headers_of_version(request, version, number),
        "ETag": f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"',
    }
    if unchanged := not_modified(request, headers):
        return unchanged
    seeds = range(seed, seed + rows * columns)
    drawn = await draw(request, context, row, version, {label: decoder}, seeds)
    content = await context.drawing.run(_encode, drawn[label], rows, columns, drawing.scale)
    return PngResponse(content, headers=headers)


def _find_decoder(
    context: ApiContext, model: str, number: str, label: str
) -> tuple[ModelRow, VersionRow, LabelDecoder]:
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        version = find_version(session, row, number)
        return row, version, versions.find_decoders(session, row, version, [label])[label]


def _encode(images: Pixels, rows: int, columns: int, scale: int) -> bytes:
    return png(enlarge(grid(images, rows, columns), scale))


def _refuse_too_large(area: int) -> None:
    if area > MAX_AREA:
        detail = f"rows x columns x scale^2 is {area}, more than {MAX_AREA}; request a smaller scale or grid"
        raise InvalidRequest(Violation("/query/scale", "output_too_large", detail))
