"""An upload is read to the last pixel, or refused with the reason; nothing in it is ever executed."""

import gzip
import io
import os
import pickle
import random
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.requests.array_labels import MAX_LABELS
from service.requests.invalid_upload import InvalidUpload
from service.requests.uploads import MAX_FILES, MIN_IMAGES_PER_LABEL, ZIP_ENTRY
from tests.requests.archives import as_folders, as_npz, doodles, npz, png, pngs, zipped
from tests.requests.reading import read

MakeArchive = Callable[[Mapping[str, NDArray[np.uint8]]], bytes]

ROOM = 1 << 24
BLANK = np.zeros((5, 28, 28), dtype=np.uint8)
MARKED = BLANK.copy()
MARKED[:, 5:9, 9:20] = 200
FIVE = ["a"] * 5


def test_both_kinds_of_archive_give_the_same_upload() -> None:
    one, other = (read(make(doodles()), max_bytes=ROOM) for make in (as_npz, as_folders))
    assert one.counts == other.counts == {"bar": 6, "ring": 6}
    assert one.pixels == other.pixels == b"".join(images.tobytes() for images in doodles().values())


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (MARKED.reshape(5, 784), np.array(FIVE), ["a"]),
        (np.asfortranarray(MARKED), np.array(FIVE), ["a"]),
        (MARKED, np.array([7] * 5, dtype=np.int64), ["7"]),
        (MARKED, np.array([200] * 5, dtype=np.uint8), ["200"]),
        (MARKED, np.array([-1] * 5, dtype=">i4"), ["-1"]),
        (MARKED, np.array(["ü ∂"] * 5, dtype=">U3"), ["ü ∂"]),
        (np.concatenate([MARKED, MARKED]), np.array([10, 9] * 5), ["9", "10"]),
    ],
)
def test_arrays_may_be_laid_out_in_any_way_numpy_saves(
    images: NDArray[np.uint8], labels: NDArray[Any], expected: list[str]
) -> None:
    assert list(read(npz(images=images, labels=labels), max_bytes=ROOM).images) == expected


def test_the_images_of_a_label_keep_their_order() -> None:
    images = np.full((10, 28, 28), 200, dtype=np.uint8)
    images[:, 0, 0] = np.arange(10)
    found = read(npz(images=images, labels=np.array(["a", "b"] * 5)), max_bytes=ROOM).images
    assert {label: one[:, 0].tolist() for label, one in found.items()} == {
        "a": [0, 2, 4, 6, 8],
        "b": [1, 3, 5, 7, 9],
    }


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_png_of_any_plain_mode_becomes_grey(mode: str) -> None:
    half = np.repeat([0, 255], 14)[:, None].repeat(28, 1).astype(np.uint8)
    archive = zipped({f"a/{i}.png": png(half, mode) for i in range(5)})
    assert (read(archive, max_bytes=ROOM).images["a"] == half.reshape(-1)).all()


def test_files_that_file_managers_leave_behind_are_ignored() -> None:
    rest = {"__MACOSX/bar/._000.png": b"x", "bar/.DS_Store": b"x", "Thumbs.db": b"x", "bar/": b""}
    archive = zipped(pngs(doodles()) | rest)
    assert read(archive, max_bytes=ROOM).counts == {"bar": 6, "ring": 6}


class Trap:
    """An object that creates a folder when it is unpickled."""

    executed = Path("executed")

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.executed),)


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode("latin-1")
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text + data


def arrays(images: bytes) -> bytes:
    """An npz with these bytes for images.npy."""
    good = io.BytesIO()
    np.save(good, np.array(FIVE))
    return zipped({"images.npy": images, "labels.npy": good.getvalue()})


def arrays_with(labels: bytes) -> bytes:
    """An npz with these bytes for labels.npy."""
    good = io.BytesIO()
    np.save(good, BLANK)
    return zipped({"images.npy": good.getvalue(), "labels.npy": labels})


def header(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n"


def folders(**extra: bytes) -> bytes:
    return zipped(pngs(doodles()) | extra)


def renamed(path: str) -> bytes:
    return zipped({**pngs(doodles()), path: png(BLANK[0])})


def link() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("a/0.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return file.getvalue()


def twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/0.png", png(BLANK[0]))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/0.png", png(BLANK[0]))
    return file.getvalue()


def flagged(archive: bytes, flag: int) -> bytes:
    """Set a general-purpose flag in every directory entry."""
    data, at = bytearray(archive), -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 8] |= flag
    return bytes(data)


