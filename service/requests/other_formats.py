"""Recognise files of other formats by their first bytes, to say in a refusal what was found."""

from codecs import BOM_UTF8

_KINDS = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\0\0\x08\x01": "an IDX file of labels",
    b"\0\0\x08\x03": "an IDX file of images",
    b"\0\0\x01\0": "an icon",
    b"\0\0\0": "HEIF or AVIF",
    b"<": "HTML, XML or SVG",
    b"\x89PNG": "a single PNG",
    b"\xff\xd8\xff": "a single JPEG",
    b"\x1f\x8b": "packed with gzip",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ\0": "packed with xz",
    b"\x28\xb5\x2f\xfd": "packed with Zstandard",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x93NUMPY": "a single array of NumPy",
    b"\x89HDF": "HDF5",
    b"PAR1": "Parquet",
    b"MATLAB": "a file of MATLAB",
}
"""{the first bytes of a file: what it is}. Longer ones that begin alike come first."""
_TAR, _TAR_AT = b"ustar", 257

HEAD_BYTES = _TAR_AT + len(_TAR)
"""How many of the first bytes are looked at."""


def name_format(head: bytes) -> str | None:
    """Return what a file probably is that begins so, such as "GIF" or "a 7z archive"; None if unknown."""
    if head[_TAR_AT:].startswith(_TAR):
        return "a tar archive"
    known = next((kind for start, kind in _KINDS.items() if head.startswith(start)), None)
    is_text = head.removeprefix(BOM_UTF8).isascii() and b"\0" not in head
    return known or ("text" if is_text else None)
