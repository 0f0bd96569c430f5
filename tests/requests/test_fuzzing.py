"""Whatever bytes an upload has, it is read or refused; a PNG that is read has the pixels that Pillow sees."""

import io
import json
import struct
import zlib
from contextlib import suppress
from random import Random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.api.bodies import parse_json
from service.api.problems import Problem
from service.requests.invalid_upload import InvalidUpload
from service.requests.pictures import SIGNATURE, decode_picture
from tests.requests.archives import as_npz, doodles, png, zipped
from tests.requests.reading import read

few = settings(
    derandomize=True, max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
ARRAY = as_npz(doodles())
PICTURE = png(doodles()["bar"][0])


def npy(header: bytes, data: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@few
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    read_or_refused(body)
    read_or_refused(b"PK\x03\x04" + body)


@few
@given(st.binary(max_size=200), st.binary(max_size=400))
def test_any_header_and_content_of_an_array_is_read_or_refused(header: bytes, data: bytes) -> None:
    read_or_refused(zipped({"images.npy": npy(header, data), "labels.npy": npy(header, data)}))


@few
@given(
    st.sampled_from(["|u1", "<U1", ">U3", "<i8", "|S1", "<f4", "<c8", "<M8", "|O", "<U0", "|b1"]),
    st.booleans(),
    st.lists(st.integers(0, 2**40), max_size=4),
    st.binary(max_size=200),
)
def test_any_type_and_shape_of_an_array_is_read_or_refused(
    dtype: str, fortran: bool, shape: list[int], data: bytes
) -> None:
    header = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {tuple(shape)}}}\n".encode()
    read_or_refused(zipped({"images.npy": npy(header, data), "labels.npy": npy(header, data)}))


@few
@given(st.integers(0, len(ARRAY) - 1), st.integers(0, 7))
def test_a_flipped_bit_in_an_npz_is_refused_or_changes_no_pixel(at: int, bit: int) -> None:
    found = read_or_refused(ARRAY[:at] + bytes([ARRAY[at] ^ 1 << bit]) + ARRAY[at + 1 :])
    assert found in (None, read_or_refused(ARRAY))


@few
@given(st.integers(0, len(PICTURE) - 1), st.integers(0, 7), st.booleans())
def test_a_flipped_bit_in_a_png_is_refused_or_changes_no_pixel(at: int, bit: int, cut: bool) -> None:
    data = PICTURE[:at] if cut else PICTURE[:at] + bytes([PICTURE[at] ^ 1 << bit]) + PICTURE[at + 1 :]
    with suppress(InvalidUpload):
        assert decode_picture("'a'", data) == decode_picture("'a'", PICTURE)


@few
@given(
    st.sampled_from([(0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8)]),
    st.integers(0, 1),
    st.randoms(use_true_random=False),
)
def test_a_png_of_any_kind_has_the_pixels_that_pillow_sees(
    kind: tuple[int, int], interlace: int, random: Random
) -> None:
    colour, depth = kind
    bits = depth * (3 if colour == 2 else 1)
    passes = [(0, 0, 1, 1)] if not interlace else [
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
    ]  # fmt: skip
    raw = b"".join(
        bytes([random.randrange(5)]) + random.randbytes(-(-len(range(x, 28, dx)) * bits // 8))
        for x, y, dx, dy in passes
        for _ in range(y, 28, dy)
    )
    header = struct.pack(">IIBBBBB", 28, 28, depth, colour, 0, 0, interlace)
    chunks = [
        (b"IHDR", header),
        (b"PLTE", bytes(range(256)) * 3),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    ]
    data = SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
        if name != b"PLTE" or colour == 3
    )
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(picture.convert("L")).tobytes()
    assert decode_picture("'a'", data) == expected


@few
@given(
    st.recursive(
        st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists, max_leaves=8
    )
)
def test_json_is_parsed_as_the_library_does(document: object) -> None:
    text = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    with suppress(Problem):  # a lone surrogate
        assert parse_json(text) == document


def read_or_refused(archive: bytes) -> object:
    try:
        return read(archive)
    except InvalidUpload:
        return None
