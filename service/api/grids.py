"""The size and arrangement of images that an endpoint returns as one PNG."""

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from service.drawing.images import Pixels, enlarge, grid, png
from service.requests.fields import schema_of
from service.requests.violations import InvalidRequest, Violation

MAX_AREA = 4096
"""The largest rows x columns x scale^2. It admits a 16x16 grid at scale 4, or a 4x4 grid at scale 16."""
TOO_LARGE = f"rows x columns x scale^2 is more than {MAX_AREA:,}"

GRID = re.compile(r"(0?[1-9]|1[0-6])x(0?[1-9]|1[0-6])")


def _check_grid(text: object) -> object:
    if not isinstance(text, str) or not GRID.fullmatch(text):
        raise PydanticCustomError(
            "out_of_range", "write the grid as ROWSxCOLUMNS, such as 4x8, each from 1 to 16"
        )
    return text


class Arrangement(BaseModel):
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
        description="ROWSxCOLUMNS, each from 1 to 16. The images have consecutive numbers, from the one in "
        "the path on.",
        json_schema_extra=schema_of(GRID),
    )

    @property
    def rows(self) -> int:
        """The rows of the grid."""
        return int(self.grid.split("x")[0])

    @property
    def count(self) -> int:
        """How many images the grid has."""
        return self.rows * self._columns

    def refuse_too_large(self) -> None:
        """Raise InvalidRequest if the PNG would have too many pixels."""
        area = self.count * self.scale**2
        if area > MAX_AREA:
            detail = (
                f"rows x columns x scale^2 is {area}, more than {MAX_AREA}; request a smaller scale or grid"
            )
            raise InvalidRequest(Violation("/query/scale", "output_too_large", detail))

    def encode(self, images: Pixels) -> bytes:
        """Return images, uint8 [count, h, w], as one PNG."""
        page = images[0] if len(images) == 1 else grid(images, self.rows, self._columns)
        return png(page) if self.scale == 1 else png(enlarge(page, self.scale), is_enlarged=True)

    @property
    def _columns(self) -> int:
        return int(self.grid.split("x")[1])
