"""Decode one PNG or JPEG to 28x28 grey pixels, or refuse it with the reason.

Pillow reads what it can of a damaged file: a flipped bit gave other pixels, and missing rows were black. So
all checksums of a PNG and the length of its pixels are checked first, and Pillow gets a file with nothing
else in it. A JPEG has no checksum; its size and the number of its scans are checked before it is decoded.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from service.requests.fitting import LARGEST_SIDE, PixelBudget, advise, fit
from service.requests.greys import from_16_bits, put_on_black, to_grey
from service.requests.invalid_upload import PIXELS, SIDE, InvalidUpload
from service.requests.other_formats import name_format

SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
SCAN = b"\xff\xda"
MAX_SCANS = 64
"""Of a JPEG. Each scan goes over all pixels, so that a small file of many scans would take minutes."""
ORIENTATION = 0x0112
MAX_PICTURE_BYTES = 1 << 20
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
MAX_EXTRA_BYTES = 64 << 10
"""The most bytes that the texts and the colour profile of a picture may unpack to together."""
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""{colour type of the file: how many numbers a pixel has}."""
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""(first column, first row, columns to the next pixel, rows to the next) of each pass of interlacing."""
GREY, COLOURS, PALETTE = 0, 2, 3

Note = Callable[[str], None]
"""Called with the code of each conversion of PICTURE_CONVERSIONS."""


def decode_picture(
    name: str, data: bytes, *, fitting: PixelBudget | None = None, note: Note = lambda code: None
) -> bytes:
    """Return the 784 grey bytes of a PNG or JPEG. Raises InvalidUpload.

    name: what the errors call it, in quotes. fitting: how many pixels may be scaled; None to
    refuse other sizes.
    """
    try:
        if data.startswith(SIGNATURE):
            grey = _decode_png(name, data, fitting, note)
        elif data.startswith(JPEG_SIGNATURE):
            grey = _decode_jpeg(name, data, fitting, note)
        else:
            raise _another_format(name, data)
    except InvalidUpload:
        raise
    except Exception as error:
        raise _damaged(name) from error
    if grey.shape != (SIDE, SIDE):
        note("fitted")
        grey = fit(grey)
    if grey.size != PIXELS:
        raise _damaged(name)
    return grey.tobytes()


def _check_size(name: str, width: int, height: int, fitting: PixelBudget | None) -> None:
    """Raise InvalidUpload for a picture of another size, unless it is to be scaled."""
    if (width, height) == (SIDE, SIDE):
        return
    too_large = max(width, height) > LARGEST_SIDE
    if fitting is None or too_large:
        code = "image_too_large" if too_large else "invalid_image"
        raise InvalidUpload(code, f"{name} is {width}x{height}; {advise(height, width)}")
    fitting.spend(name, height, width)


# --- PNG -------------------------------------------------------------------------------------------


def _decode_png(name: str, data: bytes, fitting: PixelBudget | None, note: Note) -> NDArray[np.uint8]:
    width, height = struct.unpack(">II", data[16:24])
    _check_size(name, width, height, fitting)
    header, palette, transparency, packed, exif = b"", b"", b"", [], b""
    extra_bytes = 0
    for position, (kind, content) in enumerate(_chunks(name, data)):
        if (kind == b"IHDR") != (position == 0):
            raise _damaged(name)
        if kind == b"IHDR":
            header = content
        elif kind == b"PLTE":
            palette = content
        elif kind == b"IDAT":
            packed.append(content)
        elif kind == b"tRNS":
            transparency = content
        elif kind == b"eXIf":
            exif = content
        elif kind == b"acTL":
            raise InvalidUpload("unsupported_image_mode", f"{name} is animated; save one of its frames")
        elif kind in (b"zTXt", b"iCCP", b"iTXt"):
            extra_bytes += _unpacked_size(kind, content, at_most=MAX_EXTRA_BYTES + 1 - extra_bytes)
            if extra_bytes > MAX_EXTRA_BYTES:
                raise InvalidUpload(
                    "image_too_large",
                    f"{name} has texts or a colour profile of more than {MAX_EXTRA_BYTES:,} bytes",
                )
    depth, colour, _, _, interlace = struct.unpack(">BBBBB", header[8:])
    _check_pixels(name, b"".join(packed), (width, height), depth * CHANNELS[colour], interlace)
    chunks = [
        (b"IHDR", header),
        *([(b"PLTE", palette)] if colour == PALETTE else []),
        *([(b"tRNS", _as_decoded(transparency, depth, colour))] if transparency else []),
        *([(b"eXIf", exif)] if 0 < len(exif) <= MAX_EXTRA_BYTES else []),
        (b"IDAT", b"".join(packed)),
        (b"IEND", b""),
    ]
    return _draw_png(name, chunks, palette_size=len(palette) // 3, note=note)


def _chunks(name: str, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, content) of every chunk up to the last one. Each has the checksum that it says."""
    at = len(SIGNATURE)
    while True:
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        end = at + 12 + length
        if (
            end > len(data)
            or zlib.crc32(data[at + 4 : end - 4]) != struct.unpack(">I", data[end - 4 : end])[0]
        ):
            raise _damaged(name)
        if not kind.isalpha() or (kind[:1].isupper() and kind not in CRITICAL):
            raise _damaged(name)
        yield kind, data[at + 8 : end - 4]
        if kind == b"IEND":
            return
        at = end


