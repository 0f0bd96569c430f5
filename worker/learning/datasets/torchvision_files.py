"""Read MNIST and datasets like it from the data folder; torchvision downloads missing files first.

Files that are there are read without torchvision, which imports a compiler: 1.4 s of CPU and 190 MB.
"""

import errno
import socket
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from worker.learning.datasets import idx_files
from worker.learning.datasets.dataset import DatasetUnavailable, Split, TrainFiles, WrongFiles, by_label

REACH_SECONDS = 5.0  # how long a mirror may take to answer a first request
PACKED_COLLECTIONS = ("MNIST", "FashionMNIST", "KMNIST")
"""Classes of torchvision whose files are packed each for itself, under the same names."""
STALL_SECONDS = 15.0  # how long a download may receive no data


@dataclass(frozen=True)
class Collection:
    """A dataset of 28x28 images, in two files of images and two of targets (IDX)."""

    name: str  # torchvision's class, and the folder that it writes
    labels: tuple[str, ...]
    train: int  # number of train images
    test: int  # number of test images
    split: str | None = None  # EMNIST only: which of its six splits
    first_target: int = 0  # the target of labels[0] in the files
    transposed: bool = False  # rows and columns are stored swapped

    def train_files(self) -> TrainFiles:
        """Return where the train images lie."""
        before = f"{self.name}/raw/{f'emnist-{self.split}-' if self.split else ''}train"
        names = f"{before}-images-idx3-ubyte", f"{before}-labels-idx1-ubyte"
        return TrainFiles(*names, self.first_target, self.transposed)


def read(collection: Collection, folder: Path) -> tuple[Split, Split]:
    """Read the train and test images from `folder`/NAME/raw; missing files are downloaded there first.

    Raises WrongFiles if files are damaged, those of another collection or not readable for this process, and
    DatasetUnavailable if they are missing and no mirror answers; the latter takes seconds.
    """
    try:
        return _read_files(collection, folder)
    except PermissionError as error:
        raise WrongFiles(
            f"The {collection.name} files in {_raw(collection, folder)} cannot be read ({error}). "
            f"Let the user that runs the worker read them."
        ) from error


def describe_unpublished(collection: Collection, folder: Path) -> str | None:
    """Say that the files in `folder`/NAME/raw are not those of the collection, nor of another known one.

    They share its names, shapes and counts, so they are read all the same. collection: one whose files are
    known by their hash. None if the files are those that were published.
    """
    path = _raw(collection, folder) / file_names(collection)[0]  # for all four: mixed ones are refused
    sha256 = idx_files.hash_file(path)
    if _recognise(collection, path, sha256) is not None:
        return None
    return (
        f"these files are not {collection.name} as published, nor another known collection: {path.name} has "
        f"the sha256 {sha256}; they are learned as a dataset of their own"
    )


def _read_files(collection: Collection, folder: Path) -> tuple[Split, Split]:
    if not all((_raw(collection, folder) / name).is_file() for name in file_names(collection)):
        try:
            _download(collection, folder)
        except DatasetUnavailable:  # some of the files may be there
            _refuse_another_collection(collection, folder, _hash_files(collection, folder))
            raise
    hashes = _hash_files(collection, folder)
    _refuse_another_collection(collection, folder, hashes)
    splits = _read(collection, folder, train=True), _read(collection, folder, train=False)
    _refuse_mixed_files(collection, folder, hashes)  # last, as the other errors say more
    return splits


def _read(collection: Collection, folder: Path, *, train: bool) -> Split:
    raw, expected = _raw(collection, folder), collection.train if train else collection.test
    images_name, targets_name = file_names(collection)[:2] if train else file_names(collection)[2:]
    try:
        images = idx_files.read_bytes(raw / images_name, shape=(expected, 28, 28))
        targets = idx_files.read_bytes(raw / targets_name, shape=(expected,))
        _refuse_other_labels(collection, targets_name, targets)
    except (RuntimeError, ValueError) as error:
        raise WrongFiles(
            f"The {collection.name} files in {raw} cannot be read ({error}). "
            f"Delete that folder so that they are downloaded again, or copy the four files there again."
        ) from error
    upright = images.mT if collection.transposed else images
    return by_label(upright, targets.long() - collection.first_target, collection.labels)


