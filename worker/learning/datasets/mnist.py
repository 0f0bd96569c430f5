"""MNIST through torchvision: from the data folder, else by torchvision's own download."""

import errno
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.learning.datasets.dataset import DatasetUnavailable, Split, by_label, dataset

DIGITS = tuple("0123456789")
REACH_SECONDS = 5.0  # how long a mirror may take to answer at all
STALL_SECONDS = 15.0  # how long a download that has begun may stand still


@dataset(
    "mnist",
    title="MNIST: 70,000 handwritten digits",
    labels=DIGITS,
    image_shape=(28, 28),
    bundled=False,
)
def mnist(folder: Path) -> tuple[Split, Split]:
    """60,000 train and 10,000 test images, from `folder`/MNIST/raw; what is missing is downloaded there.

    Raises DatasetUnavailable within seconds when the files are neither there nor to be had, or are damaged.
    """
    if not _is_on_disk(folder):
        _download(folder)
    return _read(folder, train=True), _read(folder, train=False)


def _is_on_disk(folder: Path) -> bool:
    return all((_raw(folder) / name.removesuffix(".gz")).is_file() for name, _ in _files())


def _read(folder: Path, *, train: bool) -> Split:
    from torchvision.datasets import MNIST  # a second to import: only a job that reads MNIST pays it

    try:
        images = MNIST(folder, train=train)
        expected = 60_000 if train else 10_000
        if images.data.shape != (expected, 28, 28) or images.targets.shape != (expected,):
            raise ValueError(f"expected {expected} images, found {tuple(images.data.shape)}")
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
        raise DatasetUnavailable(
            f"The MNIST files in {_raw(folder)} cannot be read ({error}). "
            f"Delete that folder so that they are fetched again, or copy the four files there anew."
        ) from error
    return by_label(images.data, images.targets, DIGITS)


def _download(folder: Path) -> None:
    from torchvision.datasets import MNIST

    packed = all((_raw(folder) / name).is_file() for name, _ in _files())
    if not packed and not any(_answers(mirror) for mirror in MNIST.mirrors):
        raise _unavailable(folder, "no download mirror could be reached")
    try:
        with _patience(STALL_SECONDS):
            MNIST(folder, download=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise  # a full disk is the storage's fault, not the dataset's
        raise _unavailable(folder, f"the download failed ({error})") from error
    except RuntimeError as error:
        raise _unavailable(folder, f"the download failed ({' '.join(str(error).split())})") from error


def _unavailable(folder: Path, reason: str) -> DatasetUnavailable:
    names = ", ".join(name.removesuffix(".gz") for name, _ in _files())
    return DatasetUnavailable(
        f"MNIST is not in {_raw(folder)}, and {reason}. Put {names} (or their .gz files) there, "
        f"set PALIMPSEST_DATA to a folder that holds MNIST/raw, allow the download, "
        f"or use the dataset 'digits', which needs neither."
    )


def _raw(folder: Path) -> Path:
    return folder / "MNIST" / "raw"


def _files() -> list[tuple[str, str]]:
    from torchvision.datasets import MNIST

    return list(MNIST.resources)


def _answers(url: str) -> bool:
    """Whether a server answers at all, with whatever status, within REACH_SECONDS.

    On a thread that is left behind when it is late: neither name resolution nor a host with many
    addresses honours a socket's timeout.
    """
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_SECONDS):
                answered.set()
        except urllib.error.HTTPError as refusal:
            refusal.close()
            answered.set()
        except (OSError, ValueError):
            return

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(REACH_SECONDS)
    return answered.is_set()


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """torchvision sets no timeout of its own, so a mirror that goes silent would be waited on for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
