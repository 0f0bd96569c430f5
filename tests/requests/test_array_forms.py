"""Arrays in the forms that people have are read as the same images, and the upload says how."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.requests.invalid_upload import InvalidUpload
from tests.requests.archives import as_arrays, drawings, npz, zipped
from tests.requests.reading import Read, read

Form = Callable[[NDArray[np.uint8], NDArray[np.str_]], dict[str, NDArray[Any]]]

IMAGES, LABELS = as_arrays(drawings())
PLAIN = read(npz(images=IMAGES, labels=LABELS))


def codes(upload: Read) -> set[str]:
    return {note.code for note in upload.conversions}


def coloured(x: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """The same grey in three channels, and an alpha channel that hides nothing."""
    out = np.repeat(x[..., None], channels, axis=-1)
    if channels in (2, 4):
        out[..., -1] = 255
    return out


SAME: list[tuple[str, str | None, Form]] = [
    ("the documented form", None, lambda x, y: {"images": x, "labels": y}),
    ("flat", None, lambda x, y: {"images": x.reshape(-1, 784), "labels": y}),
    ("channel first", "axes_reshaped", lambda x, y: {"images": x[:, None], "labels": y}),
    ("channel last", "axes_reshaped", lambda x, y: {"images": x[..., None], "labels": y}),
    ("flat with a channel", "axes_reshaped", lambda x, y: {"images": x.reshape(-1, 1, 784), "labels": y}),
    ("a batch of one", "axes_reshaped", lambda x, y: {"images": x[None], "labels": y}),
    ("images last", "axes_moved", lambda x, y: {"images": np.moveaxis(x, 0, -1), "labels": y}),
    ("images last, saved", "axes_moved",
     lambda x, y: {"images": np.ascontiguousarray(np.moveaxis(x, 0, -1)), "labels": y}),
    ("flat columns", "axes_moved", lambda x, y: {"images": x.reshape(-1, 784).T, "labels": y}),
    ("Fortran order", None, lambda x, y: {"images": np.asfortranarray(x), "labels": y}),
    ("RGB", "axes_reshaped", lambda x, y: {"images": coloured(x, 3), "labels": y}),
    ("RGB first", "axes_reshaped", lambda x, y: {"images": np.moveaxis(coloured(x, 3), -1, 1), "labels": y}),
    ("RGBA", "alpha_removed", lambda x, y: {"images": coloured(x, 4), "labels": y}),
    ("grey and alpha", "alpha_removed", lambda x, y: {"images": coloured(x, 2), "labels": y}),
    ("int64", "integers_to_bytes", lambda x, y: {"images": x.astype(np.int64), "labels": y}),
    ("int16, big-endian", "integers_to_bytes", lambda x, y: {"images": x.astype(">i2"), "labels": y}),
    ("16 bits", "sixteen_bits_to_bytes", lambda x, y: {"images": x.astype(np.uint16) * 257, "labels": y}),
    ("floats 0 to 1", "floats_0_1_to_bytes", lambda x, y: {"images": x / np.float32(255), "labels": y}),
    ("half floats 0 to 1", "floats_0_1_to_bytes",
     lambda x, y: {"images": (x / 255).astype(np.float16), "labels": y}),
    ("floats -1 to 1", "floats_1_1_to_bytes", lambda x, y: {"images": x / 127.5 - 1, "labels": y}),
    ("floats 0 to 255", "floats_to_bytes", lambda x, y: {"images": x.astype(np.float64), "labels": y}),
    ("x and y", "arrays_by_name", lambda x, y: {"x": x, "y": y}),
    ("X and target", "arrays_by_name", lambda x, y: {"X": x, "target": y}),
    ("data and labels", "arrays_by_name", lambda x, y: {"data": x, "labels": y}),
    ("without names", "arrays_by_name", lambda x, y: {"arr_0": x, "arr_1": y}),
    ("labels first, without names", "arrays_by_name", lambda x, y: {"arr_0": y, "arr_1": x.reshape(-1, 784)}),
    ("folders of any name", "arrays_ignored",
     lambda x, y: {"x/images": x, "y/labels": y, "extra/ids": np.arange(len(x))}),
    ("more arrays", "arrays_ignored", lambda x, y: {"images": x, "labels": y, "seeds": np.arange(len(x))}),
    ("a largest value", "arrays_ignored", lambda x, y: {"images": x, "labels": y, "max_val": np.array(255)}),
    ("objects beside them", "arrays_ignored",
     lambda x, y: {"images": x, "labels": y, "meta": np.array([{}])}),
    ("a column of labels", "labels_flattened", lambda x, y: {"images": x, "labels": y[:, None]}),
    ("a row of labels", "labels_flattened", lambda x, y: {"images": x, "labels": y[None]}),
    ("labels as floats", "labels_to_integers", lambda x, y: {"images": x, "labels": y.astype(float)}),
    ("labels as half floats", "labels_to_integers",
     lambda x, y: {"images": x, "labels": y.astype(np.float16)}),
    ("labels as bytes", "labels_decoded", lambda x, y: {"images": x, "labels": y.astype("S")}),
    ("one-hot labels", "labels_from_one_hot", lambda x, y: {"images": x, "labels": np.eye(2)[y.astype(int)]}),
    ("one-hot booleans", "labels_from_one_hot",
     lambda x, y: {"images": x, "labels": np.eye(2, 3, dtype=bool)[y.astype(int)]}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "form"), [each[1:] for each in SAME], ids=[each[0] for each in SAME])
def test_another_form_gives_the_same_upload_and_says_how_it_was_read(code: str | None, form: Form) -> None:
    upload = read(npz(**form(IMAGES, LABELS)))
    found = {label: images.tolist() for label, images in upload.images.items()}
    expected = {label: images.tolist() for label, images in PLAIN.images.items()}
    if code == "floats_0_1_to_bytes" and form(IMAGES, LABELS)["images"].dtype == np.float16:
        assert np.abs(np.array(found["0"]) - expected["0"]).max() <= 1, "half floats have 11 bits"
    else:
        assert found == expected
    assert codes(upload) >= ({code} if code else set())
    assert bool(upload.conversions) == (code is not None)


def test_booleans_become_black_and_white() -> None:
    upload = read(npz(images=IMAGES > 99, labels=LABELS))
    assert upload.images["0"].tolist() == np.where(IMAGES[:6] > 99, 255, 0).reshape(6, 784).tolist()
    assert codes(upload) == {"booleans_to_bytes"}


def test_colours_become_grey_as_pillow_makes_them() -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (5, 28, 28, 3), np.uint8)
    upload = read(npz(images=colours, labels=["a"] * 5))
    expected = [np.asarray(Image.fromarray(one).convert("L")).reshape(-1).tolist() for one in colours]
    assert upload.images["a"].tolist() == expected
    assert "grey_from_colours" in codes(upload)


def test_what_is_transparent_is_put_on_black() -> None:
    images = np.full((5, 28, 28, 4), 255, np.uint8)
    images[:, :, 10:, 3] = 0
    images[:, :, 5:10, 3] = 51
    upload = read(npz(images=images, labels=["a"] * 5))
    row = upload.images["a"][0][:28].tolist()
    assert row == [255] * 5 + [51] * 5 + [0] * 18
    assert "transparency_on_black" in codes(upload)


SPLITS: list[tuple[str, tuple[str, str, str, str]]] = [
    ("Keras", ("x_train", "y_train", "x_test", "y_test")),
    ("capitals", ("X_train", "Y_train", "X_test", "Y_test")),
    ("images first", ("train_images", "train_labels", "test_images", "test_labels")),
    ("parts for images", ("train", "train_labels", "test", "test_labels")),
    ("part last", ("images_train", "labels_train", "images_val", "labels_val")),
    ("glued", ("xtrain", "ytrain", "xtest", "ytest")),
    ("camel case", ("trainX", "trainY", "testX", "testY")),
    ("folders", ("train/images", "train/labels", "test/images", "test/labels")),
    ("a folder called test", ("test/x_train", "test/y_train", "test/x_test", "test/y_test")),
    ("folders in a folder", ("all/train/x", "all/train/y", "all/test/x", "all/test/y")),
    ("folders that repeat the part", ("train/x_train", "train/y_train", "test/x_test", "test/y_test")),
    ("folders of sets", ("training_set/x", "training_set/y", "Test Set/x", "Test Set/y")),
    ("folders that repeat the rest", ("train_images/x", "train_labels/y", "test_images/x", "test_labels/y")),
    ("folders of images and labels", ("images/x_train", "labels/y_train", "images/x_test", "labels/y_test")),
    ("files of parts", ("images/train", "labels/train", "images/test", "labels/test")),
    ("only the test part is named", ("images", "labels", "test_images", "test_labels")),
]


@pytest.mark.parametrize("names", [each[1] for each in SPLITS], ids=[each[0] for each in SPLITS])
def test_the_split_of_a_file_is_kept(names: tuple[str, str, str, str]) -> None:
    train, test = drawings(each=7, seed=1), drawings(each=3, seed=2)
    x, y, tested_x, tested_y = names
    (images, labels), (tested, tested_labels) = as_arrays(train), as_arrays(test)
    upload = read(npz(**{tested_x: tested, tested_y: tested_labels, x: images, y: labels}))
    assert upload.held_out == {"0": 3, "1": 3}
    for label in ("0", "1"):
        assert upload.images[label][:7].tolist() == train[label].reshape(7, 784).tolist()
        assert upload.images[label][7:].tolist() == test[label].reshape(3, 784).tolist()
    assert "split_kept" in codes(upload)


def test_images_to_validate_with_are_held_out_as_those_to_test_with() -> None:
    parts = {part: as_arrays(drawings(each=5, seed=i)) for i, part in enumerate(("train", "val", "test"))}
    arrays = {
        f"{part}_{kind}": pair[i]
        for part, pair in parts.items()
        for i, kind in enumerate(("images", "labels"))
    }
    upload = read(npz(**arrays))
    assert (upload.counts, upload.held_out) == ({"0": 15, "1": 15}, {"0": 10, "1": 10})


def test_both_parts_of_a_split_are_scaled_alike() -> None:
    """The test images alone would look as if their values went from 0 to 100."""
    dark = np.zeros((4, 28, 28))
    dark[:, 5, 5] = 100
    upload = read(npz(x_train=IMAGES.astype(float), y_train=LABELS, x_test=dark, y_test=["0", "0", "1", "1"]))
    assert upload.images["0"][6:].max() == 100


Change = Callable[[NDArray[np.uint8]], NDArray[Any]]

RANGES: list[tuple[str, str, Change, Change]] = [
    ("floats 0 to 1 beside 0 to 255", "float64 from 0 to 1", lambda x: x / 255, lambda x: x.astype(float)),
    ("floats 0 to 1 beside -1 to 1", "float64 from 0 to 1", lambda x: x / 255, lambda x: x / 127.5 - 1),
    ("0 and 1", "uint8 from 0 to 1", lambda x: (x > 99).astype(np.uint8), lambda x: x),
    ("booleans", "bool from 0 to 1", lambda x: x > 99, lambda x: x),
    ("8 bits beside 16", "uint8 from 0 to 255", lambda x: x, lambda x: x.astype(np.uint16) * 257),
]


@pytest.mark.parametrize("part", ["x_test", "x_train", "x_val"])
@pytest.mark.parametrize(
    ("words", "change", "others"), [each[1:] for each in RANGES], ids=[each[0] for each in RANGES]
)
def test_a_part_of_a_split_in_another_range_is_refused(
    words: str, change: Change, others: Change, part: str
) -> None:
    arrays: dict[str, NDArray[Any]] = {f"y_{one}": LABELS for one in ("train", "val", "test")}
    arrays |= {f"x_{one}": others(IMAGES) for one in ("train", "val", "test")}
    with pytest.raises(InvalidUpload) as refused:
        read(npz(**arrays | {part: change(IMAGES)}))
    assert refused.value.code == "wrong_range"
    assert f"different ranges: '{part}' has {words}" in str(refused.value)
    assert "bring all to the same range" in str(refused.value)


def test_black_test_images_are_of_any_range() -> None:
    arrays = {"x_train": IMAGES.astype(float), "y_train": LABELS, "x_test": IMAGES * 0.0, "y_test": LABELS}
    upload = read(npz(**arrays))
    assert (upload.images["0"][:6].max(), upload.images["0"][6:].max()) == (255, 0)
    assert "blank_images" in {note.code for note in upload.warnings}


def test_a_label_without_test_images_is_named_and_every_fifth_of_its_images_held_out() -> None:
    upload = read(npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:3] // 2, y_test=LABELS[:3]))
    assert upload.held_out == {"0": 3}
    assert [note.labels for note in upload.warnings if note.code == "no_test_images"] == [("1",)]


REFUSED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("objects", "wrong_type", "labels.astype(str)", {"images": IMAGES, "labels": LABELS.astype(object)}),
    ("0 and 1", "wrong_range", "multiply by 255",
     {"images": (IMAGES > 99).astype(np.uint8), "labels": LABELS}),
    ("0 and 1, int64", "wrong_range", "multiply by 255",
     {"images": (IMAGES > 99).astype(int), "labels": LABELS}),
    ("black", "nothing_to_learn", "nothing to learn", {"images": IMAGES * 0, "labels": LABELS}),
    ("negative", "wrong_range", "scale them to 0 to 255",
     {"images": IMAGES.astype(int) - 9, "labels": LABELS}),
    ("12 bits", "wrong_range", "scale them", {"images": IMAGES.astype(np.uint16) * 16, "labels": LABELS}),
    ("centred floats", "wrong_range", "undo", {"images": IMAGES / 255 - 0.5, "labels": LABELS}),
    ("standard scores", "wrong_range", "undo", {"images": IMAGES / 100 - 1.3, "labels": LABELS}),
    ("divided by the deviation", "wrong_range", "undo", {"images": IMAGES / 255 / 0.31, "labels": LABELS}),
    ("a little beyond 1", "wrong_range", "0 to 1.08; undo",
     {"images": IMAGES / 255 * 1.08, "labels": LABELS}),
    ("infinity", "non_finite_values", "replace them",
     {"images": np.where(IMAGES, IMAGES, np.inf), "labels": LABELS}),
    ("text", "wrong_type", "must be uint8", {"images": IMAGES.astype(str), "labels": LABELS}),
    ("32x32", "invalid_array", "?fit=28",
     {"images": np.pad(IMAGES, ((0, 0), (2, 2), (2, 2))), "labels": LABELS}),
    ("too large to fit", "invalid_array", "make it 28x28",
     {"images": np.zeros((1, 2, 2000), np.uint8), "labels": ["a"]}),
    ("as many labels as columns", "length_mismatch", "must have the shape [12]",
     {"images": IMAGES, "labels": ["a"] * 28}),
    ("test images only", "invalid_array", "never learned", {"x_test": IMAGES, "y_test": LABELS}),
    ("a folder of test images only", "invalid_array", "in 'all/test', which is read as images to test with",
     {"all/test/images": IMAGES, "all/test/labels": LABELS}),
    ("an array of parts", "invalid_array", "'split' seems to say which images are to test with",
     {"images": IMAGES, "labels": LABELS, "split": ["train"] * 9 + ["test"] * 3}),
    ("numbers of parts", "invalid_array", "'subset' seems",
     {"images": IMAGES, "labels": LABELS, "subset": np.arange(12) % 3}),
    ("a mask", "invalid_array", "'is_test' seems",
     {"x": IMAGES, "y": LABELS, "is_test": IMAGES[:, 0, 0] > 9}),
    ("the places of test images", "invalid_array", "'testIdx' seems",
     {"images": IMAGES, "labels": LABELS, "trainIdx": [0, 1, 2], "testIdx": [3, 4]}),
    ("another test part", "invalid_array", "'x_test_1', 'y_test_1' seems",
     {"x": IMAGES, "y": LABELS, "x_test_1": IMAGES, "y_test_1": LABELS}),
    ("no labels to test with", "invalid_array", "'x_test'",
     {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}),
    ("test images beside labels of no name", "invalid_array", "it contains: 'gt', 'x_test'",
     {"x_test": IMAGES, "gt": LABELS}),
    ("images to test with and labels to learn from", "invalid_array", "it contains: 'x_test', 'y_train'",
     {"x_test": IMAGES, "y_train": LABELS}),
    ("the same in folders", "invalid_array", "it contains: 'test/images', 'train/labels'",
     {"test/images": IMAGES, "train/labels": LABELS}),
    ("the same in folders of folders", "invalid_array", "it contains: 'v1/test/images', 'v2/train/labels'",
     {"v1/test/images": IMAGES, "v2/train/labels": LABELS}),
    ("the same beside folders", "invalid_array", "it contains: 'images/x_test', 'labels/y_train'",
     {"images/x_test": IMAGES, "labels/y_train": LABELS}),
    ("the same in folders of any name", "invalid_array", "it contains: 'v1/test_x', 'v2/train_y'",
     {"v1/test_x": IMAGES, "v2/train_y": LABELS}),
    ("the same in longer names", "invalid_array", "it contains: 'my_test_images', 'my_train_labels'",
     {"my_test_images": IMAGES, "my_train_labels": LABELS}),
    ("a name that says only that it is to test with", "invalid_array", "it contains: 'gt', 'test'",
     {"test": IMAGES, "gt": LABELS}),
    ("an array for each label", "length_mismatch", "must have one label for each image, [n], or one-hot rows",
     {"cat": IMAGES.reshape(-1, 784), "dog": IMAGES.reshape(-1, 784)}),
    ("two of images", "invalid_array", "it contains", {"x": IMAGES, "data": IMAGES, "y": LABELS}),
    ("two parts to learn from", "invalid_array", "it contains",
     {"images": IMAGES, "labels": LABELS, "x_train": IMAGES, "y_train": LABELS}),
    ("one of four unnamed", "invalid_array", "'arr_3'", {f"arr_{i}": IMAGES for i in range(4)}),
    ("a test label that is not learned", "too_few_images", "to learn from",
     {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:6], "y_test": ["9"] * 6}),
    ("labels of two types", "wrong_type", "save all as text",
     {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS.astype(int)}),
    ("two alphabets", "invalid_name", "look the same",
     {"images": IMAGES, "labels": np.where(LABELS == "0", "A", "\u0410")}),
    ("invisible character", "invalid_name", "ZERO WIDTH SPACE",
     {"images": IMAGES, "labels": np.where(LABELS == "0", "1\u200b", LABELS)}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "words", "arrays"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED]
)
def test_what_is_not_clear_is_refused_with_what_to_do(code: str, words: str, arrays: dict[str, Any]) -> None:
    with pytest.raises(InvalidUpload) as refused:
        read(npz(**arrays))
    assert (refused.value.code, words in str(refused.value)) == (code, True), refused.value


@pytest.mark.parametrize(
    "images",
    [
        np.kron(IMAGES, np.ones((1, 2, 2), np.uint8)),
        np.kron(IMAGES, np.ones((1, 2, 2), np.uint8)).reshape(-1, 56 * 56),
        np.kron(IMAGES, np.ones((1, 2, 2), np.uint8)) / 255,
    ],
    ids=["square", "flat", "floats"],
)
def test_other_sizes_are_scaled_where_that_is_requested(images: NDArray[Any]) -> None:
    upload = read(npz(images=images, labels=LABELS), fitting=True)
    assert {label: len(found) for label, found in upload.images.items()} == {"0": 6, "1": 6}
    assert np.abs(upload.images["0"].astype(int) - PLAIN.images["0"]).mean() < 12
    assert "fitted" in codes(upload)


def test_images_that_may_be_in_either_axis_are_read_in_the_first_and_the_upload_says_so() -> None:
    images, labels = as_arrays(drawings(each=14))
    upload = read(npz(images=images, labels=labels))
    assert upload.images["0"].tolist() == images[:14].reshape(14, 784).tolist()
    assert codes(upload) == {"axes_assumed"}
    flat = np.tile(images.reshape(28, 784), (28, 1))
    assert codes(read(npz(images=flat, labels=np.tile(labels, 28)))) == {"axes_assumed"}


def canvas(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Black ink on a transparent ground, as a canvas of a browser gives it."""
    out = np.zeros((*x.shape, 4), np.uint8)
    out[..., 3] = x
    return out


