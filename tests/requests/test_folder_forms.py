"""Folders of pictures in the forms that people have are read as the same images, and the upload says how."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.requests.invalid_upload import InvalidUpload
from service.requests.pictures import MAX_SCANS
from tests.requests.archives import drawings, png, pngs, zipped
from tests.requests.reading import Read, read

DRAWINGS = drawings()
PATHS = pngs(DRAWINGS)
PLAIN = read(zipped(PATHS))

Form = Callable[[Mapping[str, bytes]], bytes]


def codes(upload: Read) -> set[str]:
    return {note.code for note in upload.conversions}


def renamed(rename: Callable[[str], str], **more: bytes) -> bytes:
    return zipped({rename(path): data for path, data in PATHS.items()} | more)


def without_utf_8_flag(archive: bytes) -> bytes:
    """The archive as Info-ZIP on Linux writes it: UTF-8 names, without the flag that says so."""
    data = bytearray(archive)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(magic, at + 1)) >= 0:
            (flags,) = struct.unpack_from("<H", data, at + offset)
            struct.pack_into("<H", data, at + offset, flags & ~0x800)
    return bytes(data)


def with_folder_entries() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("digits\\", b"")
        for path, data in PATHS.items():
            archive.writestr(f"digits\\{path}".replace("/", "\\"), data)
    return file.getvalue()


JUNK = {
    "__MACOSX/0/._1.png": b"x", "__MACOSX/._0": b"x", "0/.DS_Store": b"x", "0/Thumbs.db": b"x",
    "desktop.ini": b"x",
    "0/._000.png": b"x", "@eaDir/0/000.png": b"x", ".git/objects.zip": b"x", "$RECYCLE.BIN/a.pkl": b"x",
}  # fmt: skip

SAME: list[tuple[str, str | None, bytes]] = [
    ("the documented form", None, zipped(PATHS)),
    ("a folder around", "folders_around_ignored", renamed(lambda path: f"digits/{path}")),
    ("folders around", "folders_around_ignored", renamed(lambda path: f"my data/digits v2/{path}")),
    ("dots in front", None, renamed(lambda path: f"./{path}")),
    ("backslashes", "backslashes_replaced", renamed(lambda path: path.replace("/", "\\"))),
    ("folders of Windows", "folders_around_ignored", with_folder_entries()),
    ("capitals", None, renamed(lambda path: path.replace(".png", ".PNG"))),
    ("only a part to learn from", "folders_around_ignored", renamed(lambda path: f"train/{path}")),
    ("left behind", "hidden_files_ignored", zipped(PATHS | JUNK)),
    ("a hidden folder", "hidden_files_ignored",
     zipped({f".ipynb_checkpoints/{i}.png": png(DRAWINGS["0"][i]) for i in range(6)} | PATHS)),
    ("documents", "documents_ignored",
     zipped(PATHS | {"README.md": b"x", "LICENSE": b"x", "0/labels.csv": b"x", "meta.json": b"{}"})),
]  # fmt: skip


@pytest.mark.parametrize(("code", "archive"), [each[1:] for each in SAME], ids=[each[0] for each in SAME])
def test_another_arrangement_gives_the_same_upload_and_says_how_it_was_read(
    code: str | None, archive: bytes
) -> None:
    upload = read(archive)
    assert (upload.counts, upload.sha256, upload.held_out) == (PLAIN.counts, PLAIN.sha256, None)
    assert codes(upload) >= ({code} if code else set())
    assert bool(upload.conversions) == (code is not None)


@pytest.mark.parametrize(
    ("first", "second"), [("é", "zéro"), ("あ", "い"), ("ноль", "один")], ids=["Latin", "Kana", "Cyrillic"]
)
def test_names_in_utf_8_without_the_flag_are_those_of_the_folders(first: str, second: str) -> None:
    flagged = renamed(lambda path: path.replace("0/", f"{first}/").replace("1/", f"{second}/"))
    upload = read(without_utf_8_flag(flagged))
    assert upload.counts == {first: 6, second: 6} == read(flagged).counts
    assert codes(upload) == {"names_decoded"}


def in_code_page(code_page: str, *labels: str) -> bytes:
    """The pictures in folders of these names, as a program writes them that knows this code page alone."""
    raw = [label.encode(code_page) for label in labels]
    stand_ins = [f"{i}".rjust(len(name), "_") for i, name in enumerate(raw)]
    archive = renamed(lambda path: f"{stand_ins[int(path[0])]}/{path[2:]}")
    for stand_in, name in zip(stand_ins, raw, strict=True):
        archive = archive.replace(stand_in.encode() + b"/", name + b"/")
    return archive


@pytest.mark.parametrize(
    ("code_page", "labels"),
    [
        ("cp932", ("さくら", "うめ")),
        ("cp932", ("あ", "い")),  # as éá, éó in code page 437
        ("cp932", ("ソa", "ソb")),  # their bytes have backslashes: â\a, â\b
        ("big5", ("二", "三")),
        ("cp852", ("ryś", "łoś")),
        ("cp850", ("Äpfel", "grün")),
        ("gbk", ("猫猫", "鸟鸟")),
        ("cp866", ("кошка", "собака")),
        ("cp1252", ("Äpfel", "grün")),
    ],
)
def test_labels_in_a_code_page_are_refused_with_what_to_do(code_page: str, labels: tuple[str, str]) -> None:
    with pytest.raises(InvalidUpload, match="in an unknown code page, of which 437 makes") as refused:
        read(in_code_page(code_page, *labels))
    assert refused.value.code == "invalid_name"


@pytest.mark.parametrize("code_page", ["cp932", "cp1252", "utf-8"])
def test_names_in_utf_8_beside_those_in_a_code_page_are_read(code_page: str) -> None:
    """As Info-ZIP and WinZip write them on Windows."""
    labels = ("Äpfel", "grün") if code_page == "cp1252" else ("猫", "あ")
    raw = [label.encode(code_page) for label in labels]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in PATHS.items():
            index = int(path[0])
            stand_in = zipfile.ZipInfo(f"{index}".rjust(len(raw[index]), "_") + path[1:])
            name = f"{labels[index]}{path[1:]}".encode()
            crc = zlib.crc32(raw[index] + path[1:].encode())
            stand_in.extra = struct.pack("<HH2sHHBI", 0xCAFE, 2, b"xx", 0x7075, 5 + len(name), 1, crc) + name
            archive.writestr(stand_in, data)
    packed = file.getvalue()
    for index, name in enumerate(raw):
        packed = packed.replace(f"{index}".rjust(len(name), "_").encode() + b"/", name + b"/")
    upload = read(packed)
    assert upload.counts == dict.fromkeys(sorted(labels), 6)
    assert upload.images[labels[0]].tolist() == PLAIN.images["0"].tolist()
    assert not upload.conversions


@pytest.mark.parametrize("place", ["{path}__.png", "__/{path}"], ids=["files", "a folder around"])
def test_what_is_no_label_may_have_a_name_in_any_code_page(place: str) -> None:
    archive = renamed(lambda path: place.format(path=path)).replace(b"__", "猫".encode("cp932"))
    assert read(archive).sha256 == PLAIN.sha256


def test_names_as_macos_decomposes_them_are_composed() -> None:
    upload = read(renamed(lambda path: path.replace("0/", "e\u0301/")))
    assert list(upload.counts) == ["1", "é"]
    assert codes(upload) == {"names_composed"}


SPLITS: list[tuple[str, Callable[[str, str], str]]] = [
    ("part, label", lambda part, path: f"{part}/{path}"),
    ("a folder around", lambda part, path: f"digits/{part}/{path}"),
    ("capitals", lambda part, path: f"{part.capitalize()}/{path}"),
    ("other names", lambda part, path: f"{'training' if part == 'train' else 'valid'}/{path}"),
    ("sets", lambda part, path: f"{'training_set' if part == 'train' else 'Test Images'}/{path}"),
    ("camel case", lambda part, path: f"{'trainingSet' if part == 'train' else 'TestImages'}/{path}"),
    ("label, part", lambda part, path: "/".join([path.split("/")[0], part, path.split("/")[1]])),
]


@pytest.mark.parametrize("place", [each[1] for each in SPLITS], ids=[each[0] for each in SPLITS])
@pytest.mark.parametrize("labels", [("0",), ("0", "1")], ids=["one label", "two labels"])
def test_the_split_of_an_archive_is_kept(place: Callable[[str, str], str], labels: tuple[str, ...]) -> None:
    train, test = drawings(each=7, labels=labels, seed=1), drawings(each=3, labels=labels, seed=2)
    files = {place("train", path): data for path, data in pngs(train).items()}
    files |= {place("test", path): data for path, data in pngs(test).items()}
    upload = read(zipped(files))
    assert upload.held_out == dict.fromkeys(labels, 3)
    for label in labels:
        assert upload.images[label][:7].tolist() == train[label].reshape(7, 784).tolist()
        assert upload.images[label][7:].tolist() == test[label].reshape(3, 784).tolist()
    assert "split_kept" in codes(upload)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_pictures(encode: Callable[[NDArray[np.uint8]], bytes], suffix: str = "png") -> bytes:
    return zipped({
        f"{label}/{i:03}.{suffix}": encode(image)
        for label, images in DRAWINGS.items()
        for i, image in enumerate(images)
    })  # fmt: skip


def sixteen_bits(image: NDArray[np.uint8]) -> bytes:
    return encoded(Image.fromarray(image.astype(np.uint16) * 257))


def with_palette(image: NDArray[np.uint8], **options: Any) -> bytes:
    """The same greys as indices into a palette that is the other way round."""
    picture = Image.fromarray(255 - image, "P")
    picture.putpalette([255 - value for value in range(256) for _ in range(3)])
    return encoded(picture, **options)


def turned(image: NDArray[np.uint8], kind: str = "PNG", **options: Any) -> bytes:
    """The picture lying on its side, with EXIF data that say so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(np.rot90(image).copy()), kind, exif=exif, **options)


