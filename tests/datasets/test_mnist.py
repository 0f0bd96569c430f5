"""MNIST is read from its folder, or downloaded into it; if neither is possible, an error says what to do."""

import gzip
import socket
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import MNIST

from tests.datasets.real_mnist import real_mnist
from worker.learning.datasets import DatasetUnavailable, load
from worker.learning.datasets import torchvision_files as subject

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
    return header + bytes(count * 784 if "images" in name else count)


def test_the_real_mnist_is_read_completely() -> None:
    mnist = real_mnist()
    assert sum(len(images) for images in mnist.train.values()) == 60_000
    assert sum(len(images) for images in mnist.test.values()) == 10_000
    assert len(mnist.train["0"]) == 5_923  # as published
    assert mnist.train["0"].shape[1] == 784


def test_what_is_missing_is_downloaded_once(mirror: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert len(load("mnist", tmp_path / "data").train["0"]) == 60_000
    mirror.shutdown()
    assert len(load("mnist", tmp_path / "data").test["0"]) == 10_000


def test_packed_files_on_disk_need_no_network(
    mirror: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.parent.mkdir(parents=True)
    (tmp_path / "mirror").rename(raw)
    assert len(load("mnist", tmp_path / "data").test["0"]) == 10_000


def test_without_files_or_network_the_error_says_where_it_looked_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    with pytest.raises(DatasetUnavailable) as refused:
        load("mnist", tmp_path)
    for hint in (str(tmp_path / "MNIST" / "raw"), "PALIMPSEST_DATA", "t10k-labels-idx1-ubyte", "'digits'"):
        assert hint in str(refused.value)
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


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08\x03", b"not an idx file at all", idx_file("t10k-images")])
def test_damaged_files_are_refused_with_their_folder_and_a_remedy(damage: bytes, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in MNIST.resources:
        (raw / name.removesuffix(".gz")).write_bytes(damage)
    with pytest.raises(DatasetUnavailable, match="Delete that folder") as refused:
        load("mnist", tmp_path)
    assert str(raw) in str(refused.value)