def reddish(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours and an alpha channel that hides nothing."""
    return np.stack([x, x // 2, x // 3, np.full_like(x, 255)], axis=-1)


@pytest.mark.parametrize("fitting", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("make", [canvas, reddish, lambda x: coloured(x, 4)], ids=["canvas", "red", "grey"])
def test_flat_rows_of_four_channels_are_not_read_as_larger_grey_images(
    make: Callable[[NDArray[np.uint8]], NDArray[np.uint8]], dtype: str, fitting: bool
) -> None:
    with pytest.raises(InvalidUpload, match=r"reshape it to \[n, 28, 28, 4\]"):
        read(npz(images=make(IMAGES).reshape(12, -1).astype(dtype), labels=LABELS), fitting=fitting)


def test_labels_as_many_as_columns_are_not_those_of_images_in_the_last_axis() -> None:
    with pytest.raises(InvalidUpload, match=r"must have the shape \[12\]"):
        read(npz(images=IMAGES, labels=["a"] * 28), fitting=True)


ENLARGED = np.kron(IMAGES, np.ones((1, 2, 2), np.uint8))
LAST = [
    np.moveaxis(ENLARGED, 0, -1),
    np.moveaxis(coloured(ENLARGED, 3), 0, -1),
    np.moveaxis(coloured(ENLARGED, 3), (0, 3), (-1, 0)),
    ENLARGED.reshape(len(ENLARGED), -1).T,
    np.moveaxis(ENLARGED, 0, -1)[None],
]
LAST_NAMES = ["[56, 56, n]", "[56, 56, 3, n]", "[3, 56, 56, n]", "[3136, n]", "[1, 56, 56, n]"]


@pytest.mark.parametrize("images", LAST, ids=LAST_NAMES)
def test_images_of_another_size_may_stand_in_the_last_axis(images: NDArray[Any]) -> None:
    upload = read(npz(images=images, labels=LABELS), fitting=True)
    expected = read(npz(images=ENLARGED, labels=LABELS), fitting=True)
    assert (upload.counts, upload.sha256) == (expected.counts, expected.sha256)
    assert codes(upload) >= {"axes_moved", "fitted"}


@pytest.mark.parametrize("images", LAST, ids=LAST_NAMES)
def test_the_refusal_of_another_size_names_the_size_of_the_images(images: NDArray[Any]) -> None:
    with pytest.raises(InvalidUpload, match=r"is 56x56; make it 28x28, or have it scaled with \?fit=28"):
        read(npz(images=images, labels=LABELS))


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("table", ["labels.csv", "labels.txt", "ids.csv"])
def test_a_table_beside_an_array_is_not_read_and_the_refusal_says_so(table: str) -> None:
    with pytest.raises(InvalidUpload, match=f"it contains: 'images'; '{table}' is not read$") as refused:
        read(zipped({"images.npy": npy(IMAGES), table: b"x", "README.md": b"x"}))
    assert refused.value.code == "invalid_array"


def test_a_folder_of_array_files_is_an_npz() -> None:
    junk = {"__MACOSX/data/._images.npy": b"x", ".DS_Store": b"x", "data/README.md": b"x"}
    upload = read(zipped({"data/images.npy": npy(IMAGES), "data/labels.npy": npy(LABELS), **junk}))
    assert (upload.counts, upload.sha256) == (PLAIN.counts, PLAIN.sha256)
    assert codes(upload) == {"hidden_files_ignored", "documents_ignored"}
