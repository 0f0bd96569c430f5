"""Recognise files of other formats by their first bytes, to say in a refusal what was found."""

import re
from codecs import BOM_UTF8

_KINDS = {
    rb"GIF8[79]a": "GIF",
    rb"BM.{4}\0\0\0\0": "BMP",
    rb"RIFF.{4}WEBP": "WebP",
    rb"II\*\0|MM\0\*": "TIFF",
    rb"\0\0\0\x0cjP": "JPEG 2000",
    rb"\0\0\x08\x01": "an IDX file of labels",
    rb"\0\0\x08\x03": "an IDX file of images",
    rb"\0\0\x01\0": "an icon",
    rb".{4}ftyp": "HEIF, AVIF or a video",
    rb"<": "HTML, XML or SVG",
    rb"\x89PNG": "a single PNG",
    rb"\xff\xd8\xff": "a single JPEG",
    rb"\x1f\x8b": "packed with gzip",
    rb"BZh\d1AY&SY": "packed with bzip2",
    rb"\xfd7zXZ\0": "packed with xz",
    rb"\x28\xb5\x2f\xfd": "packed with Zstandard",
    rb"7z\xbc\xaf": "a 7z archive",
    rb"Rar!\x1a": "a RAR archive",
    rb"\x93NUMPY": "a single array of NumPy",
    rb"\x89HDF": "HDF5",
    rb"PAR1\x15": "Parquet",
    rb"MATLAB \d": "a file of MATLAB",
    rb".{257}ustar": "a tar archive",
}
"""{how a file begins: what it is}. Text must not begin so: a table may have a column `BMI` or `PAR1`."""

HEAD_BYTES = 257 + len(b"ustar")
"""How many of the first bytes are looked at."""


def name_format(head: bytes) -> str | None:
    """Return what a file probably is that begins so, such as "GIF" or "a 7z archive"; None if unknown."""
    for pattern, kind in _KINDS.items():
        if re.match(pattern, head, re.DOTALL):
            return kind
    is_text = head.removeprefix(BOM_UTF8).isascii() and b"\0" not in head
    return "text" if is_text else None