PICTURES: list[tuple[str, str | None, bytes]] = [
    ("RGB", None, as_pictures(lambda image: png(image, "RGB"))),
    ("RGBA", "alpha_removed", as_pictures(lambda image: png(image, "RGBA"))),
    ("LA", "alpha_removed", as_pictures(lambda image: png(image, "LA"))),
    ("16 bits", "grey_from_16_bits", as_pictures(sixteen_bits)),
    ("palette", None, as_pictures(with_palette)),
    ("palette, all opaque", "alpha_removed",
     as_pictures(lambda image: with_palette(image, transparency=bytes([255])))),
    ("turned", "orientation_applied", as_pictures(turned)),
    ("PNG that is called JPEG", None, as_pictures(png, "jpg")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "archive"), [each[1:] for each in PICTURES], ids=[each[0] for each in PICTURES]
)
def test_pictures_of_another_kind_have_the_same_pixels(code: str | None, archive: bytes) -> None:
    upload = read(archive)
    assert {label: images.tolist() for label, images in upload.images.items()} == {
        label: images.tolist() for label, images in PLAIN.images.items()
    }
    assert codes(upload) == ({code} if code else set())


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_jpegs_are_read_within_what_they_lost(mode: str, progressive: bool) -> None:
    def jpeg(image: NDArray[np.uint8]) -> bytes:
        return encoded(Image.fromarray(image).convert(mode), "JPEG", quality=95, progressive=progressive)

    upload = read(as_pictures(jpeg, "jpeg"))
    for label, images in PLAIN.images.items():
        assert np.abs(upload.images[label].astype(int) - images).mean() < 8
    assert "jpeg_decoded" in codes(upload)


