"""MNIST (LeCun et al. 1998): handwritten digits."""

from pathlib import Path

from worker.learning.datasets.dataset import Split, dataset
from worker.learning.datasets.torchvision_files import Collection, describe_unpublished, read

MNIST = Collection("MNIST", tuple("0123456789"), train=60_000, test=10_000)


@dataset(
    "mnist",
    title="MNIST: 70,000 handwritten digits",
    labels=MNIST.labels,
    image_shape=(28, 28),
    bundled=False,
    files=MNIST.train_files(),
    remark=lambda folder: describe_unpublished(MNIST, folder),
)
def mnist(folder: Path) -> tuple[Split, Split]:
    """Read 60,000 train and 10,000 test images from `folder`/MNIST/raw."""
    return read(MNIST, folder)