def bars() -> dict[str, NDArray[np.uint8]]:
    """Real images that pack as well as a bomb does: 7,000 of a single bar."""
    images = np.zeros((7000, 28, 28), np.uint8)
    images[np.arange(7000), np.arange(7000) % 28] = 255
    return {"row": images}


def test_images_that_are_refused_as_a_bomb_are_read_without_compression() -> None:
    file = io.BytesIO()
    np.savez(file, images=bars()["row"], labels=np.repeat(["row"], 7000))
    assert read(file.getvalue()).counts == {"row": 7000}


def bomb() -> bytes:
    """A zip that unpacks to a thousand times its size."""
    return zipped({f"a/{i}.png": bytes(1 << 20) for i in range(20)})


def lying(archive: bytes) -> bytes:
    """The same archive, with entries that claim 10 bytes for each file."""
    data, at = bytearray(archive), -1
    while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
        data[at + 24 : at + 28] = struct.pack("<I", 10)
    return bytes(data)


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims this size, and which has no pixels."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    return b"\x89PNG\r\n\x1a\n" + chunk


def two_headers() -> bytes:
    """A PNG with two headers: 28x28, and then 60,000x60,000."""
    return png_of(28, 28) + png_of(60_000, 60_000)[8:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(kind: bytes, content: bytes) -> bytes:
    """A good PNG with one chunk more, after its header."""
    return with_chunks((kind, content))


def with_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    whole = png(BLANK[0])
    return whole[:33] + b"".join(chunk(kind, content) for kind, content in chunks) + whole[33:]


def packed_text(text: bytes) -> bytes:
    """What a chunk zTXt has in it."""
    return b"a\0\0" + zlib.compress(text)


def rebuilt(rows: int = 28, filter_type: int = 0, adler: int = 0) -> bytes:
    """A PNG of 28x28 grey pixels with so many rows, and right checksums of every chunk."""
    packed = bytearray(zlib.compress((bytes([filter_type]) + bytes(28)) * rows))
    packed[-1] ^= adler
    return png_of(28, 28) + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND", b"")


def overlapping() -> bytes:
    """A zip whose second directory entry points at the bytes of the first."""
    data = bytearray(zipped({"a/0.png": png(BLANK[0]), "a/1.png": png(BLANK[0])}, zipfile.ZIP_STORED))
    first, second = data.find(b"PK\x01\x02"), data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)


def png_in_folders(data: bytes) -> bytes:
    return folders(**{"ring/bad.png": data})