def test_a_jpeg_that_lies_on_its_side_is_turned() -> None:
    corner = np.zeros((28, 28), np.uint8)
    corner[:8, :8] = 255
    upload = read(zipped({f"a/{i}.jpg": turned(corner, "JPEG", quality=95) for i in range(5)}))
    assert upload.images["a"][0].reshape(28, 28)[2:6, 2:6].min() > 200
    assert codes(upload) == {"jpeg_decoded", "orientation_applied"}


def test_what_is_transparent_in_a_picture_is_put_on_black() -> None:
    picture = np.full((28, 28, 4), 255, np.uint8)
    picture[10:, :, 3] = 0
    upload = read(zipped({f"a/{i}.png": encoded(Image.fromarray(picture)) for i in range(5)}))
    assert upload.images["a"][0].reshape(28, 28)[:, 0].tolist() == [255] * 10 + [0] * 18
    assert "transparency_on_black" in codes(upload)


def half_transparent(depth: int, channels: int) -> bytes:
    """A PNG of 28x28 pixels of so many bits: two columns in turn, one of which its header makes transparent.

    The other is as dark as it can be without being black; with 1 bit it is black.
    """
    bright, dark = 3 * 2**depth // 4, 0 if depth == 1 else 1
    row = "".join(f"{value:0{depth}b}" * channels for value in (bright, dark)) * 14
    row += "0" * (-len(row) % 8)
    packed = zlib.compress((b"\0" + int(row, 2).to_bytes(len(row) // 8, "big")) * 28)
    header = struct.pack(">IIBBBBB", 28, 28, depth, {1: 0, 3: 2}[channels], 0, 0, 0)
    transparent = struct.pack(">H", bright) * channels
    chunks = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize(
    ("depth", "channels", "other"),
    [(1, 1, 0), (2, 1, 85), (4, 1, 17), (8, 1, 1), (16, 1, 0), (8, 3, 1), (16, 3, 0)],
)
def test_a_transparent_grey_or_colour_of_any_depth_is_put_on_black(
    depth: int, channels: int, other: int
) -> None:
    pictures = {f"a/{i}.png": half_transparent(depth, channels) for i in range(5)}
    upload = read(zipped(PATHS | pictures))
    assert set(upload.images["a"][0].tolist()) == {0, other}
    assert "transparency_on_black" in codes(upload)


def test_pictures_of_mixed_sizes_are_scaled_where_that_is_requested() -> None:
    shapes = [(28, 28), (56, 56), (64, 32), (8, 8), (1, 900)]
    files = {
        f"a/{i}.png": encoded(Image.fromarray(np.full(shape, 200, np.uint8)))
        for i, shape in enumerate(shapes)
    }
    files["a/9.png"] = encoded(Image.fromarray(np.kron(DRAWINGS["0"][0], np.ones((2, 2), np.uint8))))
    with pytest.raises(
        InvalidUpload, match=r"'a/1.png' is 56x56; make it 28x28, or have it scaled with \?fit=28"
    ):
        read(zipped(files))
    upload = read(zipped(files), fitting=True)
    assert upload.counts == {"a": 6}
    assert (upload.images["a"][:5] == 200).all(), "what is beside an image has the brightness of its border"
    assert np.abs(upload.images["a"][5].astype(int) - PLAIN.images["0"][0]).mean() < 12
    assert [note.detail[:2] for note in upload.conversions if note.code == "fitted"] == ["5 "]


def test_pictures_of_more_pixels_than_an_upload_may_have_are_not_scaled() -> None:
    large = encoded(Image.new("L", (900, 900)))
    with pytest.raises(InvalidUpload, match="more pixels together"):
        read(zipped(PATHS | {f"0/{i}.png": large for i in range(5)}), max_bytes=4 * 900 * 900, fitting=True)


REFUSED: list[tuple[str, str, str, dict[str, bytes]]] = [
    ("a GIF", "invalid_image", "save it as PNG", {"0/a.gif": b"GIF89a"}),
    ("a GIF that is called PNG", "invalid_image", "is GIF; save it as PNG", {"0/a.png": b"GIF89a"}),
    ("WebP", "invalid_image", "save it as PNG", {"0/a.webp": b"RIFF"}),
    ("an unknown file", "invalid_path", "LABEL/NAME.png", {"0/a.dat": b"x"}),
    ("a picture beside the folders", "invalid_path", "LABEL/NAME.png", {"a.png": PATHS["0/000.png"]}),
    ("folders of two depths", "invalid_path", "train/LABEL/NAME.png", {"0/more/a.png": PATHS["0/000.png"]}),
    ("a split for some", "invalid_path", "no part of the split", {"test/0/a.png": PATHS["0/000.png"]}),
    ("CMYK", "unsupported_image_mode", "grey PNG",
     {"0/a.jpg": encoded(Image.new("CMYK", (28, 28)), "JPEG")}),
    ("half a JPEG", "corrupt_image", "'0/a.jpg' is damaged",
     {"0/a.jpg": encoded(Image.fromarray(DRAWINGS["0"][0]), "JPEG")[:-80]}),
    ("a JPEG of many scans", "image_too_large", "scans",
     {"0/a.jpg": encoded(Image.fromarray(DRAWINGS["0"][0]), "JPEG") + b"\xff\xda" * MAX_SCANS}),
    ("a large JPEG", "image_too_large", "5000x10; make it 28x28",
     {"0/a.jpg": encoded(Image.new("L", (5000, 10)), "JPEG")}),
    ("two forms of a name", "invalid_name", "merge them",
     {"é/a.png": PATHS["0/000.png"], "e\u0301/a.png": PATHS["0/000.png"]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "words", "more"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED]
)
def test_what_is_not_clear_is_refused_with_what_to_do(code: str, words: str, more: dict[str, bytes]) -> None:
    with pytest.raises(InvalidUpload) as refused:
        read(zipped(PATHS | more))
    assert (refused.value.code, words in str(refused.value)) == (code, True), refused.value


def in_folders(*folders: str, **documents: bytes) -> bytes:
    """Six pictures in each of these folders, and documents."""
    pictures = [png(one) for one in drawings(each=6 * len(folders), labels=("a",))["a"]]
    files = {f"{folder}/{i}.png": pictures.pop() for folder in folders for i in range(6)}
    return zipped(files | documents)


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (in_folders("images"), "are in 'images', which says nothing of their labels; labels are the names"),
        (in_folders("images", **{"labels.csv": b"x"}), "labels; 'labels.csv' is not read, and labels"),
        (in_folders("data/raw", **{"data/labels.txt": b"x"}), "in 'raw', .* 'data/labels.txt' is not read"),
        (in_folders("train/images", "test/images", **{"train.csv": b"x"}), "in 'images', .*'train.csv'"),
        (in_folders("train/images", "test/images"), "are in 'images', which says nothing"),
        (in_folders("images_001", "images_002", **{"labels.csv": b"x"}), "'images_001', 'images_002', which"),
        (in_folders("All Images"), "are in 'All Images', which"),
        (in_folders("data/train", "data/test"), "are in 'data', which"),
        (in_folders("photo"), "or give the folders other names if each is a label"),
        (in_folders("mnist", **{"labels.json": b"x"}),
         "have the label 'mnist'; 'labels.json' is not read, .*leave that file out if the label is right"),
    ],
)  # fmt: skip
def test_folders_that_are_not_named_after_labels_are_refused(archive: bytes, words: str) -> None:
    with pytest.raises(InvalidUpload, match=words) as refused:
        read(archive)
    assert refused.value.code == "invalid_path"
    assert "sort the pictures into LABEL/NAME.png" in str(refused.value)


def test_names_of_parts_are_no_labels_beside_a_table_of_labels() -> None:
    """`train` beside `extra` may be two labels; a table says that neither is one."""
    with pytest.raises(InvalidUpload, match="in no label: 'train' is read as a part of a split"):
        read(in_folders("train", "extra", **{"labels.csv": b"x"}))


@pytest.mark.parametrize(
    ("archive", "labels"),
    [
        (in_folders("cat", **{"README.md": b"x"}), ["cat"]),
        (in_folders("cat", **{"metadata.json": b"x"}), ["cat"]),
        (in_folders("cat", **{"class_photo_rights.md": b"x"}), ["cat"]),
        (in_folders("Sample001", "Sample002", **{"dataset-metadata.json": b"x"}), ["Sample001", "Sample002"]),
        (in_folders("images", "cat"), ["cat", "images"]),
        (in_folders("data1", "data2"), ["data1", "data2"]),
        (in_folders("0", "1", **{"labels.csv": b"x"}), ["0", "1"]),
        (in_folders("train/x", "test/x", "train/image", "test/image"), ["image", "x"]),
    ],
)
def test_folders_that_may_be_named_after_labels_are_read(archive: bytes, labels: list[str]) -> None:
    assert list(read(archive).counts) == labels


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["plane", "train", "car"], ["car", "plane", "train"]),
        (["letters/te", "letters/tr", "letters/de"], ["de", "te", "tr"]),
        (["train/te", "train/tr", "train/de"], ["de", "te", "tr"]),
        (["Dev", "Val", "Ops"], ["Dev", "Ops", "Val"]),
    ],
)
def test_names_of_parts_are_labels_beside_folders_that_are_no_parts(
    folders: list[str], labels: list[str]
) -> None:
    upload = read(in_folders(*folders))
    assert (list(upload.counts), upload.held_out) == (labels, None)
    assert [note.detail for note in upload.conversions if note.code == "parts_as_labels"]


