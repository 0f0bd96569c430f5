"""Pages of drawn labels a person can read: one row a label, dark ink on paper, forgotten rows struck out."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

PAPER, INK, FAINT, RULE, RED = "#ffffff", "#1c1c1c", "#8a8a8a", "#dcdcdc", "#b3261e"
MARGIN, GAP, NAME, NOTE = 28, 10, 64, 200  # pixels: around the page, between rows, the two outer columns


@dataclass(frozen=True)
class Row:
    """A label and what the model draws for it: a PNG strip (bright ink), or None once it is forgotten."""

    label: str
    strip: bytes | None
    note: str


def page(title: str, subtitle: str, rows: Sequence[Row]) -> Image.Image:
    """The rows under a title. All strips have one size; at least one row has a strip."""
    strips = [_paper(row.strip) for row in rows]
    width, height = next(strip.size for strip in strips if strip is not None)
    head = 84
    sheet = Image.new(
        "RGB",
        (MARGIN + NAME + width + NOTE + MARGIN, head + len(rows) * (height + GAP) + MARGIN),
        PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 20), title, INK, _font(24))
    pen.text((MARGIN, 52), subtitle, FAINT, _font(14))
    for index, (row, strip) in enumerate(zip(rows, strips, strict=True)):
        top = head + index * (height + GAP)
        middle = top + height // 2
        left, right = MARGIN + NAME, MARGIN + NAME + width
        pen.line((MARGIN, top - GAP // 2, right + NOTE, top - GAP // 2), RULE)
        pen.text((MARGIN, middle), row.label, INK if strip else RED, _font(34), anchor="lm")
        pen.text((right + GAP, middle), row.note, FAINT if strip else RED, _font(14), anchor="lm")
        if strip is not None:
            sheet.paste(strip, (left, top))
        else:
            pen.line((MARGIN - 6, middle, right, middle), RED, width=2)
            word = "forgotten"
            half = _font(24).getlength(word) / 2 + GAP
            centre = (left + right) // 2
            pen.rectangle((centre - half, middle - 16, centre + half, middle + 16), PAPER)
            pen.text((centre, middle), word, RED, _font(24), anchor="mm")
    return sheet


def _paper(strip: bytes | None) -> Image.Image | None:
    return None if strip is None else ImageOps.invert(Image.open(io.BytesIO(strip)).convert("L"))


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