BAD = [
    ("nothing", b"", "empty_file", "the body is empty"),
    ("noise", bytes(range(99, 256)), "invalid_archive", "unknown format, and neither"),
    ("CSV", b"\xef\xbb\xbflabel;pixel0\r\n", "invalid_archive", "is text, and neither an npz"),
    ("a tar archive packed with gzip", gzip.compress(b"x"), "invalid_archive", "is packed with gzip, and"),
    ("a tar archive", bytes(257) + b"ustar" + bytes(250), "invalid_archive", "is a tar archive, and"),
    ("a 7z archive", b"7z\xbc\xaf\x27\x1c", "invalid_archive", "is a 7z archive, and"),
    ("an array alone", npy(header("(5, 784)"), bytes(3920)), "invalid_archive", "is a single array of"),
    ("an IDX file", bytes([0, 0, 8, 3, 0, 0, 0, 5]), "invalid_archive", "is an IDX file of images, and"),
    ("a BMP", b"BM\x36\x0c" + bytes(8), "invalid_archive", "is BMP, and"),
    ("CSV of body mass", b"BMI,label\n19,a\n", "invalid_archive", "is text, and neither an npz"),
    ("WebP", b"RIFF\x24\0\0\0WEBPVP8 ", "invalid_archive", "is WebP, and"),
    ("a sound", b"RIFF\x24\0\0\0WAVEfmt ", "invalid_archive", "unknown format, and neither"),
    ("HEIF", b"\0\0\0\x18ftypheic", "invalid_archive", "is HEIF, AVIF or a video, and"),
    ("zeros", bytes(500), "invalid_archive", "unknown format, and neither"),
    ("CSV in a zip", zipped({"train.csv": b"x"}), "too_few_images", "'train.csv' is not read; save"),
    ("IDX in a zip", zipped({"train-images-idx3-ubyte": b"x"}), "invalid_path", "as an npz (numpy.savez)"),
    ("no bytes in a picture", png_in_folders(b""), "invalid_image", "is not a PNG or JPEG: it is empty"),
    ("zeros in a picture", png_in_folders(bytes(500)), "invalid_image", "is neither; save it as PNG"),
    ("a PNG with other line ends", png_in_folders(png(BLANK[0]).replace(b"\r\n", b"\n")), "corrupt_image",
     "such as by a conversion of line ends"),
    ("a page of an error", png_in_folders(b"<!DOCTYPE html>"), "invalid_image", "it is HTML, XML or SVG"),
    ("a pickle", pickle.dumps(Trap()), "unsafe_serialization", "is pickled"),
    ("half an archive", as_npz(doodles())[:-30], "corrupt_archive", "damaged"),
    ("an empty zip", zipped({}), "too_few_images", "no image"),
    ("a password", flagged(as_folders(doodles()), 1), "encrypted_archive", "encrypted"),
    ("bzip2", zipped(pngs(doodles()), zipfile.ZIP_BZIP2), "invalid_archive", "other than deflate"),
    ("lzma", zipped(pngs(doodles()), zipfile.ZIP_LZMA), "invalid_archive", "other than deflate"),
    ("a bomb", bomb(), "archive_bomb", "unpacks to 20,971,520 bytes, more than 200"),
    ("thin bars", as_npz(bars()), "archive_bomb", "save it without compression: numpy.savez, not"),
    ("a bomb that lies", lying(bomb()), "corrupt_archive", "damaged"),
    ("a path out", renamed("../0.png"), "invalid_path", "not a plain path"),
    ("a longer path out", renamed("a/../../0.png"), "invalid_path", "not a plain path"),
    ("an absolute path", renamed("/etc/0.png"), "invalid_path", "not a plain path"),
    ("a path of Windows", renamed("C:\\a\\0.png"), "invalid_path", "not a plain path"),
    ("a link", link(), "invalid_path", "is a link"),
    ("too many files", ZIP_ENTRY * (MAX_FILES + 1), "archive_too_many_entries", "send an npz instead"),
    ("a file twice", twice(), "duplicate_entry", "twice"),
    ("no folder", renamed("0.png"), "invalid_path", "LABEL/NAME.png"),
    ("folders in folders", renamed("a/b/0.png"), "invalid_path", "LABEL/NAME.png"),
    ("an endless label", renamed("a" * 65 + "/0.png"), "invalid_name", "cannot be the name"),
    ("a label with a line break", renamed("a\nb/0.png"), "invalid_name", "cannot be the name"),
    ("too few of a label", renamed("cross/0.png"), "too_few_images", "'cross' has 1 images"),
    ("no PNG", png_in_folders(b"GIF89a"), "invalid_image", "not a PNG"),
    ("a cut PNG", png_in_folders(png(BLANK[0])[:40]), "corrupt_image", "damaged"),
    ("a large PNG", png_in_folders(png_of(60_000, 60_000)), "image_too_large", "60000x60000; make it 28x28"),
    ("a PNG with two headers", png_in_folders(two_headers()), "corrupt_image", "damaged|is a"),
    ("no labels", npz(images=BLANK), "invalid_array", "it contains: 'images'"),
    ("floats of a normalisation", npz(images=doodles(each=5)["bar"] / 99 - 1.3, labels=FIVE), "wrong_range",
     "undo what normalised them"),
    ("signed bytes", npz(images=doodles(each=5)["bar"].astype(np.int8), labels=FIVE),
     "wrong_range", "from -128"),
    ("five channels", npz(images=np.zeros((5, 28, 28, 5), np.uint8), labels=FIVE),
     "invalid_array", "28, 28, 5"),
    ("complex numbers", npz(images=MARKED.astype(complex), labels=FIVE), "wrong_type", "not complex128"),
    ("32x32", npz(images=np.zeros((5, 32, 32), np.uint8), labels=FIVE), "invalid_array", "[5, 32, 32]"),
    ("one image alone", npz(images=BLANK[0], labels=FIVE), "invalid_array", "[28, 28]"),
    ("a number", npz(images=np.uint8(3), labels=FIVE), "invalid_array", "not uint8 of []"),
    ("too few labels", npz(images=BLANK, labels=FIVE[:4]), "length_mismatch", "[5], one label for each"),
    ("two labels an image", npz(images=BLANK, labels=np.ones((5, 5))), "length_mismatch", "not [5, 5]"),
    ("labels of fractions", npz(images=BLANK, labels=np.full(5, 0.5)), "wrong_type", "no whole numbers"),
    ("labels as booleans", npz(images=BLANK, labels=np.ones(5, bool)), "wrong_type", "not bool"),
    ("labels as Latin-1", npz(images=BLANK, labels=np.array([b"\xe9"] * 5)),
     "invalid_name", "not valid Unicode"),
    ("empty labels", npz(images=BLANK, labels=np.array([""] * 5)), "invalid_name", "'' cannot be the name"),
    ("a label with a slash", npz(images=BLANK, labels=["a/b"] * 5), "invalid_name", "'a/b' cannot be"),
    ("a label of dots", npz(images=BLANK, labels=[".."] * 5), "invalid_name", "'..' cannot be the name"),
    ("half a character", npz(images=BLANK, labels=["\ud800"] * 5), "invalid_name", "not valid Unicode"),
    ("no images", npz(images=BLANK[:0], labels=np.array([], "U1")), "too_few_images", "no image"),
    ("four images", npz(images=BLANK[:4], labels=FIVE[:4]), "too_few_images", "needs at least 5"),
    ("201 labels", npz(images=np.zeros((201, 784), np.uint8), labels=np.arange(201)), "too_many_labels", "2"),
    ("objects", npz(images=np.array([Trap()], dtype=object), labels=FIVE), "wrong_type", "|O"),
    ("labels as objects", npz(images=BLANK, labels=np.array([Trap()] * 5)), "wrong_type", "|O"),
    ("a malformed header", arrays(npy("{'descr'")), "invalid_array", "not an array"),
    ("a header of code", arrays(npy("__import__('os').mkdir('executed')\n")), "invalid_array", "not an"),
    ("no header", arrays(b"\x93NUM"), "invalid_array", "fewer bytes"),
    ("a header of version 9", arrays(npy(header("(5, 784)"), version=(9, 0))), "invalid_array", "not an"),
    ("an endless header", arrays(npy("#" * 60_000)), "invalid_array", "not an array"),
    ("a claim of a petabyte", arrays(npy(header("(10**15,)"))), "invalid_array", "not an array"),
    ("a claim of a terabyte", arrays(npy(header("(1000000000000, 784)"))), "array_too_large", "claims"),
    ("a negative claim", arrays(npy(header("(-5, -784)"), bytes(3920))), "invalid_array", "not an array"),
    ("a structure", arrays(npy(header("(5,)", "[('a', '|u1', 784)]"), bytes(3920))), "invalid_array", "not"),
    ("a header of minus signs", arrays(npy("-" * 6000)), "invalid_array", "not an array"),
    ("labels that are no characters", arrays_with(labels=npy(header("(5,)", "'<U1'"), b"\xff" * 20)),
     "invalid_name", "not valid Unicode"),
    ("pixels that are no numbers", npz(images=np.full((5, 28, 28), np.nan), labels=FIVE), "non_finite_values",
     "no numbers"),
    ("endless labels", npz(images=BLANK, labels=["a" * 2000] * 5), "invalid_name", "1024 characters"),
    ("a zip in a zip", folders(**{"ring/more.zip": b"PK"}), "nested_archive", "is an archive"),
    ("weights", folders(**{"archive/data.pkl": b"\x80\x02"}), "unsafe_serialization", "pickled"),
    ("two files in the same bytes", overlapping(), "archive_bomb", "shares its bytes"),
    ("a PNG without its last rows", png_in_folders(rebuilt(rows=3)), "corrupt_image", "damaged"),
    ("a PNG with a row too many", png_in_folders(rebuilt(rows=29)), "corrupt_image", "damaged"),
    ("a PNG with another filter", png_in_folders(rebuilt(filter_type=5)), "corrupt_image", "damaged"),
    ("a PNG with a wrong checksum", png_in_folders(rebuilt(adler=1)), "corrupt_image", "damaged"),
    ("a PNG with a bomb", png_in_folders(with_chunk(b"zTXt", packed_text(bytes(1 << 22)))),
     "image_too_large", "more than 65,536 bytes"),
    ("a PNG of many texts", png_in_folders(with_chunks(*[(b"zTXt", packed_text(bytes(9_000)))] * 8)),
     "image_too_large", "more than 65,536 bytes"),
    ("an animated PNG", png_in_folders(with_chunk(b"acTL", bytes(8))), "unsupported_image_mode", "animated"),
    ("a PNG with an unknown part", png_in_folders(with_chunk(b"ABCD", b"")), "corrupt_image", "damaged"),
    ("half a JPEG", png_in_folders(b"\xff\xd8\xff\xe0" + bytes(99)), "corrupt_image", "damaged"),
    ("a cut directory", as_folders(doodles())[:-60], "corrupt_archive", "damaged"),
    ("more than it says", arrays(npy(header("(5, 784)"), bytes(3921))), "invalid_array", "fewer or more"),
]  # fmt: skip


