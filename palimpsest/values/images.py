"""Images that the server drew."""

import io
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from palimpsest.values.base import Value

if TYPE_CHECKING:
    from PIL import Image


class SampleRecord(Value):
    """All that is needed to draw a sample again, with exactly the same pixels.

    id, created_at: None if it was not recorded, because the server's disk has no space for it.
    """

    id: str | None
    object: str = "sample"
    model: str
    version: int
    labels: tuple[str, ...]
    count: int
    seed: int
    format: str
    created_at: datetime | None
    links: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """Images of one sample.

    id: of its record, None if it was not recorded. version: what drew it. media_type: of `content`, which
    depends on the format that was requested.
    """

    id: str | None
    version: int
    media_type: str
    content: bytes

    def to_image(self) -> "Image.Image":
        """Return the picture, of the formats png_grid, webp and png."""
        return open_image(self.content)


def open_image(data: bytes) -> "Image.Image":
    """Decode a picture."""
    from PIL import Image  # only drawing needs it, and importing it takes a while

    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image
