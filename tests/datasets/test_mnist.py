"""MNIST is read from its folder, or downloaded into it; if neither is possible, an error says what to do."""

import gzip
import os
import socket
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import md5, sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.datasets import KMNIST, MNIST, FashionMNIST

from tests.datasets.idx_files import idx, small, write
from tests.datasets.real_mnist import real_mnist
from worker.learning.datasets import Dataset, DatasetUnavailable, WrongFiles, idx_files, load
from worker.learning.datasets import torchvision_files as subject
from worker.learning.datasets.mnist import MNIST as MNIST_FILES

NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A web server in place of MNIST's: four well-formed files of blank images."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name, _ in MNIST.resources:
        packed = gzip.compress(idx_file(name), compresslevel=1)
        (folder / name).write_bytes(packed)
        resources.append((name, md5(packed).hexdigest()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(MNIST, "resources", resources)
    yield server
    server.shutdown()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


def idx_file(name: str) -> bytes:
    count = 60_000 if name.startswith("train") else 10_000
    shape = (count, 28, 28) if "images" in name else (count,)
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    return header + (bytes(count * 784) if "images" in name else bytes(range(10)) * (count // 10))


def test_the_real_mnist_is_read_completely() -> None:
    mnist = real_mnist()
    assert sum(len(images) for images in mnist.train.values()) == 60_000
    assert sum(len(images) for images in mnist.test.values()) == 10_000
    assert len(mnist.train["0"]) == 5_923  # as published
    assert mnist.train["0"].shape[1] == 784
    assert mnist.remark is None, "the files are as published"


def test_what_is_missing_is_downloaded_once(mirror: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert len(load("mnist", tmp_path / "data").train["0"]) == 6_000
    mirror.shutdown()
    assert len(load("mnist", tmp_path / "data").test["0"]) == 1_000


@pytest.mark.usefixtures("mirror")
def test_a_failed_download_names_the_collection_if_another_process_added_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(_: MNIST) -> None:
        write(small(MNIST_FILES), tmp_path)
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(MNIST, "download", download)
    with pytest.raises(DatasetUnavailable, match=r"^MNIST is not in .*, and the download failed"):
        load("mnist", tmp_path)


def test_packed_files_on_disk_need_no_network(
    mirror: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.parent.mkdir(parents=True)
    (tmp_path / "mirror").rename(raw)
    assert len(load("mnist", tmp_path / "data").test["0"]) == 1_000


def test_without_files_or_network_the_error_says_where_it_looked_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    with pytest.raises(DatasetUnavailable) as refused:
        load("mnist", tmp_path)
    for hint in (str(tmp_path / "MNIST" / "raw"), "PALIMPSEST_DATA", "t10k-labels-idx1-ubyte", "'digits'"):
        assert hint in str(refused.value)
    assert not isinstance(refused.value, WrongFiles)
    assert not list(tmp_path.iterdir())  # nothing half-made is left behind


def test_a_mirror_that_never_answers_is_a_failed_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"] * 2)
        monkeypatch.setattr(subject, "REACH_SECONDS", 0.3)
        with pytest.raises(DatasetUnavailable):
            load("mnist", tmp_path)


def test_a_mirror_that_serves_other_bytes_is_a_failed_download(
    mirror: ThreadingHTTPServer, tmp_path: Path
) -> None:
    for file in (tmp_path / "mirror").iterdir():
        file.write_bytes(b"please log in to this network first")
    with pytest.raises(DatasetUnavailable, match="the download failed"):
        load("mnist", tmp_path / "data")


@pytest.mark.parametrize(
    "answer",
    [
        b"220 this is no web server\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n",
    ],
    ids=["another protocol", "cut off", "a wrong address"],
)
def test_a_mirror_that_speaks_no_http_is_a_failed_download(
    mirror: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    def reply(handler: SimpleHTTPRequestHandler) -> None:
        handler.wfile.write(answer)
        handler.close_connection = True

    monkeypatch.setattr(Quiet, "do_GET", reply)
    with pytest.raises(DatasetUnavailable, match="the download failed"):
        load("mnist", tmp_path / "data")


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08\x03", b"not an idx file at all", idx_file("t10k-images")])
def test_damaged_files_are_refused_with_their_folder_and_a_remedy(damage: bytes, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in MNIST.resources:
        (raw / name.removesuffix(".gz")).write_bytes(damage)
    with pytest.raises(WrongFiles, match="Delete that folder") as refused:
        load("mnist", tmp_path)
    assert str(raw) in str(refused.value)


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    """The folder of MNIST's four files, with two train images and one test image of each label."""
    write(small(MNIST_FILES), tmp_path)
    return tmp_path / "MNIST" / "raw"


def read_small(raw: Path) -> object:
    return subject.read(small(MNIST_FILES), raw.parent.parent)


def test_labels_that_are_counted_from_one_are_refused(small_mnist: Path) -> None:
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        data = (small_mnist / name).read_bytes()
        (small_mnist / name).write_bytes(data[:8] + bytes(target + 1 for target in data[8:]))
    with pytest.raises(WrongFiles, match=r"from 1 to 10, and 0 to 9 are wanted.*subtract 1"):
        read_small(small_mnist)


@pytest.mark.parametrize("file", ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (0, r"has no images of '0'; they seem to be counted from 1: subtract 1"),
        (4, r"has no images of '4'\)"),
        (9, r"has no images of '9'\)"),
    ],
)
def test_a_label_without_images_is_named(small_mnist: Path, file: str, missing: int, words: str) -> None:
    data = (small_mnist / file).read_bytes()
    targets = bytes(5 if target == missing else target for target in data[8:])
    (small_mnist / file).write_bytes(data[:8] + targets)
    with pytest.raises(WrongFiles, match=f"{file} {words}"):
        read_small(small_mnist)


def test_a_dataset_gives_no_empty_images_of_a_label() -> None:
    dataset = Dataset("bars", ("a",), (28, 28), {"a": torch.zeros(0, 784, dtype=torch.uint8)}, {})
    with pytest.raises(DatasetUnavailable, match="'bars' has no images of 'a'"):
        dataset.images("train", "a")


def test_images_and_labels_of_different_numbers_are_refused(small_mnist: Path) -> None:
    (small_mnist / "t10k-labels-idx1-ubyte").write_bytes(idx(torch.zeros(9, dtype=torch.uint8)))
    with pytest.raises(WrongFiles, match=r"expected 10 labels in t10k-labels-idx1-ubyte, found 9\)"):
        read_small(small_mnist)


def test_a_packed_file_under_the_name_of_an_unpacked_one_is_refused(small_mnist: Path) -> None:
    file = small_mnist / "train-images-idx3-ubyte"
    file.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(WrongFiles, match="train-images-idx3-ubyte is packed with gzip: unpack it"):
        read_small(small_mnist)


def test_a_file_that_is_cut_off_is_refused(small_mnist: Path) -> None:
    file = small_mnist / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WrongFiles, match="has 15,695 bytes, and 15,696 are wanted for 20 images"):
        read_small(small_mnist)


@pytest.fixture
def packed_offline(mirror: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of MNIST's packed files in `data`, where no mirror answers."""
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.parent.mkdir(parents=True)
    (tmp_path / "mirror").rename(raw)
    return raw


def test_files_that_were_packed_again_are_named_where_no_mirror_answers(
    packed_offline: Path, tmp_path: Path
) -> None:
    file = packed_offline / "t10k-labels-idx1-ubyte.gz"
    wanted = md5(file.read_bytes()).hexdigest()
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), compresslevel=9, mtime=1))
    with pytest.raises(WrongFiles, match=r"t10k-labels-idx1-ubyte\.gz.*packed again") as refused:
        load("mnist", tmp_path / "data")
    assert wanted in str(refused.value)
    assert md5(file.read_bytes()).hexdigest() in str(refused.value)


@pytest.mark.parametrize("level", [1, 9], ids=["as distributed", "packed again"])
def test_packed_files_of_another_collection_are_named_where_no_mirror_answers(
    packed_offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    file = packed_offline / "t10k-labels-idx1-ubyte.gz"
    labels = gzip.decompress(file.read_bytes())[:-1] + b"\7"
    packed = gzip.compress(labels, compresslevel=level, mtime=0)
    if level == 1:
        monkeypatch.setattr(FashionMNIST, "resources", [(file.name, md5(packed).hexdigest())])
    else:
        other = idx_files.KnownFile("FashionMNIST", "t10k-labels-idx1-ubyte")
        monkeypatch.setitem(idx_files.KNOWN_FILES, sha256(labels).hexdigest(), other)
    file.write_bytes(packed)
    with pytest.raises(
        WrongFiles, match=r"labels-idx1-ubyte\.gz.*it is t10k-labels-idx1-ubyte of FashionMNIST"
    ):
        load("mnist", tmp_path / "data")


def test_files_of_another_known_collection_are_recognised(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = small_mnist / "train-labels-idx1-ubyte"
    other = idx_files.KnownFile("FashionMNIST", labels.name)
    monkeypatch.setitem(idx_files.KNOWN_FILES, idx_files.hash_file(labels), other)
    with pytest.raises(WrongFiles, match="is train-labels-idx1-ubyte of FashionMNIST") as refused:
        read_small(small_mnist)
    assert "train-labels-idx1-ubyte of MNIST is wanted" in str(refused.value)


def test_files_of_another_known_collection_are_recognised_where_one_is_missing(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    labels = small_mnist / "train-labels-idx1-ubyte"
    other = idx_files.KnownFile("FashionMNIST", labels.name)
    monkeypatch.setitem(idx_files.KNOWN_FILES, idx_files.hash_file(labels), other)
    (small_mnist / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(WrongFiles, match="is train-labels-idx1-ubyte of FashionMNIST"):
        read_small(small_mnist)


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_a_changed_file_beside_files_of_the_collection_is_refused(
    small_mnist: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels of other images are of the right number and range."""
    for path in small_mnist.iterdir():
        known = idx_files.KnownFile("MNIST", path.name)
        monkeypatch.setitem(idx_files.KNOWN_FILES, idx_files.hash_file(path), known)
    read_small(small_mnist)
    data = (small_mnist / name).read_bytes()
    (small_mnist / name).write_bytes(data[:-2] + data[:-3:-1])
    with pytest.raises(WrongFiles, match=f"The file {name} .* is not that of MNIST, although") as refused:
        read_small(small_mnist)
    assert idx_files.hash_file(small_mnist / name) in str(refused.value)


def test_four_files_that_nobody_knows_are_read_with_a_remark(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of Kuzushiji-MNIST and of a part of EMNIST have the same names, shapes and counts."""
    read_small(small_mnist)
    remark = subject.describe_unpublished(small(MNIST_FILES), small_mnist.parent.parent)
    images = small_mnist / "train-images-idx3-ubyte"
    found = f"{images.name} has the sha256 {idx_files.hash_file(images)}"
    assert remark is not None
    assert remark.startswith(f"these files are not MNIST as published, nor another known collection: {found}")
    monkeypatch.setitem(
        idx_files.KNOWN_FILES, idx_files.hash_file(images), idx_files.KnownFile("MNIST", images.name)
    )
    assert subject.describe_unpublished(small(MNIST_FILES), small_mnist.parent.parent) is None


@pytest.mark.parametrize("collection", [KMNIST, MNIST])
def test_unpacked_files_are_recognised_by_the_packed_ones_beside_them(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch, collection: type[MNIST]
) -> None:
    images = small_mnist / "train-images-idx3-ubyte"
    packed = gzip.compress(images.read_bytes())
    (small_mnist / f"{images.name}.gz").write_bytes(packed)
    monkeypatch.setattr(collection, "resources", [(f"{images.name}.gz", md5(packed).hexdigest())])
    if collection is KMNIST:
        with pytest.raises(WrongFiles, match=f"{images.name} .* is {images.name} of KMNIST"):
            read_small(small_mnist)
    else:
        read_small(small_mnist)
        assert subject.describe_unpublished(small(MNIST_FILES), small_mnist.parent.parent) is None


def test_labels_out_of_range_are_refused_with_their_file(small_mnist: Path) -> None:
    file = small_mnist / "t10k-labels-idx1-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + bytes([10]))
    with pytest.raises(WrongFiles, match="labels in t10k-labels-idx1-ubyte go from 0 to 10, and 0 to 9 are"):
        read_small(small_mnist)


def test_only_missing_files_are_named_as_missing(small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    (small_mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetUnavailable, match=r"^t10k-labels-idx1-ubyte is not in"):
        read_small(small_mnist)


@pytest.mark.parametrize(
    "place", ["raw/train-images.idx3-ubyte", "raw/Train-Images-IDX3-ubyte.gz", "train-images-idx3-ubyte"]
)
def test_missing_files_are_found_under_other_names_and_in_the_folders_around(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    found = (small_mnist / "train-images-idx3-ubyte").rename(small_mnist.parent / place)
    with pytest.raises(DatasetUnavailable) as refused:
        read_small(small_mnist)
    assert f"Not read, because of another name or folder: {found}. Put train-images" in str(refused.value)


def test_files_that_the_worker_may_not_read_are_no_failure_of_the_artifact_store(
    small_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the error is made."""

    def refuse(path: Path, algorithm: str = "sha256") -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(idx_files, "hash_file", refuse)
    with pytest.raises(
        WrongFiles, match=r"Permission denied: .* Let the user that runs the worker read them"
    ):
        read_small(small_mnist)


@pytest.mark.parametrize("collection", ["MNIST", "FashionMNIST"])
def test_the_known_hashes_are_those_of_the_collections_files(collection: str) -> None:
    real_mnist()
    raw = Path(os.environ["PALIMPSEST_DATA"]) / collection / "raw"
    if not raw.is_dir():
        pytest.skip(f"NOT MEASURED, {collection} is missing")
    for name, _ in MNIST.resources:
        path = raw / name.removesuffix(".gz")
        found = idx_files.KNOWN_FILES[idx_files.hash_file(path)]
        assert found == idx_files.KnownFile(collection, path.name)
