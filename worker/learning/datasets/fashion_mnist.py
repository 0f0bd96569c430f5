"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): pictures of clothes from a shop's catalogue."""

from pathlib import Path

from worker.learning.datasets.dataset import Split, dataset
from worker.learning.datasets.torchvision_files import Collection, describe_unpublished, read

CLOTHES = (
    "t-shirt",  # torchvision says "T-shirt/top", and a label's name may not contain a slash
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
FASHION_MNIST = Collection("FashionMNIST", CLOTHES, train=60_000, test=10_000)


@dataset(
    "fashion_mnist",
    title="Fashion-MNIST: 70,000 pictures of clothes",
    labels=FASHION_MNIST.labels,
    image_shape=(28, 28),
    bundled=False,
    files=FASHION_MNIST.train_files(),
    remark=lambda folder: describe_unpublished(FASHION_MNIST, folder),
)
def fashion_mnist(folder: Path) -> tuple[Split, Split]:
    """Read 60,000 train and 10,000 test images from `folder`/FashionMNIST/raw."""
    return read(FASHION_MNIST, folder)