def _hash_files(collection: Collection, folder: Path) -> dict[str, str]:
    """Return {name: sha256} of those of the files that are there."""
    paths = [_raw(collection, folder) / name for name in file_names(collection)]
    return {path.name: idx_files.hash_file(path) for path in paths if path.is_file()}


def _refuse_another_collection(collection: Collection, folder: Path, hashes: Mapping[str, str]) -> None:
    """Raise WrongFiles if a file is that of another known collection, or another one of this."""
    for name, sha256 in hashes.items():
        found = _recognise(collection, _raw(collection, folder) / name, sha256)
        if found is not None and found != idx_files.KnownFile(collection.name, name):
            raise WrongFiles(
                f"The file {name} in {_raw(collection, folder)} is {found.name} of {found.collection} ("
                f"sha256 {sha256}), and {name} of {collection.name} is wanted. Put the file of "
                f"{collection.name} there; the one that is there belongs in "
                f"{folder / found.collection / 'raw' / found.name}."
            )


def _refuse_mixed_files(collection: Collection, folder: Path, hashes: Mapping[str, str]) -> None:
    """Raise WrongFiles if some files are those of the collection and others are not.

    Four files that nobody knows may be a dataset of their own. One beside the collection's is damaged, or
    has the labels of other images.
    """
    known = [name for name, sha256 in hashes.items() if sha256 in idx_files.KNOWN_FILES]
    unknown = [name for name in hashes if name not in known]
    if known and unknown:
        raise WrongFiles(
            f"The file {unknown[0]} in {_raw(collection, folder)} is not that of {collection.name}, although "
            f"{known[0]} is: it has the sha256 {hashes[unknown[0]]}. It is damaged, or belongs to other "
            f"files. Put the four files of {collection.name} there."
        )


def _refuse_other_labels(collection: Collection, name: str, targets: Tensor) -> None:
    """Raise ValueError if a target of the file stands for no label, or no target for one of the labels."""
    low, high = int(targets.min()), int(targets.max())
    first = collection.first_target
    last = first + len(collection.labels) - 1
    advice = f"; they seem to be counted from {low}: subtract 1" if low == first + 1 else ""
    if low < first or high > last:
        raise ValueError(
            f"the labels in {name} go from {low} to {high}, and {first} to {last} are wanted{advice}"
        )
    counts = torch.bincount(targets - first, minlength=len(collection.labels)).tolist()
    if missing := [label for label, count in zip(collection.labels, counts, strict=True) if not count]:
        raise ValueError(f"{name} has no images of {', '.join(map(repr, missing))}{advice}")


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, name)