def _unpacked_size(kind: bytes, content: bytes, *, at_most: int) -> int:
    """Return how many bytes a packed text or colour profile unpacks to, `at_most` of them at most."""
    rest = content.partition(b"\0")[2]
    if kind == b"iTXt":
        if rest[:1] != b"\1":
            return 0  # it is not packed
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        rest = rest[1:]
    return len(zlib.decompressobj().decompress(rest, at_most))


def _check_pixels(name: str, packed: bytes, size: tuple[int, int], bits: int, interlace: int) -> None:
    """Check that the packed pixels are complete: no row is missing, and their checksum is right."""
    width, height = size
    rows = [
        1 + -(-columns * bits // 8)
        for x, y, dx, dy in (PASSES if interlace else ((0, 0, 1, 1),))
        if (columns := len(range(x, width, dx)))
        for _ in range(y, height, dy)
    ]
    unpacking = zlib.decompressobj()
    pixels = unpacking.decompress(packed, sum(rows) + 1)
    if len(pixels) != sum(rows) or not unpacking.eof:
        raise _damaged(name)
    at = 0
    for row in rows:
        if pixels[at] > 4:  # the first byte of a row names one of five filters
            raise _damaged(name)
        at += row


def _as_decoded(transparency: bytes, depth: int, colour: int) -> bytes:
    """Return the transparent grey or colour of a chunk tRNS as Pillow decodes such pixels: with 8 bits.

    Pillow looks for the value of the file among the decoded pixels, and would not find it. It keeps 16 bits
    of grey, and finds that of 1 bit. It drops the low bytes of colours of 16 bits, so that colours which
    differ in these only are transparent, too.
    """
    if colour == GREY and depth in (2, 4):
        largest = 2**depth - 1
        return struct.pack(">H", (struct.unpack(">H", transparency)[0] & largest) * 255 // largest)
    if colour == COLOURS and depth == 16:
        return struct.pack(">3H", *(value >> 8 for value in struct.unpack(">3H", transparency)))
    return transparency


def _draw_png(
    name: str, chunks: list[tuple[bytes, bytes]], *, palette_size: int, note: Note
) -> NDArray[np.uint8]:
    """Decode the pixels of a PNG with these chunks and no others."""
    file = SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    with Image.open(io.BytesIO(file), formats=["PNG"]) as picture:
        picture.load()
        if picture.mode == "P" and int(np.asarray(picture).max()) >= palette_size:
            raise _damaged(name)
        return _grey(name, _upright(picture, note), note)


# --- JPEG ------------------------------------------------------------------------------------------


def _decode_jpeg(name: str, data: bytes, fitting: PixelBudget | None, note: Note) -> NDArray[np.uint8]:
    if data.count(SCAN) > MAX_SCANS:
        raise InvalidUpload(
            "image_too_large", f"{name} has more than {MAX_SCANS} scans; save it again, as PNG"
        )
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        _check_size(name, *picture.size, fitting)
        picture.load()
        note("jpeg_decoded")
        return _grey(name, _upright(picture, note), note)


def _upright(picture: Image.Image, note: Note) -> Image.Image:
    """Return the picture as its EXIF data say that it is to be shown."""
    if picture.getexif().get(ORIENTATION, 1) in (0, 1):
        return picture
    note("orientation_applied")
    return ImageOps.exif_transpose(picture)


def _grey(name: str, picture: Image.Image, note: Note) -> NDArray[np.uint8]:
    """Return a decoded picture of any mode as grey pixels."""
    if picture.mode.startswith("I;16"):
        note("grey_from_16_bits")
        values = np.asarray(picture).astype(np.uint16)
        if "transparency" in picture.info:
            alpha = np.where(values == picture.info["transparency"], np.uint8(0), np.uint8(255))
            values = put_on_black(values, alpha, note)
        return from_16_bits(values)
    if picture.mode == "P" or "transparency" in picture.info:
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    elif picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode not in ("L", "LA", "RGB", "RGBA"):
        raise InvalidUpload(
            "unsupported_image_mode", f"{name} has the colours {picture.mode}; save it as a grey PNG"
        )
    pixels = np.asarray(picture)
    return to_grey(pixels if pixels.ndim == 3 else pixels[..., None], note)


def _another_format(name: str, data: bytes) -> InvalidUpload:
    if data.startswith(SIGNATURE[:4]):
        return InvalidUpload(
            "corrupt_image",
            f"{name} is a PNG whose first bytes are damaged, such as by a conversion of line ends; copy it "
            "again as a binary file",
        )
    found = (name_format(data) or "neither") if data else "empty"
    return InvalidUpload("invalid_image", f"{name} is not a PNG or JPEG: it is {found}; save it as PNG")


def _damaged(name: str) -> InvalidUpload:
    return InvalidUpload("corrupt_image", f"{name} is damaged and cannot be decoded; save it again")
