"""Show images in a terminal: as pixels where it understands kitty's protocol or Sixel, else as blocks."""

import logging
import warnings
from collections.abc import Sequence

from PIL import Image
from rich.console import Console, RenderableType
from rich_pixels import Pixels

GAP = 2
"""Pixels between two images."""
SCALE = 2
"""How much larger an image is shown as pixels."""
BLOCKS = 16
"""The side of an image in blocks: a character is one wide and two high."""


def show_images(console: Console, images: Sequence[Image.Image]) -> None:
    """Print images of one size side by side, in as many rows as the terminal needs."""
    if shown_as_pixels := _as_pixels(console, images):
        console.print(shown_as_pixels)
        return
    columns = max(1, (console.width + GAP) // (BLOCKS + GAP))
    small = [image.resize((BLOCKS, BLOCKS), Image.Resampling.LANCZOS) for image in images]
    for start in range(0, len(small), columns):
        console.print(Pixels.from_image(tiled(small[start : start + columns], columns)))


def tiled(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Return images of one size in one picture, row by row, with an even number of pixel rows."""
    width, height = images[0].size
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP)))
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        sheet.paste(image.convert("RGB"), (column * (width + GAP), row * (height + GAP)))
    return sheet


def _as_pixels(console: Console, images: Sequence[Image.Image]) -> RenderableType | None:
    """Return the images as one picture in pixels, or None if the terminal says that it shows none."""
    logging.getLogger("textual_image").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        # The import asks the terminal what it understands, so it comes when there is something to show.
        from textual_image._terminal import get_cell_size
        from textual_image.renderable import Image as BestImage
        from textual_image.renderable import SixelImage, TGPImage
    if BestImage not in (SixelImage, TGPImage):
        return None
    width, height = images[0].size
    large = [image.resize((width * SCALE, height * SCALE), Image.Resampling.LANCZOS) for image in images]
    columns = max(1, console.width * get_cell_size().width // (width * SCALE + GAP))
    return BestImage(tiled(large, columns))