@pytest.mark.parametrize(("archive", "code", "words"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_bad_archive_is_refused_with_the_reason(
    archive: bytes, code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidUpload) as refused:
        read(archive, max_bytes=ROOM)
    assert refused.value.code == code, refused.value
    assert any(word in str(refused.value) for word in words.split("|")), refused.value
    assert len(str(refused.value)) < 500
    assert list(tmp_path.iterdir()) == [], "nothing was executed or unpacked"


def test_a_file_that_unpacks_to_more_than_it_says_is_not_unpacked_whole() -> None:
    archive = lying(zipped({"a/0.png": bytes(64 << 20)}))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidUpload, match="damaged"):
            read(archive, max_bytes=ROOM)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20


def test_a_picture_may_have_texts_of_some_size() -> None:
    upload = read(png_in_folders(with_chunks(*[(b"zTXt", packed_text(bytes(8_192)))] * 8)), max_bytes=ROOM)
    assert upload.counts["ring"] == len(doodles()["ring"]) + 1


def test_an_archive_of_too_many_files_is_refused_before_it_is_opened() -> None:
    with pytest.raises(InvalidUpload, match="more than 100,000 files"):
        read(b"PK\x01\x02" * 100_001, max_bytes=ROOM)


def test_as_many_labels_and_as_few_images_as_allowed_are_accepted() -> None:
    count = MIN_IMAGES_PER_LABEL * MAX_LABELS
    labels = np.repeat(np.arange(MAX_LABELS), MIN_IMAGES_PER_LABEL)
    archive = npz(images=np.repeat(MARKED[:1], count, 0), labels=labels)
    assert set(read(archive, max_bytes=ROOM).counts.values()) == {MIN_IMAGES_PER_LABEL}


@pytest.mark.parametrize("make", [as_npz, as_folders])
def test_a_damaged_archive_is_read_or_refused_whatever_the_damage(make: MakeArchive) -> None:
    """Bytes are changed, cut out and repeated at random; no other exception is ever raised."""
    chance, whole = random.Random(0), make(doodles())
    outcomes = {"read": 0, "refused": 0}
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 30)]
                case _:
                    data[at:at] = data[at : at + 20]
        try:
            read(bytes(data), max_bytes=ROOM)
            outcomes["read"] += 1
        except InvalidUpload:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0, outcomes


IMAGES = doodles(each=5)["bar"]
ARRAY = npy(header("(5, 784)"), IMAGES.tobytes())
PICTURE = png(IMAGES[0])


@pytest.mark.parametrize(
    ("whole", "damaged_bytes", "pack"),
    [(ARRAY, len(ARRAY) - IMAGES.size, arrays), (PICTURE, len(PICTURE), png_in_folders)],
    ids=["the header of an array", "a PNG"],
)
def test_damage_inside_an_intact_zip_is_refused_or_changes_no_pixel(
    whole: bytes, damaged_bytes: int, pack: Callable[[bytes], bytes]
) -> None:
    chance, intact = random.Random(1), read(pack(whole), max_bytes=ROOM)
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(damaged_bytes)] = chance.randrange(256)
        try:
            upload = read(pack(bytes(data)), max_bytes=ROOM)
        except InvalidUpload:
            refused += 1
        else:
            assert (upload.counts, upload.pixels) == (intact.counts, intact.pixels)
    assert refused > 460, "most damage is noticed"
