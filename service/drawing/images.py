"""Arrays of pixels -> the bytes people download: PNG images, labelled grids and npz archives.

All drawing is exact: images are enlarged by repeating pixels (nearest neighbour), never resampled.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]


def enlarge(image: Pixels, scale: int) -> Pixels:
    """[h, w] -> [h * scale, w * scale], every pixel repeated `scale` times each way."""
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def grid(images: Pixels, rows: int, columns: int) -> Pixels:
    """[rows * columns, h, w] -> [rows * h, columns * w], filled row by row."""
    _, height, width = images.shape
    tiles = images.reshape(rows, columns, height, width).swapaxes(1, 2)
    return tiles.reshape(rows * height, columns * width)


def labelled_grid(rows: Mapping[str, Pixels], *, scale: int = 2, gap: int = 4) -> Pixels:
    """One row of images a label, its name written to the left: {label: uint8 [n, h, w]} -> uint8 [H, W]."""
    height, width = next(iter(rows.values())).shape[1:]
    cell_height, cell_width = height * scale + gap, width * scale + gap
    font = ImageFont.load_default(size=max(10, cell_height // 3))
    margin = gap * 3 + max(int(font.getlength(label)) for label in rows)
    columns = max(len(images) for images in rows.values())
    page = Image.new("L", (margin + columns * cell_width, gap + len(rows) * cell_height), color=255)
    pen = ImageDraw.Draw(page)
    for row, (label, images) in enumerate(rows.items()):
        top = gap + row * cell_height
        pen.text((gap, top + height * scale // 2), label, fill=0, font=font, anchor="lm")
        for column, image in enumerate(images):
            page.paste(Image.fromarray(enlarge(image, scale)), (margin + column * cell_width, top))
    return np.asarray(page)


def png(pixels: Pixels) -> bytes:
    """Grey pixels [h, w] as a PNG; the same pixels give the same bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def npz(images: Sequence[Pixels], labels: Sequence[str], seeds: Sequence[int]) -> bytes:
    """images uint8 [n, h, w], labels str [n] and seeds int64 [n]; numpy reads it without pickle."""
    file = io.BytesIO()
    np.savez_compressed(
        file, images=np.stack(images), labels=np.array(labels), seeds=np.array(seeds, dtype=np.int64)
    )
    return file.getvalue()
