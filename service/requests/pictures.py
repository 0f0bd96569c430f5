"""Decode one PNG of 28x28 to grey pixels, or refuse it with the reason.

Pillow reads what it can of a damaged file: a flipped bit gave other pixels, and missing rows were black. So
all checksums and the length of the pixels are checked first, and Pillow gets a file with nothing else in it.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from service.requests.invalid_upload import PIXELS, SIDE, InvalidUpload

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PICTURE_BYTES = 1 << 20
LARGE_SIDE = 4096
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
MAX_EXTRA_BYTES = 64 << 10
"""The most bytes that the texts and the colour profile of a picture may unpack to together."""
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""{colour type of the file: how many numbers a pixel has}."""
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""(first column, first row, columns to the next pixel, rows to the next) of each pass of interlacing."""
PALETTE = 3


def decode_picture(name: str, data: bytes) -> bytes:
    """Return the 784 bytes of a PNG that loses nothing when it becomes 8-bit grey. Raises InvalidUpload.

    name: what the errors call it, in quotes.
    """
    if not data.startswith(SIGNATURE):
        raise InvalidUpload("invalid_image", f"{name} is not a PNG")
    try:
        return _decode(name, data)
    except InvalidUpload:
        raise
    except Exception as error:
        raise _damaged(name) from error


def _decode(name: str, data: bytes) -> bytes:
    width, height = struct.unpack(">II", data[16:24])
    if max(width, height) > LARGE_SIDE:
        raise InvalidUpload("image_too_large", f"{name} is {width}x{height}; make it {SIDE}x{SIDE}")
    if (width, height) != (SIDE, SIDE):
        raise InvalidUpload("invalid_image", f"{name} is {width}x{height}; make it {SIDE}x{SIDE}")
    header, palette, packed, unsupported = b"", b"", [], ""
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
        elif kind in (b"tRNS", b"acTL"):
            unsupported = "transparent" if kind == b"tRNS" else "animated"
        elif kind in (b"zTXt", b"iCCP", b"iTXt"):
            extra_bytes += _unpacked_size(kind, content, at_most=MAX_EXTRA_BYTES + 1 - extra_bytes)
            if extra_bytes > MAX_EXTRA_BYTES:
                raise InvalidUpload(
                    "image_too_large",
                    f"{name} has texts or a colour profile of more than {MAX_EXTRA_BYTES:,} bytes",
                )
    depth, colour, _, _, interlace = struct.unpack(">BBBBB", header[8:])
    if unsupported or colour in (4, 6) or depth == 16:
        kind_of_image = unsupported or ("16-bit" if depth == 16 else "transparent")
        raise InvalidUpload(
            "unsupported_image_mode",
            f"{name} is {kind_of_image}; make it 8-bit grey, without transparency",
        )
    _check_pixels(name, b"".join(packed), depth * CHANNELS[colour], interlace)
    return _draw(name, header, palette if colour == PALETTE else b"", b"".join(packed))


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


def _check_pixels(name: str, packed: bytes, bits: int, interlace: int) -> None:
    """Check that the packed pixels are complete: no row is missing, and their checksum is right."""
    rows = [
        1 + -(-len(range(x, SIDE, dx)) * bits // 8)
        for x, y, dx, dy in (PASSES if interlace else ((0, 0, 1, 1),))
        for _ in range(y, SIDE, dy)
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


def _draw(name: str, header: bytes, palette: bytes, packed: bytes) -> bytes:
    """Decode the pixels of a PNG with these chunks and no others."""
    chunks = [
        (b"IHDR", header),
        *([(b"PLTE", palette)] if palette else []),
        (b"IDAT", packed),
        (b"IEND", b""),
    ]
    file = SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    with Image.open(io.BytesIO(file), formats=["PNG"]) as picture:
        picture.load()
        if picture.mode == "P" and int(np.asarray(picture).max()) >= len(palette) // 3:
            raise _damaged(name)
        grey = np.asarray(picture.convert("L"))
    if grey.size != PIXELS:
        raise _damaged(name)
    return grey.tobytes()


def _damaged(name: str) -> InvalidUpload:
    return InvalidUpload("corrupt_image", f"{name} is damaged and cannot be decoded")