def _download(collection: Collection, folder: Path) -> None:
    packed = all((_raw(collection, folder) / name).is_file() for name in _packed(collection))
    changed = _describe_changed(collection, folder)
    if (changed or not packed) and not any(_answers(mirror) for mirror in _mirrors(collection)):
        raise _unavailable(collection, folder, changed, "no download mirror could be reached")
    try:
        with _socket_timeout(STALL_SECONDS):
            split = {"split": collection.split} if collection.split else {}
            _torchvision_class(collection.name)(folder, download=True, **split)
    except (OSError, HTTPException, RuntimeError, ValueError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise  # a full disk has an error code of its own
        reason = f"the download failed ({' '.join(str(error).split())})"
        raise _unavailable(collection, folder, changed, reason) from error


def _describe_changed(collection: Collection, folder: Path) -> str | None:
    """Return what is wrong with a packed file that is not as it is distributed; None if there is none."""
    for name, md5 in _resources(collection):
        path = _raw(collection, folder) / name
        if path.is_file() and (found := idx_files.hash_file(path, "md5")) != md5:
            known = _recognise_packed(path, found)
            if known is None or known == idx_files.KnownFile(collection.name, name.removesuffix(".gz")):
                what = (
                    "was packed again or is another file, and no mirror gave the right one. Unpack it there"
                )
                what += " if it is right"
            else:
                what = f"is {known.name} of {known.collection}, and no mirror gave the right one"
            hashes = f"has the md5 {found}, and the distributed file has {md5}"
            return f"{name}, which lies there, {hashes}: it {what}"
    return None


def _recognise(collection: Collection, path: Path, sha256: str) -> idx_files.KnownFile | None:
    """Return which file of a known collection lies there; None if nobody knows it.

    Of some collections the packed files alone are known; a download leaves them beside the unpacked ones.
    """
    known, packed = idx_files.KNOWN_FILES.get(sha256), path.with_name(f"{path.name}.gz")
    if known is not None or collection.name not in idx_files.KNOWN_COLLECTIONS or not packed.is_file():
        return known
    if idx_files.hash_packed(packed) != sha256:
        return None
    return _recognise_packed(packed, idx_files.hash_file(packed, "md5"))


def _recognise_packed(path: Path, md5: str) -> idx_files.KnownFile | None:
    """Return which file of a known collection is packed there, by its hash or its content's; or None."""
    for collection in PACKED_COLLECTIONS:
        for name, its_md5 in _torchvision_class(collection).resources:
            if its_md5 == md5:
                return idx_files.KnownFile(collection, name.removesuffix(".gz"))
    return idx_files.KNOWN_FILES.get(idx_files.hash_packed(path) or "")


def _unavailable(
    collection: Collection, folder: Path, changed: str | None, reason: str
) -> DatasetUnavailable:
    """Return the error. changed: what is wrong with a file that is there; it counts more than `reason`."""
    kind = WrongFiles if changed else DatasetUnavailable
    files, packed = ", ".join(file_names(collection)), ", ".join(_packed(collection))
    missing = [name for name in file_names(collection) if not (_raw(collection, folder) / name).is_file()]
    is_part = 0 < len(missing) < len(file_names(collection))  # none: another process may have added them
    what = ", ".join(missing) if is_part else collection.name
    elsewhere = ", ".join(map(str, _find_elsewhere(collection, folder, missing)))
    not_read = f"Not read, because of another name or folder: {elsewhere}. " if elsewhere else ""
    return kind(
        f"{what} is not in {_raw(collection, folder)}, and {changed or reason}. {not_read}"
        f"Put {files} (or, as they are distributed, {packed}) there, "
        f"set PALIMPSEST_DATA to a folder that holds {collection.name}/raw, allow the download, "
        f"or use the dataset 'digits', which needs no download."
    )


def _find_elsewhere(collection: Collection, folder: Path, missing: Sequence[str]) -> list[Path]:
    """Return files that may be the missing ones under another name, such as `train-images.idx3-ubyte`.

    They are looked for in the folder where they belong, and in those around it.
    """
    wanted = {_letters(name) for name in missing}
    raw, found = _raw(collection, folder), []
    for place in (raw, raw.parent, folder):
        with suppress(OSError):
            found += [
                path
                for path in sorted(place.iterdir())
                if _letters(path.name.removesuffix(".gz")) in wanted
                and not (place == raw and path.name in (*missing, *_packed(collection)))
            ]
    return found


def _letters(name: str) -> str:
    return "".join(one for one in name.lower() if one.isalnum())


def _raw(collection: Collection, folder: Path) -> Path:
    return folder / collection.name / "raw"


def file_names(collection: Collection) -> list[str]:
    """List the names of the four files as torchvision unpacks them: of train, then of test images."""
    before, parts = ("", ("train", "t10k"))
    if collection.split is not None:
        before, parts = f"emnist-{collection.split}-", ("train", "test")
    return [f"{before}{part}-{kind}-ubyte" for part in parts for kind in ("images-idx3", "labels-idx1")]


def _packed(collection: Collection) -> list[str]:
    """List the names of what is downloaded: four packed files, or one archive of all splits."""
    return [name for name, _ in _resources(collection)]


def _resources(collection: Collection) -> list[tuple[str, str]]:
    """List (name, md5) of what is downloaded."""
    kind = _torchvision_class(collection.name)
    if collection.split is None:
        return list(kind.resources)
    return [(kind.url.rpartition("/")[2], kind.md5)]


def _mirrors(collection: Collection) -> list[str]:
    kind = _torchvision_class(collection.name)
    return [kind.url] if collection.split else list(kind.mirrors)


def _answers(url: str) -> bool:
    """Return whether a server answers within REACH_SECONDS, with any status.

    The request runs in a thread that is abandoned after that time, because name resolution, and a host with
    many addresses, can take longer than a socket's timeout.
    """
    answered = threading.Event()

    def request() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_SECONDS):
                answered.set()
        except urllib.error.HTTPError as refusal:
            refusal.close()
            answered.set()
        except (OSError, HTTPException, ValueError):
            return

    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return answered.is_set()


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set a timeout for all new sockets, because torchvision sets none and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
