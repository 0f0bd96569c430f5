"""GET .../images/{label}/{seed}.png: one image, or a grid of them. The URL determines every pixel.

Only where `head` or an alias stands for the number of the version, the pixels change when it names another.
"""

import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from service.api.access import requires
from service.api.context import ApiContext, Context
from service.api.drawing import DRAWING_ERRORS, draw, refuse_revoked
from service.api.grids import TOO_LARGE, Arrangement
from service.api.image_answers import image_etag
from service.api.lookup import find_model, find_version, headers_of_version
from service.api.refusals import refuses
from service.api.responses import PNG, PngResponse
from service.api.route import Route, not_modified
from service.registry import versions
from service.registry.tables import ModelRow, VersionRow
from service.registry.versions import LabelDecoder
from service.requests.fields import LABEL_RULE, MAX_SEED, LabelName

router = APIRouter(prefix="/v1/models/{model}/versions/{number}/images", tags=["images"], route_class=Route)


def _check_seed(text: object) -> object:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,16}", text):
        raise PydanticCustomError("out_of_range", "the seed must be an integer from 0 to 2^53 - 1")
    return text


@router.get("/{label}/{seed}.png", response_class=PngResponse, responses=PNG)
@requires("sample")
@refuses(
    *DRAWING_ERRORS,
    invalid_name=LABEL_RULE,
    output_too_large=TOO_LARGE,
)
async def draw_image(
    model: str,
    number: str,
    label: LabelName,
    seed: Annotated[int, BeforeValidator(_check_seed), Path(ge=0, le=MAX_SEED)],
    arrangement: Annotated[Arrangement, Query()],
    request: Request,
    context: Context,
) -> Response:
    """Draw a label with a version. The same URL gives the same bytes until the version is revoked.

    If `head` or an alias stands for the number, the images are those of the version that it names now: no
    cache uses them without asking again, and Content-Location is the URL with the number.
    """
    row, version, decoder = await context.database_threads.read(_find_decoder, context, model, number, label)
    arrangement.refuse_too_large()
    headers = {
        **headers_of_version(request.scope, version.number, number),
        "ETag": image_etag(decoder, label, seed, arrangement),
    }
    if unchanged := not_modified(request, headers):
        return unchanged
    seeds = range(seed, seed + arrangement.count)
    drawn = await draw(request, context, row, version, {label: decoder}, seeds)
    content = await context.drawing.run(arrangement.encode, drawn[label])
    await refuse_revoked(context, row, version, [label])
    return PngResponse(content, headers=headers)


def _find_decoder(
    context: ApiContext, model: str, number: str, label: str
) -> tuple[ModelRow, VersionRow, LabelDecoder]:
    with context.database.reading() as session:
        row = find_model(session, context.project, model)
        version = find_version(session, row, number)
        return row, version, versions.find_decoders(session, row, version, [label])[label]