@pytest.mark.parametrize("order", ["{part}/{label}", "{label}/{part}"])
@pytest.mark.parametrize("labels", [["plane", "train"], ["de", "te", "tr"], ["test", "zero"]])
def test_names_of_parts_are_labels_within_a_split(order: str, labels: list[str]) -> None:
    folders = [order.format(part=part, label=label) for part in ("train", "test") for label in labels]
    upload = read(in_folders(*folders))
    assert upload.counts == dict.fromkeys(labels, 12)
    assert upload.held_out == dict.fromkeys(labels, 6)


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (
            ["0", "1", "test"],
            "'test/0.png' is in no label: 'test' is read as a part of a split; .*another name",
        ),
        (["tr", "te"], "'te/0.png' is in no label: 'te' is read as a part of a split; .*another name"),
        (["train/tr", "train/te"], "'train/te/0.png' is in no label: 'te', 'train' are read as a part"),
    ],
)
def test_names_that_may_only_be_parts_are_refused_as_that(folders: list[str], words: str) -> None:
    with pytest.raises(InvalidUpload, match=words):
        read(in_folders(*folders))


@pytest.mark.parametrize(
    ("folders", "words"),
    [(["train", "test"], "train/LABEL/NAME.png"), (["test/0", "test/1", "val/0"], "never learned from")],
    ids=["parts without labels", "test pictures only"],
)
def test_an_archive_without_labels_or_without_pictures_to_learn_from_is_refused(
    folders: list[str], words: str
) -> None:
    with pytest.raises(InvalidUpload, match=words):
        read(zipped({f"{folder}/{i}.png": PATHS["0/000.png"] for folder in folders for i in range(6)}))


