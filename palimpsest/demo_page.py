"""Draw the images of a model on a page: a row for each label, forgotten labels struck out."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

WHITE, BLACK, GREY, RULE, RED = "#ffffff", "#1c1c1c", "#6b6b6b", "#dcdcdc", "#b3261e"
MARGIN, GAP, NAME_WIDTH, NOTE_WIDTH = (
    28,
    10,
    64,
    200,
)  # pixels: around the page, between rows, the two outer columns


@dataclass(frozen=True)
class Row:
    """A label and its images.

    strip: a PNG of the images side by side, white on black; None for a label that is not drawn any more.
    note: a few words at the right of the row.
    """

    label: str
    strip: bytes | None
    note: str


def draw_page(title: str, subtitle: str, rows: Sequence[Row]) -> Image.Image:
    """Draw the rows under a title, dark on white. All strips have the same size; one row at least has one."""
    strips = [_dark_on_white(row.strip) for row in rows]
    width, height = next(strip.size for strip in strips if strip is not None)
    head = 84
    sheet = Image.new(
        "RGB",
        (MARGIN + NAME_WIDTH + width + NOTE_WIDTH + MARGIN, head + len(rows) * (height + GAP) + MARGIN),
        WHITE,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 20), title, BLACK, _font(24))
    pen.text((MARGIN, 52), subtitle, GREY, _font(14))
    for index, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        top = head + index * (height + GAP)
        middle = top + height // 2
        left, right = MARGIN + NAME_WIDTH, MARGIN + NAME_WIDTH + width
        pen.line((MARGIN, top - GAP // 2, right + NOTE_WIDTH, top - GAP // 2), RULE)
        pen.text((MARGIN, middle), row.label, BLACK if strip else RED, _font(34), anchor="lm")
        pen.text((right + GAP, middle), row.note, GREY if strip else RED, _font(14), anchor="lm")
        if strip is not None:
            sheet.paste(strip, (left, top))
        else:
            pen.line((left, middle, right, middle), RED, width=2)
            word = "forgotten"
            half = _font(24).getlength(word) / 2 + GAP
            centre = (left + right) // 2
            pen.rectangle((centre - half, middle - 16, centre + half, middle + 16), WHITE)
            pen.text((centre, middle), word, RED, _font(24), anchor="mm")
    return sheet


def _dark_on_white(strip: bytes | None) -> Image.Image | None:
    return None if strip is None else ImageOps.invert(Image.open(io.BytesIO(strip)).convert("L"))


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