@pytest.mark.parametrize("around", ["test", "digits/Test Images", "test/images", "validation"])
def test_a_folder_of_test_pictures_around_all_is_not_learned_from(around: str) -> None:
    with pytest.raises(
        InvalidUpload, match=r"to test with, .* never learned from; .*another name"
    ) as refused:
        read(renamed(lambda path: f"{around}/{path}"))
    assert refused.value.code == "too_few_images"


@pytest.mark.parametrize("around", ["test/digits", "my tests", "testing/mnist_test"])
def test_a_folder_around_all_may_have_a_name_like_test(around: str) -> None:
    assert read(renamed(lambda path: f"{around}/{path}")).sha256 == PLAIN.sha256


def test_a_folder_called_test_may_have_a_split_in_it() -> None:
    upload = read(in_folders("test/train/a", "test/test/a"))
    assert (upload.counts, upload.held_out) == ({"a": 12}, {"a": 6})


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (in_folders("images/cat", "images/dog", **{"train_test_split.txt": b"x"}), "'train_test_split.txt'"),
        (in_folders("cat", "dog", **{"meta/train.txt": b"", "meta/test.txt": b"x"}), "'meta/test.txt' seems"),
        (in_folders("cat", "dog", **{"splits/fold1.csv": b"x"}), "'splits/fold1.csv' seems to say which"),
        (in_folders("train_cat", "train_dog", "test_cat"), "the folder 'test_cat' seems to be a label and"),
        (in_folders("catTrain", "catTest"), "the folder 'catTest' seems to be a label and"),
        (in_folders("train 1", "val 1"), "the folder 'val 1' seems to be a label and"),
    ],
)  # fmt: skip
def test_a_split_that_is_not_read_is_refused(archive: bytes, words: str) -> None:
    """The test pictures would be learned from."""
    with pytest.raises(InvalidUpload, match=words) as refused:
        read(archive)
    assert refused.value.code == "invalid_path"
    assert "train/LABEL/NAME.png and test/LABEL/NAME.png" in str(refused.value)


@pytest.mark.parametrize(
    ("archive", "held_out"),
    [
        (in_folders("train/cat", "test/cat", **{"split.csv": b"x"}), {"cat": 6}),
        (in_folders("train_station", "test_tube"), None),
        (in_folders("test_cat", "dog"), None),
        (in_folders("cat", "dog", **{"testimonials.txt": b"x", "test.md": b"x", "train.csv": b"x"}), None),
    ],
)
def test_what_only_sounds_like_a_split_is_read(archive: bytes, held_out: dict[str, int] | None) -> None:
    assert read(archive).held_out == held_out


def test_a_transparent_drawing_of_black_ink_is_not_learned_as_black() -> None:
    picture = np.zeros((28, 28, 4), np.uint8)
    picture[5:9, 5:20, 3] = 255
    with pytest.raises(InvalidUpload, match="whether the ink was transparent"):
        read(zipped({f"a/{i}.png": encoded(Image.fromarray(picture)) for i in range(5)}))
